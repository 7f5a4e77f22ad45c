//! `Q3_K`: 256 elements, 3-bit levels, 16 sub-blocks with signed 6-bit scales. Symmetric:
//! `x = d * (scale - 32) * (level - 4)`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::fit::{fit_by_exchange, share_signed_scale};
use super::q2_k::{pack_2_bits, unpack_2_bits};
use super::round::nearest;
use super::{Block, QK_K, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 110 bytes for 256 elements (3.4375 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ3K {
    /// Third bits of the levels: bit `k / 32` of byte `k % 32` belongs to element `k`.
    pub hmask: [u8; 32],
    /// Lower two bits of the levels, laid out as in [`super::BlockQ2K`].
    pub qs: [u8; 64],
    /// 16 scales of 6 bits, stored with 32 added; see [`unpack_q3_scales`].
    pub scales: [u8; 12],
    /// Scale of the scales.
    pub d: f16,
}

const _: () = assert!(size_of::<BlockQ3K>() == 110);

/// The 16 scales, from -32 to 31, one per sub-block of 16 elements.
///
/// Bytes 0..8 hold the low nibbles, scale `j` beside scale `j + 8`; bytes 8..12 hold the upper two
/// bits, those of scale `j` in byte `8 + j % 4` from bit `2 * (j / 4)`.
#[inline(always)]
pub fn unpack_q3_scales(packed: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|j| {
        let low = if j < 8 { packed[j] & 15 } else { packed[j - 8] >> 4 };
        let high = packed[8 + j % 4] >> (2 * (j / 4)) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// The inverse of [`unpack_q3_scales`].
fn pack_q3_scales(scales: &[i8; 16]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (j, &scale) in scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        packed[j % 8] |= (scale & 15) << (4 * (j / 8));
        packed[8 + j % 4] |= (scale >> 4) << (2 * (j / 4));
    }
    packed
}

impl Block for BlockQ3K {
    const DTYPE: DType = DType::Q3_K;
    const LEN: usize = QK_K;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<QK_K>(out);
        let d = self.d.to_f32();
        let low = unpack_2_bits(&self.qs);
        for (j, scale) in unpack_q3_scales(&self.scales).into_iter().enumerate() {
            let scale = d * f32::from(scale);
            for k in 16 * j..16 * (j + 1) {
                let high = self.hmask[k % 32] >> (k / 32) & 1;
                out[k] = scale * f32::from((low[k] | high << 2) as i8 - 4);
            }
        }
    }

    fn quantize(x: &[f32]) -> Self {
        let x = array::<QK_K>(x);
        let mut levels = [0; QK_K];
        let mut fits = [0.0; 16];
        for (j, (x, levels)) in
            x.as_chunks::<16>().0.iter().zip(levels.as_chunks_mut::<16>().0).enumerate()
        {
            fits[j] = fit_by_exchange(x, 4.0, levels);
        }
        let (d, scales) = share_signed_scale(&fits, 32.0);
        // A block of zeros has zero bytes where its scales would be.
        let packed = if fits == [0.0; 16] { [0; 12] } else { pack_q3_scales(&scales) };
        for (j, &scale) in scales.iter().enumerate() {
            let scale = d.to_f32() * f32::from(scale);
            if scale == 0.0 {
                continue;
            }
            for k in 16 * j..16 * (j + 1) {
                levels[k] = (nearest(x[k] / scale, -4.0, 3.0) + 4.0) as u8;
            }
        }
        let mut hmask = [0; 32];
        for (k, &level) in levels.iter().enumerate() {
            hmask[k % 32] |= (level >> 2) << (k / 32);
        }
        Self { hmask, qs: pack_2_bits(&levels.map(|level| level & 3)), scales: packed, d }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn scales_survive_packing() {
        let scales = std::array::from_fn(|j| (j * 37 % 64) as i8 - 32);
        assert_eq!(unpack_q3_scales(&pack_q3_scales(&scales)), scales);
    }

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ3K>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ3K>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ3K>(testing::Bounds { ggml: 0.0040, gaussian: 0.2 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ3K>();
    }
}
