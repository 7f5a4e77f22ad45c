//! `Q4_K`: 256 elements, 4-bit levels, 8 sub-blocks with 6-bit scales and minima:
//! `x = d * scale * level - dmin * min`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::fit::{AffineSearch, affine_super_block, to_lanes};
use super::k_scales::{K_SCALE_SIZE, pack_scales_mins, unpack_scale_min};
use super::{Block, QK_K, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 144 bytes for 256 elements (4.5 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ4K {
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
    /// Scales and minima of the sub-blocks of 32 elements; see [`unpack_scale_min`].
    pub scales: [u8; K_SCALE_SIZE],
    /// Levels 0 to 15. Each quarter of the block (64 elements) has 32 bytes: element `i` of the
    /// quarter is in the low nibble of byte `i`, element `i + 32` in its high nibble.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ4K>() == 144);

/// The search of ggml's reference quantiser.
const SEARCH: AffineSearch =
    AffineSearch { max_level: 15.0, start: -1.0, steps: 20, absolute: false };

impl Block for BlockQ4K {
    const DTYPE: DType = DType::Q4_K;
    const LEN: usize = QK_K;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<QK_K>(out);
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for j in 0..8 {
            let (scale, min) = unpack_scale_min(&self.scales, j);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for i in 0..32 {
                let q = self.qs[j / 2 * 32 + i] >> (4 * (j % 2)) & 15;
                out[32 * j + i] = scale * f32::from(q) - min;
            }
        }
    }

    fn quantize(x: &[f32]) -> Self {
        let x = array::<QK_K>(x);
        let block = affine_super_block(x, &weights(x), SEARCH, 63.0);
        let level = |half: usize, b: usize| block.levels[b / 32 * 64 + half * 32 + b % 32];
        Self {
            d: block.d,
            dmin: block.dmin,
            scales: pack_scales_mins(block.scales, block.mins),
            qs: std::array::from_fn(|b| level(0, b) | level(1, b) << 4),
        }
    }
}

/// The weights of `Q4_K` and `Q5_K`, in lanes: an element's magnitude plus the root mean square of
/// its sub-block.
pub(super) fn weights(x: &[f32; QK_K]) -> [[f32; 8]; 32] {
    let x = to_lanes::<8, 32>(x);
    let mut mean = [0.0; 8];
    for row in &x {
        for l in 0..8 {
            mean[l] += row[l] * row[l];
        }
    }
    let mean = mean.map(|sum| (sum / 32.0).sqrt());
    x.map(|row| std::array::from_fn(|l| mean[l] + row[l].abs()))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ4K>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ4K>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ4K>(testing::Bounds { ggml: 0.002, gaussian: 0.08 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ4K>();
    }
}
