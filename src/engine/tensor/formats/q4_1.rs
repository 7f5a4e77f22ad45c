//! `Q4_1`: 32 elements, 4-bit levels, a scale and a minimum: `x = d * level + m`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::round::{finite_f16, inverse, range};
use super::{Block, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 20 bytes for 32 elements (5 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: f16,
    /// Minimum, the value of level 0.
    pub m: f16,
    /// Levels 0 to 15: element `i` in the low nibble of byte `i`, element `i + 16` in its high
    /// nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20);

impl Block for BlockQ4_1 {
    const DTYPE: DType = DType::Q4_1;
    const LEN: usize = 32;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<32>(out);
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (i, &q) in self.qs.iter().enumerate() {
            out[i] = f32::from(q & 15) * d + m;
            out[i + 16] = f32::from(q >> 4) * d + m;
        }
    }

    /// Spreads the levels evenly from the smallest to the largest element.
    fn quantize(x: &[f32]) -> Self {
        let x = array::<32>(x);
        let (lo, hi) = range(x);
        let d = (hi - lo) / 15.0;
        let id = inverse(d);
        let level = |v: f32| (((v - lo) * id + 0.5) as u8).min(15);
        Self {
            d: finite_f16(d),
            m: finite_f16(lo),
            qs: std::array::from_fn(|i| level(x[i]) | level(x[i + 16]) << 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ4_1>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ4_1>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ4_1>(testing::Bounds { ggml: 0.002, gaussian: 0.09 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ4_1>();
    }
}
