//! `F32`, `F16` and `BF16`: types without blocks, here seen as blocks of one element.
//!
//! Rows of halves are converted by the slice functions of the `half` crate, which use the
//! processor's conversion instructions where it has them; see [`super::super::convert`].

use half::{bf16, f16};

use super::{Block, array, array_mut};
use crate::engine::tensor::dtype::DType;

impl Block for f32 {
    const DTYPE: DType = DType::F32;
    const LEN: usize = 1;

    fn dequantize(&self, out: &mut [f32]) {
        *array_mut::<1>(out) = [*self];
    }

    fn quantize(x: &[f32]) -> Self {
        array::<1>(x)[0]
    }
}

impl Block for f16 {
    const DTYPE: DType = DType::F16;
    const LEN: usize = 1;

    fn dequantize(&self, out: &mut [f32]) {
        *array_mut::<1>(out) = [self.to_f32()];
    }

    /// Rounds to nearest, ties to even. Numbers beyond 65504 become infinite, as they do in ggml.
    fn quantize(x: &[f32]) -> Self {
        f16::from_f32(array::<1>(x)[0])
    }
}

impl Block for bf16 {
    const DTYPE: DType = DType::BF16;
    const LEN: usize = 1;

    fn dequantize(&self, out: &mut [f32]) {
        *array_mut::<1>(out) = [self.to_f32()];
    }

    /// Rounds to nearest, ties to even.
    fn quantize(x: &[f32]) -> Self {
        bf16::from_f32(array::<1>(x)[0])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn f16_reads_as_the_reference_does() {
        testing::check_golden_dequantize::<f16>();
    }

    #[test]
    fn f16_writes_as_the_reference_does() {
        testing::check_golden_quantize::<f16>();
    }

    #[test]
    fn bf16_reads_as_the_reference_does() {
        testing::check_golden_dequantize::<bf16>();
    }

    #[test]
    fn bf16_writes_as_the_reference_does() {
        testing::check_golden_quantize::<bf16>();
    }

    #[test]
    fn errors_stay_within_bounds() {
        testing::check_error::<f32>(testing::Bounds { ggml: 1e-12, gaussian: 1e-12 });
        testing::check_error::<f16>(testing::Bounds { ggml: 1e-5, gaussian: 3e-4 });
        testing::check_error::<bf16>(testing::Bounds { ggml: 1e-4, gaussian: 3e-3 });
    }
}
