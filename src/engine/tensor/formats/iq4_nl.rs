//! `IQ4_NL`: 32 elements, 4-bit levels that index a table of 16 unevenly spaced values, one scale:
//! `x = d * IQ4_VALUES[level]`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::iq4::{IQ4_VALUES, fit_scale, pack_levels};
use super::round::{finite_f16, inverse};
use super::{Block, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 18 bytes for 32 elements (4.5 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockIQ4NL {
    /// Scale.
    pub d: f16,
    /// Levels: element `i` in the low nibble of byte `i`, element `i + 16` in its high nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4NL>() == 18);

impl Block for BlockIQ4NL {
    const DTYPE: DType = DType::IQ4_NL;
    const LEN: usize = 32;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<32>(out);
        let d = self.d.to_f32();
        for (i, &q) in self.qs.iter().enumerate() {
            out[i] = d * f32::from(IQ4_VALUES[q as usize & 15]);
            out[i + 16] = d * f32::from(IQ4_VALUES[q as usize >> 4]);
        }
    }

    fn quantize(x: &[f32]) -> Self {
        let x = array::<32>(x);
        let scale = fit_scale(x);
        Self { d: finite_f16(scale), qs: pack_levels(x, inverse(scale)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockIQ4NL>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockIQ4NL>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockIQ4NL>(testing::Bounds { ggml: 0.002, gaussian: 0.085 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockIQ4NL>();
    }
}
