//! Weights as codes and scales: the one description of a format that all x86 kernels share.
//!
//! A row is read in groups of 256 elements: a super-block of the K-quants, or 8 blocks of 32. Each
//! format says how to get 32 consecutive codes into a vector and what they mean:
//! `w = d * (code - OFFSET) + m`, with `d` and `m` per 32 or per 16 elements.
//!
//! The functions are `inline(always)` and carry no target feature of their own: they become part of
//! kernels that do.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512i, _mm_loadu_si128, _mm_setr_epi16, _mm_srli_epi16,
    _mm256_and_si256, _mm256_castsi128_si256, _mm256_cvtph_ps, _mm256_fmadd_ps,
    _mm256_inserti128_si256, _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_ps, _mm256_setzero_ps,
    _mm512_and_si512, _mm512_castsi256_si512, _mm512_inserti64x4, _mm512_permutex2var_epi64,
    _mm512_set1_epi8, _mm512_setr_epi64, _mm512_srli_epi16,
};

/// Scales and minima of a group.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    /// Scales of the 8 sub-blocks of 32, or of the 16 sub-blocks of 16 in order.
    pub(super) d: [__m256; 2],
    /// What to add, laid out as `d`.
    pub(super) m: [__m256; 2],
}

impl Scales {
    /// One scale per 32 elements, nothing to add.
    #[inline(always)]
    pub(super) unsafe fn of_32(d: __m256) -> Self {
        // SAFETY: the kernel that this becomes part of has AVX2.
        let zero = unsafe { _mm256_setzero_ps() };
        Self { d: [d, zero], m: [zero, zero] }
    }

    /// One scale and one addend per 32 elements.
    #[inline(always)]
    pub(super) unsafe fn affine_32(d: __m256, m: __m256) -> Self {
        // SAFETY: the kernel that this becomes part of has AVX2.
        let zero = unsafe { _mm256_setzero_ps() };
        Self { d: [d, zero], m: [m, zero] }
    }

    /// One scale per 16 elements, nothing to add.
    #[inline(always)]
    pub(super) unsafe fn of_16(d: [__m256; 2]) -> Self {
        // SAFETY: the kernel that this becomes part of has AVX2.
        let zero = unsafe { _mm256_setzero_ps() };
        Self { d, m: [zero, zero] }
    }

    /// Makes up for `centre` being taken off every code.
    #[inline(always)]
    pub(super) unsafe fn centre(&mut self, centre: f32) {
        for h in 0..2 {
            // SAFETY: the kernel that this becomes part of has AVX2 and FMA.
            self.m[h] = unsafe { _mm256_fmadd_ps(self.d[h], _mm256_set1_ps(centre), self.m[h]) };
        }
    }
}

/// A quantised weight format.
///
/// Safety of its functions: `g` points at a whole group, and the kernel that they become part of
/// has AVX2, FMA and F16C (`codes512`: AVX-512F too).
pub(super) trait Weights {
    /// Bytes of a group of 256 elements.
    const GROUP_BYTES: usize;
    /// Scales stand for 16 elements instead of 32.
    const BY_16: bool = false;
    /// Subtracted from every code; 0 or a power of two.
    const OFFSET: i32 = 0;
    /// There is something to add (`m`); never together with an offset.
    const HAS_MIN: bool = false;
    /// No code is larger. Above 63, codes are `signed value + 128`.
    const MAX_CODE: i32;

    /// Scales of group `g`.
    unsafe fn scales(g: *const u8) -> Scales;

    /// Codes `32 c .. 32 c + 32` of group `g`, as unsigned bytes.
    unsafe fn codes(g: *const u8, c: usize) -> __m256i;

    /// Blocks of 32 are 16 bytes with two codes each, so that halves of blocks are what is cheap to
    /// get ([`Weights::halves512`]). Never together with `BY_16`.
    const HALVES: bool = false;

    /// First and second halves of the four blocks of codes `128 c .. 128 c + 128` of group `g`.
    #[inline(always)]
    unsafe fn halves512(g: *const u8, c: usize) -> [__m512i; 2] {
        // SAFETY: passed on.
        unsafe { split_blocks(Self::codes512(g, 2 * c), Self::codes512(g, 2 * c + 1)) }
    }

    /// Codes `64 c .. 64 c + 64` of group `g`.
    #[inline(always)]
    unsafe fn codes512(g: *const u8, c: usize) -> __m512i {
        // SAFETY: passed on.
        unsafe { join(Self::codes(g, 2 * c), Self::codes(g, 2 * c + 1)) }
    }
}

/// Two halves of 32 bytes, in order.
///
/// # Safety
/// The kernel has AVX-512F.
#[inline(always)]
pub(super) unsafe fn join(low: __m256i, high: __m256i) -> __m512i {
    // SAFETY: passed on.
    unsafe { _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high) }
}

/// First and second halves of four blocks of 32 bytes.
///
/// # Safety
/// The kernel has AVX-512F.
#[inline(always)]
pub(super) unsafe fn split_blocks(ab: __m512i, cd: __m512i) -> [__m512i; 2] {
    // SAFETY: passed on.
    unsafe {
        let first = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13);
        let second = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15);
        [_mm512_permutex2var_epi64(ab, first, cd), _mm512_permutex2var_epi64(ab, second, cd)]
    }
}

/// Two runs of 16 bytes, `stride` bytes apart.
///
/// # Safety
/// They are readable; the kernel has AVX2.
#[inline(always)]
unsafe fn two_runs(p: *const u8, stride: usize) -> __m256i {
    // SAFETY: passed on.
    unsafe {
        let first = _mm256_castsi128_si256(_mm_loadu_si128(p.cast::<__m128i>()));
        _mm256_inserti128_si256::<1>(first, _mm_loadu_si128(p.add(stride).cast::<__m128i>()))
    }
}

/// Low and high nibbles of four runs of 16 bytes, `stride` bytes apart.
///
/// # Safety
/// They are readable; the kernel has AVX-512BW.
#[inline(always)]
pub(super) unsafe fn nibbles_4x16(p: *const u8, stride: usize) -> [__m512i; 2] {
    // SAFETY: passed on.
    unsafe {
        let bytes = join(two_runs(p, stride), two_runs(p.add(2 * stride), stride));
        let nibble = _mm512_set1_epi8(15);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
        [_mm512_and_si512(bytes, nibble), high]
    }
}

/// Eight `f16`s, `STRIDE` bytes apart.
///
/// # Safety
/// All are readable; the kernel has F16C.
#[inline(always)]
pub(super) unsafe fn halves<const STRIDE: usize>(p: *const u8) -> __m256 {
    // SAFETY: passed on.
    unsafe {
        let h = |i: usize| p.add(i * STRIDE).cast::<i16>().read_unaligned();
        _mm256_cvtph_ps(_mm_setr_epi16(h(0), h(1), h(2), h(3), h(4), h(5), h(6), h(7)))
    }
}

/// One `f16`.
///
/// # Safety
/// It is readable; the kernel has F16C.
#[inline(always)]
pub(super) unsafe fn half(p: *const u8) -> f32 {
    use std::arch::x86_64::{_mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32};
    // SAFETY: passed on.
    unsafe {
        let bits = i32::from(p.cast::<u16>().read_unaligned());
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
    }
}

/// The 32 nibbles of 16 bytes: the low ones, then the high ones.
///
/// # Safety
/// 16 bytes are readable; the kernel has AVX2.
#[inline(always)]
pub(super) unsafe fn nibbles_16(p: *const u8) -> __m256i {
    // SAFETY: passed on.
    unsafe {
        let bytes = _mm_loadu_si128(p.cast::<__m128i>());
        let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
        _mm256_and_si256(both, _mm256_set1_epi8(15))
    }
}
