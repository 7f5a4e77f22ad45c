//! `Q8_0`: 32 elements, signed 8-bit levels, one scale: `x = d * level`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::round::{finite_f16, inverse, nearest_away, signed_peak};
use super::{Block, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 34 bytes for 32 elements (8.5 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: f16,
    /// Levels -127 to 127, in the order of the elements.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34);

impl Block for BlockQ8_0 {
    const DTYPE: DType = DType::Q8_0;
    const LEN: usize = 32;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<32>(out);
        let d = self.d.to_f32();
        for i in 0..32 {
            out[i] = f32::from(self.qs[i]) * d;
        }
    }

    /// Rounds ties away from zero, unlike the K-quants.
    fn quantize(x: &[f32]) -> Self {
        let x = array::<32>(x);
        let d = signed_peak(x).abs() / 127.0;
        let id = inverse(d);
        Self { d: finite_f16(d), qs: x.map(|v| nearest_away(v * id, 127.0) as i8) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ8_0>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ8_0>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ8_0>(testing::Bounds { ggml: 0.002, gaussian: 0.006 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ8_0>();
    }
}
