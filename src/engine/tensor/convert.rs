//! Conversion of whole rows between bytes of any element type and `f32`.
//!
//! This is where lengths are checked; the formats themselves trust their callers. Bytes need no
//! alignment. Work is done on the calling thread and nothing is allocated per block, so callers
//! that convert much split their rows over threads.

use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::dtype::DType;
use super::formats::{
    Block, BlockIQ4NL, BlockIQ4XS, BlockMXFP4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K,
    BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};

/// Why a row was not converted.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ConvertError {
    /// The type does not hold weights.
    #[error("{dtype} holds no weights and has no conversion to or from F32")]
    NotWeights {
        /// The type asked for.
        dtype: DType,
    },
    /// The elements do not fill whole blocks.
    #[error("{len} elements are no whole number of {dtype} blocks of {}", dtype.block_len())]
    PartialBlock {
        /// The type asked for.
        dtype: DType,
        /// Elements given.
        len: usize,
    },
    /// The byte slice does not have the size that the elements need.
    #[error("{len} elements of {dtype} take {expected} bytes, but the slice has {got}")]
    ByteLength {
        /// The type asked for.
        dtype: DType,
        /// Elements given.
        len: usize,
        /// Bytes that `len` elements take.
        expected: usize,
        /// Bytes of the slice.
        got: usize,
    },
    /// Blocks share scales, so one such number would spoil its neighbours.
    #[error("element {index} is {value}, which {dtype} cannot represent")]
    NotFinite {
        /// The type asked for.
        dtype: DType,
        /// The first offending element.
        index: usize,
        /// Infinity or NaN.
        value: f32,
    },
}

/// Converts `out.len()` elements of type `dtype` to `f32`.
///
/// # Errors
///
/// When `bytes` does not have exactly the size of `out.len()` elements, or `dtype` is no type of
/// weights. Any bytes of the right size convert; scales that are infinite or NaN come out as such.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), ConvertError> {
    check_sizes(dtype, out.len(), bytes.len())?;
    match dtype {
        DType::I32 => return Err(ConvertError::NotWeights { dtype }),
        DType::F32 => bytemuck::cast_slice_mut(out).copy_from_slice(bytes),
        DType::F16 => match bytemuck::try_cast_slice::<u8, f16>(bytes) {
            Ok(halves) => halves.convert_to_f32_slice(out),
            Err(_) => read::<f16>(bytes, out),
        },
        DType::BF16 => match bytemuck::try_cast_slice::<u8, bf16>(bytes) {
            Ok(halves) => halves.convert_to_f32_slice(out),
            Err(_) => read::<bf16>(bytes, out),
        },
        DType::Q4_0 => read::<BlockQ4_0>(bytes, out),
        DType::Q4_1 => read::<BlockQ4_1>(bytes, out),
        DType::Q5_0 => read::<BlockQ5_0>(bytes, out),
        DType::Q5_1 => read::<BlockQ5_1>(bytes, out),
        DType::Q8_0 => read::<BlockQ8_0>(bytes, out),
        DType::Q2_K => read::<BlockQ2K>(bytes, out),
        DType::Q3_K => read::<BlockQ3K>(bytes, out),
        DType::Q4_K => read::<BlockQ4K>(bytes, out),
        DType::Q5_K => read::<BlockQ5K>(bytes, out),
        DType::Q6_K => read::<BlockQ6K>(bytes, out),
        DType::IQ4_NL => read::<BlockIQ4NL>(bytes, out),
        DType::IQ4_XS => read::<BlockIQ4XS>(bytes, out),
        DType::MXFP4 => read::<BlockMXFP4>(bytes, out),
    }
    Ok(())
}

/// Converts `x` to elements of type `dtype`.
///
/// # Errors
///
/// When `x` is no whole number of blocks, `out` does not have exactly their size, `dtype` is no type
/// of weights, or a block format is given a number that is not finite. `out` is then unchanged.
pub fn quantize(dtype: DType, x: &[f32], out: &mut [u8]) -> Result<(), ConvertError> {
    check_sizes(dtype, x.len(), out.len())?;
    if dtype.is_quantised() {
        check_finite(dtype, x)?;
    }
    match dtype {
        DType::I32 => return Err(ConvertError::NotWeights { dtype }),
        DType::F32 => out.copy_from_slice(bytemuck::cast_slice(x)),
        DType::F16 => match bytemuck::try_cast_slice_mut::<u8, f16>(out) {
            Ok(halves) => halves.convert_from_f32_slice(x),
            Err(_) => write::<f16>(x, out),
        },
        DType::BF16 => match bytemuck::try_cast_slice_mut::<u8, bf16>(out) {
            Ok(halves) => halves.convert_from_f32_slice(x),
            Err(_) => write::<bf16>(x, out),
        },
        DType::Q4_0 => write::<BlockQ4_0>(x, out),
        DType::Q4_1 => write::<BlockQ4_1>(x, out),
        DType::Q5_0 => write::<BlockQ5_0>(x, out),
        DType::Q5_1 => write::<BlockQ5_1>(x, out),
        DType::Q8_0 => write::<BlockQ8_0>(x, out),
        DType::Q2_K => write::<BlockQ2K>(x, out),
        DType::Q3_K => write::<BlockQ3K>(x, out),
        DType::Q4_K => write::<BlockQ4K>(x, out),
        DType::Q5_K => write::<BlockQ5K>(x, out),
        DType::Q6_K => write::<BlockQ6K>(x, out),
        DType::IQ4_NL => write::<BlockIQ4NL>(x, out),
        DType::IQ4_XS => write::<BlockIQ4XS>(x, out),
        DType::MXFP4 => write::<BlockMXFP4>(x, out),
    }
    Ok(())
}

/// As [`quantize`], into new memory.
///
/// # Errors
///
/// As [`quantize`].
pub fn quantize_vec(dtype: DType, x: &[f32]) -> Result<Vec<u8>, ConvertError> {
    let mut out = vec![0; byte_len(dtype, x.len())?];
    quantize(dtype, x, &mut out)?;
    Ok(out)
}

/// The blocks of `bytes` without copying, or `None` when the bytes are no whole number of blocks or
/// are not aligned for them.
pub fn as_blocks<B: Block>(bytes: &[u8]) -> Option<&[B]> {
    bytemuck::try_cast_slice(bytes).ok()
}

fn byte_len(dtype: DType, len: usize) -> Result<usize, ConvertError> {
    dtype.row_bytes(len).ok_or(ConvertError::PartialBlock { dtype, len })
}

fn check_sizes(dtype: DType, len: usize, got: usize) -> Result<(), ConvertError> {
    let expected = byte_len(dtype, len)?;
    if got == expected {
        Ok(())
    } else {
        Err(ConvertError::ByteLength { dtype, len, expected, got })
    }
}

fn check_finite(dtype: DType, x: &[f32]) -> Result<(), ConvertError> {
    match x.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(ConvertError::NotFinite { dtype, index, value: x[index] }),
    }
}

/// Reads blocks at any alignment; copying one costs little beside unpacking it.
fn read<B: Block>(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.chunks_exact(size_of::<B>()).zip(out.chunks_exact_mut(B::LEN)) {
        bytemuck::pod_read_unaligned::<B>(bytes).dequantize(out);
    }
}

/// Writes blocks at any alignment.
fn write<B: Block + Pod>(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks_exact(B::LEN).zip(out.chunks_exact_mut(size_of::<B>())) {
        out.copy_from_slice(bytemuck::bytes_of(&B::quantize(x)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_weights() -> impl Strategy<Value = DType> {
        prop::sample::select(DType::WEIGHTS.to_vec())
    }

    proptest! {
        #[test]
        fn whole_blocks_convert_both_ways(
            dtype in any_weights(),
            blocks in 0_usize..4,
            seed in 0_usize..1000,
        ) {
            let n = blocks * dtype.block_len();
            let x: Vec<f32> = (0..n).map(|i| ((i + seed) as f32 * 0.7).sin()).collect();
            let bytes = quantize_vec(dtype, &x).unwrap();
            prop_assert_eq!(bytes.len(), blocks * dtype.block_bytes());
            let mut back = vec![f32::NAN; n];
            dequantize(dtype, &bytes, &mut back).unwrap();
            for (a, b) in x.iter().zip(&back) {
                prop_assert!((a - b).abs() < 0.5, "{}: {} became {}", dtype, a, b);
            }
        }

        #[test]
        fn alignment_does_not_matter(dtype in any_weights(), offset in 0_usize..4) {
            let n = 2 * dtype.block_len();
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.3).cos()).collect();
            let aligned = quantize_vec(dtype, &x).unwrap();
            let mut shifted = vec![0; offset + aligned.len()];
            quantize(dtype, &x, &mut shifted[offset..]).unwrap();
            prop_assert_eq!(&shifted[offset..], &aligned[..]);
            let (mut a, mut b) = (vec![0.0; n], vec![0.0; n]);
            dequantize(dtype, &aligned, &mut a).unwrap();
            dequantize(dtype, &shifted[offset..], &mut b).unwrap();
            prop_assert_eq!(a, b);
        }

        #[test]
        fn wrong_lengths_are_errors(
            dtype in any_weights(),
            n in 0_usize..600,
            got in 0_usize..3000,
        ) {
            let bytes = vec![0; got];
            let result = dequantize(dtype, &bytes, &mut vec![0.0; n]);
            match dtype.row_bytes(n) {
                None => prop_assert_eq!(result, Err(ConvertError::PartialBlock { dtype, len: n })),
                Some(expected) if expected != got => prop_assert_eq!(
                    result,
                    Err(ConvertError::ByteLength { dtype, len: n, expected, got })
                ),
                Some(_) => prop_assert_eq!(result, Ok(())),
            }
        }

        #[test]
        fn any_bytes_of_the_right_size_are_read(
            dtype in any_weights(),
            seed in prop::collection::vec(any::<u8>(), 1..64),
        ) {
            let bytes: Vec<u8> =
                seed.iter().copied().cycle().take(2 * dtype.block_bytes()).collect();
            let mut out = vec![0.0; 2 * dtype.block_len()];
            prop_assert_eq!(dequantize(dtype, &bytes, &mut out), Ok(()));
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_named() {
        let mut x = vec![1.0; 64];
        x[37] = f32::NEG_INFINITY;
        let error = quantize_vec(DType::Q8_0, &x).unwrap_err();
        assert_eq!(error.to_string(), "element 37 is -inf, which Q8_0 cannot represent");
        assert!(quantize_vec(DType::F16, &x).is_ok());
    }

    #[test]
    fn errors_say_what_was_expected() {
        let cut = quantize_vec(DType::Q4_K, &[0.0; 100]).unwrap_err();
        assert_eq!(cut.to_string(), "100 elements are no whole number of Q4_K blocks of 256");
        let short = dequantize(DType::Q4_K, &[0; 100], &mut [0.0; 256]).unwrap_err();
        let want = "256 elements of Q4_K take 144 bytes, but the slice has 100";
        assert_eq!(short.to_string(), want);
        let ids = quantize_vec(DType::I32, &[0.0]).unwrap_err();
        assert_eq!(ids, ConvertError::NotWeights { dtype: DType::I32 });
    }

    #[test]
    fn aligned_bytes_are_seen_as_blocks() {
        let blocks = [BlockQ8_0::quantize(&[1.0; 32]); 3];
        let bytes: &[u8] = bytemuck::cast_slice(&blocks);
        assert_eq!(as_blocks::<BlockQ8_0>(bytes), Some(&blocks[..]));
        assert_eq!(as_blocks::<BlockQ8_0>(&bytes[..35]), None);
    }
}
