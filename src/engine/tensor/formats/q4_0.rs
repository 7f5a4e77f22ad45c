//! `Q4_0`: 32 elements, 4-bit levels, one scale. Symmetric: `x = d * (level - 8)`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::round::{finite_f16, inverse, signed_peak};
use super::{Block, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 18 bytes for 32 elements (4.5 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: f16,
    /// Levels 0 to 15: element `i` in the low nibble of byte `i`, element `i + 16` in its high
    /// nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18);

impl Block for BlockQ4_0 {
    const DTYPE: DType = DType::Q4_0;
    const LEN: usize = 32;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<32>(out);
        let d = self.d.to_f32();
        for (i, &q) in self.qs.iter().enumerate() {
            out[i] = f32::from(i16::from(q & 15) - 8) * d;
            out[i + 16] = f32::from(i16::from(q >> 4) - 8) * d;
        }
    }

    /// The peak falls on level 0, which is the one further from the middle, whatever its sign: so
    /// the scale carries the opposite sign of the peak.
    fn quantize(x: &[f32]) -> Self {
        let x = array::<32>(x);
        let d = signed_peak(x) / -8.0;
        let id = inverse(d);
        let level = |v: f32| ((v * id + 8.5) as u8).min(15);
        Self { d: finite_f16(d), qs: std::array::from_fn(|i| level(x[i]) | level(x[i + 16]) << 4) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ4_0>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ4_0>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ4_0>(testing::Bounds { ggml: 0.002, gaussian: 0.095 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ4_0>();
    }
}
