//! [`Simd`] for AVX2 (with FMA and F16C) and for AVX-512.
//!
//! Each method is one intrinsic or a handful. All blocks rest on the same ground: the token `self`
//! exists only where [`super::dispatch`] was promised the instruction set, and whoever calls an
//! `unsafe` method vouches for the memory behind its pointers.

#[allow(clippy::wildcard_imports, reason = "a list of a hundred intrinsics helps nobody")]
use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// The token of AVX2 with FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// The token of AVX-512 (F, BW, VL, DQ).
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Runs `kernel` on AVX2.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run_avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2(()))
}

/// Runs `kernel` on AVX-512.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn run_avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512(()))
}

/// Methods whose body is one expression of intrinsics.
macro_rules! methods {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: the token proves the instruction set; no memory is touched.
            unsafe { $body }
        }
    )*};
}

/// As [`methods`], for the ones that take pointers.
macro_rules! memory_methods {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: the token proves the instruction set; the caller vouches for the memory.
            unsafe { $body }
        }
    )*};
}

/// The mask that selects the first `n` of eight lanes.
///
/// # Safety
/// AVX2 is present.
#[inline(always)]
unsafe fn first8(n: usize) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes)
    }
}

/// The mask that selects the first `n` of sixteen lanes.
#[inline(always)]
fn first16(n: usize) -> __mmask16 {
    ((1_u32 << n.min(16)) - 1) as __mmask16
}

/// Sum of four lanes.
///
/// # Safety
/// AVX2 is present.
#[inline(always)]
unsafe fn sum4(x: __m128) -> f32 {
    // SAFETY: as the caller vouches.
    unsafe {
        let y = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)))
    }
}

impl Simd for Avx2 {
    type F = __m256;
    const W: usize = 8;
    const TILE: usize = 12;

    methods! {
        prefetch(p: *const u8) -> () = _mm_prefetch::<_MM_HINT_T1>(p.cast());
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        round(a: __m256) -> __m256 =
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        scale2(a: __m256, n: __m256) -> __m256 = {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        };
        keep_ge(a: __m256, x: __m256, limit: f32) -> __m256 =
            _mm256_and_ps(a, _mm256_cmp_ps::<_CMP_GE_OQ>(x, _mm256_set1_ps(limit)));
        bits(bits: u32, x: f32) -> __m256 = {
            let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes);
            let set = _mm256_cmpeq_epi32(set, lanes);
            _mm256_and_ps(_mm256_castsi256_ps(set), _mm256_set1_ps(x))
        };
        swap_pairs(a: __m256) -> __m256 = _mm256_permute_ps::<0b10_11_00_01>(a);
        pair_sums(a: __m256, b: __m256) -> __m256 = {
            // Within 128-bit halves, then the quarters into their order.
            let sums = _mm256_castps_pd(_mm256_hadd_ps(a, b));
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(sums))
        };
        sum(a: __m256) -> f32 =
            sum4(_mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)));
        largest(a: __m256) -> f32 = {
            let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let y = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)))
        };
    }

    memory_methods! {
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        load_n(p: *const f32, n: usize) -> __m256 = _mm256_maskload_ps(p, first8(n));
        store(p: *mut f32, a: __m256) -> () = _mm256_storeu_ps(p, a);
        store_n(p: *mut f32, a: __m256, n: usize) -> () = _mm256_maskstore_ps(p, first8(n), a);
        load_f16(p: *const u8) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
        store_f16(p: *mut u8, a: __m256) -> () =
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a));
        load_bf16(p: *const u8) -> __m256 = {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        };
        load_i8(p: *const u8) -> __m256 =
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())));
        nibbles(p: *const u8, levels: &[i8; 16]) -> (__m256, __m256) = {
            let (low, high) = nibbles16(_mm_loadl_epi64(p.cast()), levels);
            let wide = |x| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x));
            (wide(low), wide(high))
        };
        repeat(p: *const f32, n: usize) -> __m256 = match n {
            1 => _mm256_broadcast_ss(&*p),
            2 => _mm256_castpd_ps(_mm256_set1_pd(p.cast::<f64>().read_unaligned())),
            4 => _mm256_castsi256_ps(_mm256_broadcastsi128_si256(_mm_loadu_si128(p.cast()))),
            _ => _mm256_loadu_ps(p),
        };
        transpose8(src: *const f32, ss: usize, dst: *mut f32, ds: usize) -> () =
            transpose8(src, ss, dst, ds);
    }
}

/// The `levels` of the low and of the high nibbles of 16 bytes.
///
/// # Safety
/// AVX2 is present.
#[inline(always)]
unsafe fn nibbles16(x: __m128i, levels: &[i8; 16]) -> (__m128i, __m128i) {
    // SAFETY: as the caller vouches.
    unsafe {
        let (levels, mask) = (_mm_loadu_si128(levels.as_ptr().cast()), _mm_set1_epi8(15));
        let high = _mm_and_si128(_mm_srli_epi16::<4>(x), mask);
        (_mm_shuffle_epi8(levels, _mm_and_si128(x, mask)), _mm_shuffle_epi8(levels, high))
    }
}

/// See [`Simd::transpose8`].
///
/// # Safety
/// As there, and AVX2 is present.
#[inline(always)]
unsafe fn transpose8(src: *const f32, ss: usize, dst: *mut f32, ds: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        // Rows r and r + 4 share a vector, so that two rounds of shuffles within 128-bit halves
        // finish the work.
        let half = |r: usize, c: usize| {
            let low = _mm256_castps128_ps256(_mm_loadu_ps(src.add(r * ss + c)));
            _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(src.add((r + 4) * ss + c)))
        };
        for c in [0, 4] {
            let (a, b, e, f) = (half(0, c), half(1, c), half(2, c), half(3, c));
            let pd = |x| _mm256_castps_pd(x);
            let (ab, ef) = (pd(_mm256_unpacklo_ps(a, b)), pd(_mm256_unpacklo_ps(e, f)));
            let (ab2, ef2) = (pd(_mm256_unpackhi_ps(a, b)), pd(_mm256_unpackhi_ps(e, f)));
            let columns = [
                _mm256_unpacklo_pd(ab, ef),
                _mm256_unpackhi_pd(ab, ef),
                _mm256_unpacklo_pd(ab2, ef2),
                _mm256_unpackhi_pd(ab2, ef2),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                _mm256_storeu_ps(dst.add((c + i) * ds), _mm256_castpd_ps(column));
            }
        }
    }
}

impl Simd for Avx512 {
    type F = __m512;
    const W: usize = 16;
    const TILE: usize = 24;

    methods! {
        prefetch(p: *const u8) -> () = _mm_prefetch::<_MM_HINT_T1>(p.cast());
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        round(a: __m512) -> __m512 = _mm512_roundscale_ps::<0>(a);
        scale2(a: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(a, n);
        keep_ge(a: __m512, x: __m512, limit: f32) -> __m512 =
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(limit)), a);
        bits(bits: u32, x: f32) -> __m512 = _mm512_maskz_mov_ps(bits as __mmask16, _mm512_set1_ps(x));
        swap_pairs(a: __m512) -> __m512 = _mm512_permute_ps::<0b10_11_00_01>(a);
        pair_sums(a: __m512, b: __m512) -> __m512 = {
            let sums = _mm512_add_ps(
                _mm512_shuffle_ps::<0b10_00_10_00>(a, b),
                _mm512_shuffle_ps::<0b11_01_11_01>(a, b),
            );
            // Within 128-bit quarters, then the eighths into their order.
            let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            _mm512_castpd_ps(_mm512_permutexvar_pd(order, _mm512_castps_pd(sums)))
        };
        sum(a: __m512) -> f32 = {
            let high = _mm512_extractf32x8_ps::<1>(a);
            Avx2(()).sum(_mm256_add_ps(_mm512_castps512_ps256(a), high))
        };
        largest(a: __m512) -> f32 = {
            let high = _mm512_extractf32x8_ps::<1>(a);
            Avx2(()).largest(_mm256_max_ps(_mm512_castps512_ps256(a), high))
        };
    }

    memory_methods! {
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        load_n(p: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps(first16(n), p);
        store(p: *mut f32, a: __m512) -> () = _mm512_storeu_ps(p, a);
        store_n(p: *mut f32, a: __m512, n: usize) -> () =
            _mm512_mask_storeu_ps(p, first16(n), a);
        load_f16(p: *const u8) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        store_f16(p: *mut u8, a: __m512) -> () =
            _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a));
        load_bf16(p: *const u8) -> __m512 = {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        };
        load_i8(p: *const u8) -> __m512 =
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())));
        nibbles(p: *const u8, levels: &[i8; 16]) -> (__m512, __m512) = {
            let (low, high) = nibbles16(_mm_loadu_si128(p.cast()), levels);
            let wide = |x| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x));
            (wide(low), wide(high))
        };
        repeat(p: *const f32, n: usize) -> __m512 = match n {
            1 => _mm512_set1_ps(*p),
            2 => _mm512_castpd_ps(_mm512_set1_pd(p.cast::<f64>().read_unaligned())),
            4 => _mm512_broadcast_f32x4(_mm_loadu_ps(p)),
            8 => _mm512_broadcast_f32x8(_mm256_loadu_ps(p)),
            _ => _mm512_loadu_ps(p),
        };
        transpose8(src: *const f32, ss: usize, dst: *mut f32, ds: usize) -> () =
            transpose8(src, ss, dst, ds);
    }
}
