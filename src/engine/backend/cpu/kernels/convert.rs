//! Rows of any element type to `f32`, and `f32` rows to the types a KV cache can have.
//!
//! The plain types, Q8_0 and Q4_0 have vector code here because attention reads them all the time;
//! the others go through the scalar code of [`crate::engine::tensor`].

use std::slice;

use half::{bf16, f16};

use super::simd::Simd;
use crate::engine::tensor::{DType, dequantize, quantize};

/// Elements per block of Q8_0 and Q4_0.
const BLOCK: usize = 32;

/// Widens the `n` elements at `src` into `dst`.
///
/// # Safety
/// `src` covers a row of `n` elements of `dtype`, a whole number of blocks; `dst` has room for `n`
/// floats.
#[inline(always)]
pub(super) unsafe fn row_to_f32<S: Simd>(
    s: S,
    dtype: DType,
    src: *const u8,
    dst: *mut f32,
    n: usize,
) {
    // SAFETY: the caller vouches for both rows; each helper reads and writes just them.
    unsafe {
        match dtype {
            DType::F32 => std::ptr::copy_nonoverlapping(src, dst.cast::<u8>(), n * 4),
            DType::F16 => widen(s, src, dst, n, |p| s.load_f16(p), |b| f16::from_bits(b).to_f32()),
            DType::BF16 => {
                widen(s, src, dst, n, |p| s.load_bf16(p), |b| bf16::from_bits(b).to_f32());
            }
            DType::Q8_0 => q8_0(s, src, dst, n),
            DType::Q4_0 => q4_0(s, src, dst, n),
            _ => scalar_to_f32(dtype, src, dst, n),
        }
    }
}

/// The scalar code of the formats without vector code here.
///
/// # Safety
/// As [`row_to_f32`].
#[inline(never)]
unsafe fn scalar_to_f32(dtype: DType, src: *const u8, dst: *mut f32, n: usize) {
    let bytes = dtype.row_bytes(n).expect("rows of a tensor are whole blocks");
    // SAFETY: the caller vouches for both rows.
    let (row, out) = unsafe {
        dst.write_bytes(0, n);
        (slice::from_raw_parts(src, bytes), slice::from_raw_parts_mut(dst, n))
    };
    dequantize(dtype, row, out).expect("lengths agree and the type holds weights");
}

/// The scalar code of the formats without vector code here. What the format cannot hold, an
/// infinity or NaN, makes the whole row read back as NaN rather than vanish: all bits set are a NaN
/// scale.
///
/// # Safety
/// As [`row_from_f32`].
#[inline(never)]
unsafe fn scalar_from_f32(dtype: DType, src: *const f32, dst: *mut u8, n: usize) {
    let bytes = dtype.row_bytes(n).expect("rows of a tensor are whole blocks");
    // SAFETY: the caller vouches for both rows.
    let (row, out) = unsafe {
        dst.write_bytes(0, bytes);
        (slice::from_raw_parts(src, n), slice::from_raw_parts_mut(dst, bytes))
    };
    if quantize(dtype, row, out).is_err() {
        out.fill(0xFF);
    }
}

/// Widens 16-bit elements: `wide` for a vector of them, `one` for each of the last few.
///
/// # Safety
/// `src` has `n` readable 16-bit elements, `dst` room for `n` floats.
#[inline(always)]
unsafe fn widen<S: Simd>(
    s: S,
    src: *const u8,
    dst: *mut f32,
    n: usize,
    wide: impl Fn(*const u8) -> S::F,
    one: impl Fn(u16) -> f32,
) {
    let mut i = 0;
    while i + S::W <= n {
        // SAFETY: a vector from `i` ends at or below `n`.
        unsafe { s.store(dst.add(i), wide(src.add(2 * i))) }
        i += S::W;
    }
    while i < n {
        // SAFETY: `i` is below `n`.
        unsafe { *dst.add(i) = one(src.add(2 * i).cast::<u16>().read_unaligned()) }
        i += 1;
    }
}

/// The F16 scale at the head of a block.
///
/// # Safety
/// Two bytes are readable at `p`.
#[inline(always)]
unsafe fn block_scale(p: *const u8) -> f32 {
    // SAFETY: as the caller vouches.
    f16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32()
}

/// Q8_0: a scale and 32 signed bytes.
///
/// # Safety
/// As [`row_to_f32`].
#[inline(always)]
unsafe fn q8_0<S: Simd>(s: S, src: *const u8, dst: *mut f32, n: usize) {
    for b in 0..n / BLOCK {
        // SAFETY: block `b` is inside the row on both sides.
        unsafe {
            let block = src.add(b * DType::Q8_0.block_bytes());
            let scale = s.splat(block_scale(block));
            for i in (0..BLOCK).step_by(S::W) {
                let x = s.mul(s.load_i8(block.add(2 + i)), scale);
                s.store(dst.add(b * BLOCK + i), x);
            }
        }
    }
}

/// Q4_0: a scale and 16 bytes; low nibbles are elements 0 to 15, high nibbles 16 to 31, both less 8.
///
/// # Safety
/// As [`row_to_f32`].
#[inline(always)]
unsafe fn q4_0<S: Simd>(s: S, src: *const u8, dst: *mut f32, n: usize) {
    for b in 0..n / BLOCK {
        // SAFETY: block `b` is inside the row on both sides.
        unsafe {
            let block = src.add(b * DType::Q4_0.block_bytes());
            let scale = s.splat(block_scale(block));
            let packed = block.add(2).cast::<[u8; 16]>().read_unaligned();
            let mut values = [0_i8; BLOCK];
            for (i, byte) in packed.into_iter().enumerate() {
                values[i] = (byte & 15) as i8 - 8;
                values[i + 16] = (byte >> 4) as i8 - 8;
            }
            for i in (0..BLOCK).step_by(S::W) {
                let x = s.load_i8(values.as_ptr().add(i).cast());
                s.store(dst.add(b * BLOCK + i), s.mul(x, scale));
            }
        }
    }
}

/// Narrows `n` floats at `src` into a row of `dtype` at `dst`.
///
/// # Safety
/// `src` has `n` floats, a whole number of blocks; `dst` has room for a row of them.
#[inline(always)]
pub(super) unsafe fn row_from_f32<S: Simd>(
    s: S,
    dtype: DType,
    src: *const f32,
    dst: *mut u8,
    n: usize,
) {
    // SAFETY: the caller vouches for both rows; indices stay below `n`.
    unsafe {
        match dtype {
            DType::F32 => std::ptr::copy_nonoverlapping(src.cast::<u8>(), dst, n * 4),
            DType::F16 => {
                let whole = n / S::W * S::W;
                for i in (0..whole).step_by(S::W) {
                    s.store_f16(dst.add(2 * i), s.load(src.add(i)));
                }
                for i in whole..n {
                    let bits = f16::from_f32(*src.add(i)).to_bits();
                    dst.add(2 * i).cast::<u16>().write_unaligned(bits);
                }
            }
            DType::BF16 => {
                for i in 0..n {
                    let bits = bf16::from_f32(*src.add(i)).to_bits();
                    dst.add(2 * i).cast::<u16>().write_unaligned(bits);
                }
            }
            _ => scalar_from_f32(dtype, src, dst, n),
        }
    }
}
