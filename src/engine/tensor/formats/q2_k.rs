//! `Q2_K`: 256 elements, 2-bit levels, 16 sub-blocks with 4-bit scales and minima:
//! `x = d * scale * level - dmin * min`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::fit::{AffineSearch, affine_super_block, to_lanes};
use super::{Block, QK_K, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 84 bytes for 256 elements (2.625 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ2K {
    /// Per sub-block of 16 elements: scale in the low nibble, minimum in the high one.
    pub scales: [u8; 16],
    /// Levels 0 to 3. Each half of the block (128 elements) has 32 bytes: element `32 * p + i` of
    /// the half is in byte `i`, bits `2 * p` and up.
    pub qs: [u8; 64],
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
}

const _: () = assert!(size_of::<BlockQ2K>() == 84);

/// The search of ggml's reference quantiser.
const SEARCH: AffineSearch =
    AffineSearch { max_level: 3.0, start: -0.5, steps: 15, absolute: true };

impl Block for BlockQ2K {
    const DTYPE: DType = DType::Q2_K;
    const LEN: usize = QK_K;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<QK_K>(out);
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let levels = unpack_2_bits(&self.qs);
        for (j, &s) in self.scales.iter().enumerate() {
            let scale = d * f32::from(s & 15);
            let min = dmin * f32::from(s >> 4);
            for k in 16 * j..16 * (j + 1) {
                out[k] = scale * f32::from(levels[k]) - min;
            }
        }
    }

    /// Weighs differences by the element's magnitude.
    fn quantize(x: &[f32]) -> Self {
        let x = array::<QK_K>(x);
        let weights = to_lanes::<16, 16>(x).map(|row| row.map(f32::abs));
        let block = affine_super_block(x, &weights, SEARCH, 15.0);
        Self {
            scales: std::array::from_fn(|j| block.scales[j] | block.mins[j] << 4),
            qs: pack_2_bits(&block.levels),
            d: block.d,
            dmin: block.dmin,
        }
    }
}

/// The 256 two-bit numbers of `Q2_K` and `Q3_K`, in the order of the elements.
#[inline(always)]
pub(super) fn unpack_2_bits(qs: &[u8; 64]) -> [u8; QK_K] {
    std::array::from_fn(|k| {
        let (half, plane, i) = (k / 128, k / 32 % 4, k % 32);
        qs[32 * half + i] >> (2 * plane) & 3
    })
}

/// The inverse of [`unpack_2_bits`]; numbers must be below 4.
#[inline(always)]
pub(super) fn pack_2_bits(levels: &[u8; QK_K]) -> [u8; 64] {
    std::array::from_fn(|b| {
        let k = b / 32 * 128 + b % 32;
        levels[k] | levels[k + 32] << 2 | levels[k + 64] << 4 | levels[k + 96] << 6
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ2K>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ2K>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ2K>(testing::Bounds { ggml: 0.0075, gaussian: 0.35 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ2K>();
    }
}
