//! `Q5_0`: 32 elements, 5-bit levels, one scale. Symmetric: `x = d * (level - 16)`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::round::{finite_f16, inverse, signed_peak};
use super::{Block, array, array_mut};
use crate::engine::tensor::dtype::DType;

/// 22 bytes for 32 elements (5.5 bits each).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BlockQ5_0 {
    /// Scale.
    pub d: f16,
    /// The fifth bits of the levels, little-endian: bit `i` belongs to element `i`.
    pub qh: [u8; 4],
    /// The lower four bits: element `i` in the low nibble of byte `i`, element `i + 16` in its high
    /// nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22);

impl Block for BlockQ5_0 {
    const DTYPE: DType = DType::Q5_0;
    const LEN: usize = 32;

    fn dequantize(&self, out: &mut [f32]) {
        let out = array_mut::<32>(out);
        let d = self.d.to_f32();
        let levels = unpack_5_bits(self.qh, &self.qs);
        for i in 0..32 {
            out[i] = f32::from(i16::from(levels[i]) - 16) * d;
        }
    }

    /// The peak falls on level 0, whatever its sign: so the scale carries the opposite sign.
    fn quantize(x: &[f32]) -> Self {
        let x = array::<32>(x);
        let d = signed_peak(x) / -16.0;
        let id = inverse(d);
        let (qh, qs) = pack_5_bits(&x.map(|v| ((v * id + 16.5) as u8).min(31)));
        Self { d: finite_f16(d), qh, qs }
    }
}

/// The 32 levels of a block of `Q5_0` or `Q5_1`.
#[inline(always)]
pub(super) fn unpack_5_bits(qh: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let high = u32::from_le_bytes(qh);
    let top = |i: usize| ((high >> i) as u8 & 1) << 4;
    std::array::from_fn(|i| if i < 16 { qs[i] & 15 | top(i) } else { qs[i - 16] >> 4 | top(i) })
}

/// The inverse of [`unpack_5_bits`]; levels must be below 32.
#[inline(always)]
pub(super) fn pack_5_bits(levels: &[u8; 32]) -> ([u8; 4], [u8; 16]) {
    let mut high = 0_u32;
    for (i, &level) in levels.iter().enumerate() {
        high |= u32::from(level >> 4) << i;
    }
    let low = std::array::from_fn(|i| levels[i] & 15 | (levels[i + 16] & 15) << 4);
    (high.to_le_bytes(), low)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn reads_as_the_reference_does() {
        testing::check_golden_dequantize::<BlockQ5_0>();
    }

    #[test]
    fn writes_as_the_reference_does() {
        testing::check_golden_quantize::<BlockQ5_0>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<BlockQ5_0>(testing::Bounds { ggml: 0.002, gaussian: 0.05 });
    }

    #[test]
    fn extremes_stay_finite() {
        testing::check_extremes::<BlockQ5_0>();
    }
}
