//! Rows of any element type to `f32`, and `f32` rows to the types a KV cache can have.
//!
//! What a KV cache can be made of has vector code here, because attention reads it all the time; the
//! others go through the scalar code of [`crate::engine::tensor`].

use std::slice;

use half::{bf16, f16};

use super::simd::Simd;
use crate::engine::tensor::formats::IQ4_VALUES;
use crate::engine::tensor::{DType, dequantize, quantize};

/// Elements per block of the formats below.
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
    // SAFETY: the caller vouches for both rows.
    unsafe { rows_to_f32(s, dtype, src, 0, dst, 0, n, 1) }
}

/// Widens `rows` rows of `n` elements, `src_stride` bytes apart, into rows `dst_stride` floats apart.
///
/// # Safety
/// As [`row_to_f32`] for every row.
#[inline(always)]
pub(super) unsafe fn rows_to_f32<S: Simd>(
    s: S,
    dtype: DType,
    src: *const u8,
    src_stride: usize,
    dst: *mut f32,
    dst_stride: usize,
    n: usize,
    rows: usize,
) {
    // The type is looked at once: rows of a head are short.
    macro_rules! each {
        ($convert:expr) => {
            for row in 0..rows {
                // SAFETY: the caller vouches for each row; each helper reads and writes just it.
                unsafe { $convert(src.add(row * src_stride), dst.add(row * dst_stride)) }
            }
        };
    }
    match dtype {
        DType::F32 => each!(|src: *const u8, dst: *mut f32| {
            std::ptr::copy_nonoverlapping(src, dst.cast::<u8>(), n * 4);
        }),
        DType::F16 => each!(|src, dst| {
            widen(s, src, dst, n, |p| s.load_f16(p), |b| f16::from_bits(b).to_f32());
        }),
        DType::BF16 => each!(|src, dst| {
            widen(s, src, dst, n, |p| s.load_bf16(p), |b| bf16::from_bits(b).to_f32());
        }),
        DType::Q8_0 => each!(|src, dst| q8_0(s, src, dst, n)),
        DType::Q4_0 => each!(|src, dst| Nibbles::Q4_0.widen(s, src, dst, n)),
        DType::Q4_1 => each!(|src, dst| Nibbles::Q4_1.widen(s, src, dst, n)),
        DType::Q5_0 => each!(|src, dst| Nibbles::Q5_0.widen(s, src, dst, n)),
        DType::Q5_1 => each!(|src, dst| Nibbles::Q5_1.widen(s, src, dst, n)),
        DType::IQ4_NL => each!(|src, dst| Nibbles::IQ4_NL.widen(s, src, dst, n)),
        _ => each!(|src, dst| scalar_to_f32(dtype, src, dst, n)),
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
    while i + 4 * S::W <= n {
        for i in (i..i + 4 * S::W).step_by(S::W) {
            // SAFETY: a vector from `i` ends at or below `n`.
            unsafe { s.store(dst.add(i), wide(src.add(2 * i))) }
        }
        i += 4 * S::W;
    }
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

/// A format of 32 elements in 16 bytes of nibbles: low nibbles are elements 0 to 15, high ones 16 to
/// 31. Before them stand an F16 scale, in some formats an F16 minimum, and in some a fifth bit of each
/// element. All products of a level and a scale are exact, so that any order of rounding agrees.
#[derive(Clone, Copy)]
struct Nibbles {
    /// What a nibble means, less the fifth bit.
    levels: [i8; 16],
    has_minimum: bool,
    has_fifth_bit: bool,
}

impl Nibbles {
    /// Levels in order from `lowest`.
    const fn counting(lowest: i8, has_minimum: bool, has_fifth_bit: bool) -> Self {
        let mut levels = [lowest; 16];
        let mut i = 1;
        while i < 16 {
            levels[i] = levels[i - 1] + 1;
            i += 1;
        }
        Self { levels, has_minimum, has_fifth_bit }
    }

    const Q4_0: Self = Self::counting(-8, false, false);
    const Q4_1: Self = Self::counting(0, true, false);
    const Q5_0: Self = Self::counting(-16, false, true);
    const Q5_1: Self = Self::counting(0, true, true);
    const IQ4_NL: Self = Self { levels: IQ4_VALUES, has_minimum: false, has_fifth_bit: false };

    /// Widens a row.
    ///
    /// # Safety
    /// As [`row_to_f32`], for the format that `self` describes.
    #[inline(always)]
    unsafe fn widen<S: Simd>(self, s: S, src: *const u8, dst: *mut f32, n: usize) {
        let bits_at = if self.has_minimum { 4 } else { 2 };
        let levels_at = bits_at + if self.has_fifth_bit { 4 } else { 0 };
        for b in 0..n / BLOCK {
            // SAFETY: block `b` is inside the row on both sides.
            unsafe {
                let block = src.add(b * (levels_at + BLOCK / 2));
                let scale = s.splat(block_scale(block));
                let minimum =
                    s.splat(if self.has_minimum { block_scale(block.add(2)) } else { 0.0 });
                let fifth = if self.has_fifth_bit {
                    u32::from_le_bytes(block.add(bits_at).cast::<[u8; 4]>().read_unaligned())
                } else {
                    0
                };
                for i in (0..BLOCK / 2).step_by(S::W) {
                    let (low, high) = s.nibbles(block.add(levels_at + i), &self.levels);
                    for (at, level) in [(i, low), (i + BLOCK / 2, high)] {
                        let level = if self.has_fifth_bit {
                            s.add(level, s.bits(fifth >> at, 16.0))
                        } else {
                            level
                        };
                        s.store(dst.add(b * BLOCK + at), s.fma(level, scale, minimum));
                    }
                }
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
