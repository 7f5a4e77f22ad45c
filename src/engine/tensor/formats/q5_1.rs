//! `Q5_1`: 32 elements, 5-bit levels, a scale and a minimum: `x = d * level + m`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::q5_0::{pack_5_bits, unpack_5_bits};
use super::round::{finite_f16, inverse, range};
use super::{Block, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 24 bytes for 32 elements (6 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: f16,
    /// Minimum, the value of level 0.
    pub m: f16,
    /// The fifth bits of the levels, little-endian: bit `i` belongs to element `i`.
    pub qh: [u8; 4],
    /// The lower four bits: element `i` in the low nibble of byte `i`, element `i + 16` in its high
    /// nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24);

impl Block for BlockQ5_1 {
    const DTYPE: DType = DType::Q5_1;
    const LEN: usize = 32;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<32>(out);
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        let levels = unpack_5_bits(self.qh, &self.qs);
        for i in 0..32 {
            out[i] = f32::from(levels[i]) * d + m;
        }
    }

    /// Spreads the levels evenly from the smallest to the largest element.
    fn quantize(x: &[f32]) -> Self {
        let x = array::<32>(x);
        let (lo, hi) = range(x);
        let d = (hi - lo) / 31.0;
        let id = inverse(d);
        let (qh, qs) = pack_5_bits(&x.map(|v| (((v - lo) * id + 0.5) as u8).min(31)));
        Self { d: finite_f16(d), m: finite_f16(lo), qh, qs }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ5_1>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ5_1>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ5_1>(testing::Bounds { ggml: 0.002, gaussian: 0.045 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ5_1>();
    }
}
