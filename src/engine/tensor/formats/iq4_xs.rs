//! `IQ4_XS`: 256 elements, 4-bit levels that index a table of 16 unevenly spaced values, 8
//! sub-blocks with signed 6-bit scales: `x = d * (scale - 32) * IQ4_VALUES[level]`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::iq4::{IQ4_VALUES, fit_scale, pack_levels};
use super::round::{finite_f16, inverse, nearest, signed_peak};
use super::{Block, QK_K, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 136 bytes for 256 elements (4.25 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockIQ4XS {
    /// Scale of the scales.
    pub d: f16,
    /// Upper two bits of the scales: those of sub-block `j` from bit `2 * j`.
    pub scales_h: u16,
    /// Lower four bits of the scales: sub-block `j` in byte `j / 2`, the even ones low.
    pub scales_l: [u8; 4],
    /// Levels. Each sub-block of 32 elements has 16 bytes: element `i` in the low nibble of byte
    /// `i`, element `i + 16` in its high nibble.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockIQ4XS>() == 136);

impl BlockIQ4XS {
    /// The scale of sub-block `j`, `j < 8`, from -32 to 31.
    #[inline(always)]
    pub fn scale(&self, j: usize) -> i8 {
        let low = self.scales_l[j / 2] >> (4 * (j % 2)) & 15;
        let high = (self.scales_h >> (2 * j)) as u8 & 3;
        (low | high << 4) as i8 - 32
    }
}

impl Block for BlockIQ4XS {
    const DTYPE: DType = DType::IQ4_XS;
    const LEN: usize = QK_K;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<QK_K>(out);
        let d = self.d.to_f32();
        for j in 0..8 {
            let scale = d * f32::from(self.scale(j));
            for i in 0..16 {
                let q = self.qs[16 * j + i] as usize;
                out[32 * j + i] = scale * f32::from(IQ4_VALUES[q & 15]);
                out[32 * j + 16 + i] = scale * f32::from(IQ4_VALUES[q >> 4]);
            }
        }
    }

    fn quantize(x: &[f32]) -> Self {
        let x = array::<QK_K>(x).as_chunks::<32>().0;
        let fits: [f32; 8] = std::array::from_fn(|j| fit_scale(&x[j]));
        let d = signed_peak(&fits) / -32.0;
        let id = inverse(d);
        let mut block = Self { d: finite_f16(d), scales_h: 0, scales_l: [0; 4], qs: [0; 128] };
        for (j, (x, qs)) in x.iter().zip(block.qs.as_chunks_mut::<16>().0).enumerate() {
            let scale = nearest(id * fits[j], -32.0, 31.0);
            // The levels suit the scale before it was rounded to a half, as they do in ggml.
            *qs = pack_levels(x, inverse(d * scale));
            let stored = (scale + 32.0) as u8;
            block.scales_l[j / 2] |= (stored & 15) << (4 * (j % 2));
            block.scales_h |= u16::from(stored >> 4) << (2 * j);
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockIQ4XS>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockIQ4XS>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockIQ4XS>(testing::Bounds { ggml: 0.002, gaussian: 0.085 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockIQ4XS>();
    }
}
