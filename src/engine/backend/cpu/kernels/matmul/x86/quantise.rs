//! Activations to 8 bits with AVX2, a block of 32 at a time.

use std::arch::x86_64::{
    __m256i, _mm_cvtsi128_si32, _mm_max_epu32, _mm_shuffle_epi32, _mm256_add_epi16,
    _mm256_and_si256, _mm256_castsi256_si128, _mm256_cvtps_epi32, _mm256_extract_epi32,
    _mm256_extracti128_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maddubs_epi16,
    _mm256_max_epu32, _mm256_mul_ps, _mm256_packs_epi16, _mm256_packs_epi32,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi8, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setr_epi32, _mm256_shuffle_epi32, _mm256_storeu_si256,
};

use super::super::activations::{BLOCK, Row, block, scale_of};

/// Quantises `x` into `row`.
///
/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn quantise_row(x: &[f32], mut row: Row) {
    let mut room = [0.0; BLOCK];
    for b in 0..row.q.len() {
        // SAFETY: the row has the block; the processor has AVX2.
        unsafe { quantise_block(block(x, b, &mut room), b, &mut row) };
    }
}

/// Quantises block `b` of a row.
///
/// # Safety
/// The row has the block; inlined where AVX2 is enabled.
#[inline(always)]
unsafe fn quantise_block(x: &[f32; BLOCK], b: usize, row: &mut Row) {
    // SAFETY: 32 floats are readable at `x` and 32 codes writable at block `b`.
    unsafe {
        let part = |i: usize| x.as_ptr().add(8 * i);
        let magnitude = _mm256_set1_epi32(0x7fff_ffff);
        let mut bits = [_mm256_set1_epi32(0); 4];
        for i in 0..4 {
            bits[i] = _mm256_and_si256(_mm256_loadu_si256(part(i).cast()), magnitude);
        }
        // Magnitudes compare like their bits, and NaN is above them all.
        let largest = _mm256_max_epu32(
            _mm256_max_epu32(bits[0], bits[1]),
            _mm256_max_epu32(bits[2], bits[3]),
        );
        let (s, inverse) = scale_of(f32::from_bits(max_u32(largest)));
        let factor = _mm256_set1_ps(inverse);
        let mut codes = [_mm256_set1_epi32(0); 4];
        for i in 0..4 {
            codes[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(part(i)), factor));
        }
        // Packing works in halves of 128 bits; the permutation puts its result in order.
        let words =
            [_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3])];
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words[0], words[1]), order);
        _mm256_storeu_si256(row.q[b].as_mut_ptr().cast::<__m256i>(), q);
        // Sums of neighbours, then of every second sum within 16 elements.
        let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
        let pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32::<0b01_00_11_10>(pairs));
        let pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32::<0b10_11_00_01>(pairs));
        let split = |both: i32| [both as i16, (both >> 16) as i16];
        let (low, high) = (_mm256_extract_epi32::<0>(pairs), _mm256_extract_epi32::<4>(pairs));
        row.note(b, s, [split(low), split(high)]);
    }
}

/// The largest lane.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn max_u32(v: __m256i) -> u32 {
    // SAFETY: passed on.
    unsafe {
        let v = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_max_epu32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
        _mm_cvtsi128_si32(_mm_max_epu32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v))) as u32
    }
}
