//! `Q6_K`: 256 elements, 6-bit levels, 16 sub-blocks with signed 8-bit scales. Symmetric:
//! `x = d * scale * (level - 32)`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::fit::{fit_symmetric, share_signed_scale, to_lanes};
use super::round::{ZERO_BELOW, nearest, signed_peak};
use super::{Block, QK_K, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 210 bytes for 256 elements (6.5625 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ6K {
    /// Lower four bits of the levels. Each half of the block (128 elements) has 64 bytes: element
    /// `i < 64` of the half is in the low nibble of byte `i`, element `i + 64` in its high nibble.
    pub ql: [u8; 128],
    /// Upper two bits. Each half has 32 bytes: element `32 * p + i` of the half is in byte `i`,
    /// bits `2 * p` and up.
    pub qh: [u8; 64],
    /// One scale per sub-block of 16 elements.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: f16,
}

const _: () = assert!(size_of::<BlockQ6K>() == 210);

impl Block for BlockQ6K {
    const DTYPE: DType = DType::Q6_K;
    const LEN: usize = QK_K;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<QK_K>(out);
        let d = self.d.to_f32();
        for k in 0..QK_K {
            let (half, i) = (k / 128, k % 128);
            let low = self.ql[64 * half + i % 64] >> (4 * (i / 64)) & 15;
            let high = self.qh[32 * half + i % 32] >> (2 * (i / 32)) & 3;
            let level = (low | high << 4) as i8 - 32;
            out[k] = d * f32::from(self.scales[k / 16]) * f32::from(level);
        }
    }

    fn quantize(x: &[f32]) -> Self {
        let x = array::<QK_K>(x);
        let fit = fit_symmetric::<16, 16>(&to_lanes(x), 32.0);
        if signed_peak(&fit.scale).abs() < ZERO_BELOW {
            return Self::zeroed();
        }
        let (d, scales) = share_signed_scale(&fit.scale, 128.0);
        let levels: [u8; QK_K] = std::array::from_fn(|k| {
            let scale = d.to_f32() * f32::from(scales[k / 16]);
            if scale == 0.0 {
                // The levels mean nothing then; ggml keeps those of the search.
                fit.levels[k % 16][k / 16] as u8
            } else {
                (nearest(x[k] / scale, -32.0, 31.0) + 32.0) as u8
            }
        });
        Self { ql: pack_low(&levels), qh: pack_high(&levels), scales, d }
    }
}

/// The lower four bits of all levels as [`BlockQ6K::ql`] holds them.
fn pack_low(levels: &[u8; QK_K]) -> [u8; 128] {
    std::array::from_fn(|b| {
        let k = b / 64 * 128 + b % 64;
        levels[k] & 15 | levels[k + 64] << 4
    })
}

/// The upper two bits of all levels as [`BlockQ6K::qh`] holds them.
fn pack_high(levels: &[u8; QK_K]) -> [u8; 64] {
    std::array::from_fn(|b| {
        let k = b / 32 * 128 + b % 32;
        levels[k] >> 4
            | levels[k + 32] >> 4 << 2
            | levels[k + 64] >> 4 << 4
            | levels[k + 96] >> 4 << 6
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ6K>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ6K>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ6K>(testing::Bounds { ggml: 0.002, gaussian: 0.025 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ6K>();
    }
}
