//! The plain weight types, converted to `f32` as they are read.

use std::arch::x86_64::{
    __m256, __m512, _mm_loadu_si128, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_slli_epi32, _mm512_castsi512_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_loadu_ps, _mm512_slli_epi32,
};

use super::unpack::half;

/// A weight type without blocks.
///
/// Safety of its functions: the elements are readable, and the kernel that the functions become
/// part of has AVX2 and F16C (`load16`: AVX-512F).
pub(super) trait Floats {
    /// Bytes of an element.
    const BYTES: usize;
    /// One element.
    unsafe fn load1(p: *const u8) -> f32;
    /// 8 elements.
    unsafe fn load8(p: *const u8) -> __m256;
    /// 16 elements.
    unsafe fn load16(p: *const u8) -> __m512;
}

/// See `tensor::formats`.
pub(super) struct F32;

impl Floats for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the contract of the trait.
        unsafe { p.cast::<f32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load8(p: *const u8) -> __m256 {
        // SAFETY: the contract of the trait.
        unsafe { _mm256_loadu_ps(p.cast()) }
    }

    #[inline(always)]
    unsafe fn load16(p: *const u8) -> __m512 {
        // SAFETY: the contract of the trait.
        unsafe { _mm512_loadu_ps(p.cast()) }
    }
}

/// See `tensor::formats`.
pub(super) struct F16;

impl Floats for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the contract of the trait.
        unsafe { half(p) }
    }

    #[inline(always)]
    unsafe fn load8(p: *const u8) -> __m256 {
        // SAFETY: the contract of the trait.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn load16(p: *const u8) -> __m512 {
        // SAFETY: the contract of the trait.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
}

/// See `tensor::formats`.
pub(super) struct Bf16;

impl Floats for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the contract of the trait.
        f32::from_bits(u32::from(unsafe { p.cast::<u16>().read_unaligned() }) << 16)
    }

    #[inline(always)]
    unsafe fn load8(p: *const u8) -> __m256 {
        // SAFETY: the contract of the trait.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn load16(p: *const u8) -> __m512 {
        // SAFETY: the contract of the trait.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
}
