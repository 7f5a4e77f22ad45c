//! `Q5_K`: 256 elements, 5-bit levels, 8 sub-blocks with 6-bit scales and minima:
//! `x = d * scale * level - dmin * min`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::fit::{AffineSearch, affine_super_block};
use super::k_scales::{K_SCALE_SIZE, pack_scales_mins, unpack_scale_min};
use super::q4_k::weights;
use super::{Block, QK_K, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 176 bytes for 256 elements (5.5 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ5K {
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
    /// Scales and minima of the sub-blocks of 32 elements; see [`unpack_scale_min`].
    pub scales: [u8; K_SCALE_SIZE],
    /// Fifth bits of the levels: bit `k / 32` of byte `k % 32` belongs to element `k`.
    pub qh: [u8; 32],
    /// Lower four bits of the levels, laid out as in [`super::BlockQ4K`].
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5K>() == 176);

/// The search of ggml's reference quantiser.
const SEARCH: AffineSearch =
    AffineSearch { max_level: 31.0, start: -0.5, steps: 15, absolute: false };

impl Block for BlockQ5K {
    const DTYPE: DType = DType::Q5_K;
    const LEN: usize = QK_K;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<QK_K>(out);
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for j in 0..8 {
            let (scale, min) = unpack_scale_min(&self.scales, j);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for i in 0..32 {
                let low = self.qs[j / 2 * 32 + i] >> (4 * (j % 2)) & 15;
                let high = self.qh[i] >> j & 1;
                out[32 * j + i] = scale * f32::from(low | high << 4) - min;
            }
        }
    }

    fn quantize(x: &[f32]) -> Self {
        let x = array::<QK_K>(x);
        let block = affine_super_block(x, &weights(x), SEARCH, 63.0);
        let low = |half: usize, b: usize| block.levels[b / 32 * 64 + half * 32 + b % 32] & 15;
        let mut qh = [0; 32];
        for (k, &level) in block.levels.iter().enumerate() {
            qh[k % 32] |= (level >> 4) << (k / 32);
        }
        Self {
            d: block.d,
            dmin: block.dmin,
            scales: pack_scales_mins(block.scales, block.mins),
            qh,
            qs: std::array::from_fn(|b| low(0, b) | low(1, b) << 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ5K>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ5K>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ5K>(testing::Bounds { ggml: 0.002, gaussian: 0.045 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ5K>();
    }
}
