//! `MXFP4`: 32 elements, 4-bit floats (sign, 2-bit exponent, 1-bit mantissa) and a shared
//! power of two, as the OCP Microscaling specification defines them.

use bytemuck::{Pod, Zeroable};

use super::round::signed_peak;
use super::{Block, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// Twice the value of each 4-bit float, so that all are whole numbers.
pub const MXFP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 17 bytes for 32 elements (4.25 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockMXFP4 {
    /// Exponent of the shared scale `2^(e - 127)`.
    pub e: u8,
    /// 4-bit floats: element `i` in the low nibble of byte `i`, element `i + 16` in its high
    /// nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockMXFP4>() == 17);

/// Half of the shared scale, `2^(e - 128)`: the factor that belongs to the doubled values of
/// [`MXFP4_VALUES`]. As in ggml, `e = 255` (NaN in the specification) is just the next power.
#[inline(always)]
pub fn e8m0_half(e: u8) -> f32 {
    // The two smallest are below the normal numbers of `f32`.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}

impl Block for BlockMXFP4 {
    const DTYPE: DType = DType::MXFP4;
    const LEN: usize = 32;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<32>(out);
        let d = e8m0_half(self.e);
        for (i, &q) in self.qs.iter().enumerate() {
            out[i] = f32::from(MXFP4_VALUES[q as usize & 15]) * d;
            out[i + 16] = f32::from(MXFP4_VALUES[q as usize >> 4]) * d;
        }
    }

    /// The scale is that power of two which gives the peak the largest exponent a 4-bit float has.
    fn quantize(x: &[f32]) -> Self {
        let x = array::<32>(x);
        let peak = signed_peak(x).abs();
        // Floats of 4 bits reach exponent 2; subnormal peaks have the biased exponent 0.
        let e = ((peak.to_bits() >> 23) as u8).saturating_sub(2);
        let d = e8m0_half(e);
        Self { e, qs: std::array::from_fn(|i| level(x[i], d) | level(x[i + 16], d) << 4) }
    }
}

/// The 4-bit float nearest to `x` when values are multiples of `d`; the one nearer zero when `x` is
/// half-way.
#[inline(always)]
fn level(x: f32, d: f32) -> u8 {
    let mut magnitude = 0;
    for pair in MXFP4_VALUES[..8].windows(2) {
        let middle = 0.5 * f32::from(pair[0] + pair[1]);
        magnitude += u8::from(x.abs() > middle * d);
    }
    if x < 0.0 && magnitude > 0 { magnitude | 8 } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_shared_scale_is_a_power_of_two() {
        assert_eq!(e8m0_half(128), 1.0);
        assert_eq!(e8m0_half(0), 2.0_f32.powi(-128));
        assert_eq!(e8m0_half(1), 2.0_f32.powi(-127));
        assert_eq!(e8m0_half(255), 2.0_f32.powi(127));
    }

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockMXFP4>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockMXFP4>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockMXFP4>(testing::Bounds { ggml: 0.0040, gaussian: 0.13 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockMXFP4>();
    }
}
