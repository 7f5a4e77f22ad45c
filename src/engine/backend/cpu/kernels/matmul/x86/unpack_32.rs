//! The formats with blocks of 32 elements.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512i, _mm_loadu_si128, _mm256_add_epi32, _mm256_and_si256,
    _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi8,
    _mm256_cmpgt_epi32, _mm256_loadu_si256, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_setr_epi32, _mm256_setr_epi64x, _mm256_shuffle_epi8,
    _mm256_slli_epi32, _mm256_sllv_epi32, _mm256_xor_si256, _mm512_broadcast_i32x4,
    _mm512_shuffle_epi8,
};

use super::unpack::{Scales, Weights, half, halves, nibbles_4x16, nibbles_16};

/// See `tensor::formats`.
pub(super) struct Q4_0;

impl Weights for Q4_0 {
    const GROUP_BYTES: usize = 8 * 18;
    const OFFSET: i32 = 8;
    const MAX_CODE: i32 = 15;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its scale.
        unsafe { Scales::of_32(halves::<18>(g)) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 16 bytes follow the scale of block `c`.
        unsafe { nibbles_16(g.add(c * 18 + 2)) }
    }

    #[inline(always)]
    unsafe fn halves512(g: *const u8, c: usize) -> [__m512i; 2] {
        // SAFETY: as for `codes`.
        unsafe { nibbles_4x16(g.add(c * 72 + 2), 18) }
    }
}

/// See `tensor::formats`.
pub(super) struct Q4_1;

impl Weights for Q4_1 {
    const GROUP_BYTES: usize = 8 * 20;
    const HAS_MIN: bool = true;
    const MAX_CODE: i32 = 15;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with scale and minimum.
        unsafe { Scales::affine_32(halves::<20>(g), halves::<20>(g.add(2))) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 16 bytes follow scale and minimum of block `c`.
        unsafe { nibbles_16(g.add(c * 20 + 4)) }
    }

    #[inline(always)]
    unsafe fn halves512(g: *const u8, c: usize) -> [__m512i; 2] {
        // SAFETY: as for `codes`.
        unsafe { nibbles_4x16(g.add(c * 80 + 4), 20) }
    }
}

/// 32 bytes that are 16 where bit `i` of the `u32` at `p` is set.
#[inline(always)]
unsafe fn fifth_bits(p: *const u8) -> __m256i {
    // SAFETY: the caller has 4 readable bytes and AVX2.
    unsafe {
        let bits = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
        let spread = _mm256_setr_epi64x(
            0x0000_0000_0000_0000,
            0x0101_0101_0101_0101,
            0x0202_0202_0202_0202,
            0x0303_0303_0303_0303,
        );
        let select = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, spread), select);
        _mm256_and_si256(_mm256_cmpeq_epi8(bits, select), _mm256_set1_epi8(16))
    }
}

/// See `tensor::formats`.
pub(super) struct Q5_0;

impl Weights for Q5_0 {
    const GROUP_BYTES: usize = 8 * 22;
    const OFFSET: i32 = 16;
    const MAX_CODE: i32 = 31;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its scale.
        unsafe { Scales::of_32(halves::<22>(g)) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: scale, 4 bytes of fifth bits and 16 bytes of nibbles make block `c`.
        unsafe {
            let b = g.add(c * 22);
            _mm256_or_si256(nibbles_16(b.add(6)), fifth_bits(b.add(2)))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q5_1;

impl Weights for Q5_1 {
    const GROUP_BYTES: usize = 8 * 24;
    const HAS_MIN: bool = true;
    const MAX_CODE: i32 = 31;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with scale and minimum.
        unsafe { Scales::affine_32(halves::<24>(g), halves::<24>(g.add(2))) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: scale, minimum, 4 bytes of fifth bits and 16 bytes of nibbles make block `c`.
        unsafe {
            let b = g.add(c * 24);
            _mm256_or_si256(nibbles_16(b.add(8)), fifth_bits(b.add(4)))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q8_0;

impl Weights for Q8_0 {
    const GROUP_BYTES: usize = 8 * 34;
    const OFFSET: i32 = 128;
    const MAX_CODE: i32 = 255;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its scale.
        unsafe { Scales::of_32(halves::<34>(g)) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 32 bytes follow the scale of block `c`.
        unsafe {
            let q = _mm256_loadu_si256(g.add(c * 34 + 2).cast());
            _mm256_xor_si256(q, _mm256_set1_epi8(-128))
        }
    }
}

/// The 16 values of `IQ4_NL` and `IQ4_XS`, each plus 128.
const IQ4_CODES: [u8; 16] =
    [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

/// Looks up 32 nibbles.
#[inline(always)]
unsafe fn look_up(table: &[u8; 16], nibbles: __m256i) -> __m256i {
    // SAFETY: the table has 16 bytes; the kernel has AVX2.
    unsafe {
        let table = _mm_loadu_si128(table.as_ptr().cast::<__m128i>());
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles)
    }
}

/// Looks up twice 64 nibbles.
#[inline(always)]
unsafe fn look_up_512(table: &[u8; 16], nibbles: [__m512i; 2]) -> [__m512i; 2] {
    // SAFETY: the table has 16 bytes; the kernel has AVX-512BW.
    unsafe {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast::<__m128i>()));
        [_mm512_shuffle_epi8(table, nibbles[0]), _mm512_shuffle_epi8(table, nibbles[1])]
    }
}

/// See `tensor::formats`.
pub(super) struct Iq4Nl;

impl Weights for Iq4Nl {
    const GROUP_BYTES: usize = 8 * 18;
    const OFFSET: i32 = 128;
    const MAX_CODE: i32 = 255;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its scale.
        unsafe { Scales::of_32(halves::<18>(g)) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 16 bytes follow the scale of block `c`.
        unsafe { look_up(&IQ4_CODES, nibbles_16(g.add(c * 18 + 2))) }
    }

    #[inline(always)]
    unsafe fn halves512(g: *const u8, c: usize) -> [__m512i; 2] {
        // SAFETY: as for `codes`.
        unsafe { look_up_512(&IQ4_CODES, nibbles_4x16(g.add(c * 72 + 2), 18)) }
    }
}

/// See `tensor::formats`. Although a super-block, its nibbles lie as in `IQ4_NL`.
pub(super) struct Iq4Xs;

impl Weights for Iq4Xs {
    const GROUP_BYTES: usize = 136;
    const OFFSET: i32 = 128;
    const MAX_CODE: i32 = 255;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        use std::arch::x86_64::{
            _mm256_cvtepi32_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_srlv_epi32, _mm256_sub_epi32,
        };
        // SAFETY: `d`, 2 bytes of upper and 4 bytes of lower scale bits start the block.
        unsafe {
            let high = _mm256_set1_epi32(i32::from(g.add(2).cast::<u16>().read_unaligned()));
            let low = _mm256_set1_epi32(g.add(4).cast::<i32>().read_unaligned());
            let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
            let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
            let scale = _mm256_or_si256(
                _mm256_and_si256(low, _mm256_set1_epi32(15)),
                _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3))),
            );
            let scale = _mm256_cvtepi32_ps(_mm256_sub_epi32(scale, _mm256_set1_epi32(32)));
            Scales::of_32(_mm256_mul_ps(scale, _mm256_set1_ps(half(g))))
        }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 8 runs of 16 bytes follow the 8 bytes of scales.
        unsafe { look_up(&IQ4_CODES, nibbles_16(g.add(8 + c * 16))) }
    }

    #[inline(always)]
    unsafe fn halves512(g: *const u8, c: usize) -> [__m512i; 2] {
        // SAFETY: as for `codes`.
        unsafe { look_up_512(&IQ4_CODES, nibbles_4x16(g.add(8 + c * 64), 16)) }
    }
}

/// The 16 doubled values of `MXFP4`, each plus 16.
const MXFP4_CODES: [u8; 16] = [16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4];

/// See `tensor::formats`.
pub(super) struct Mxfp4;

impl Weights for Mxfp4 {
    const GROUP_BYTES: usize = 8 * 17;
    const OFFSET: i32 = 16;
    const MAX_CODE: i32 = 31;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its exponent.
        unsafe {
            let e = |i: usize| i32::from(*g.add(i * 17));
            let e = _mm256_setr_epi32(e(0), e(1), e(2), e(3), e(4), e(5), e(6), e(7));
            Scales::of_32(half_power(e))
        }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 16 bytes follow the exponent of block `c`.
        unsafe { look_up(&MXFP4_CODES, nibbles_16(g.add(c * 17 + 1))) }
    }

    #[inline(always)]
    unsafe fn halves512(g: *const u8, c: usize) -> [__m512i; 2] {
        // SAFETY: as for `codes`.
        unsafe { look_up_512(&MXFP4_CODES, nibbles_4x16(g.add(c * 68 + 1), 17)) }
    }
}

/// `2^(e - 128)`: the exponents of the format, halved because its values are stored doubled. The
/// two smallest results are subnormal, which the exponent field alone cannot express.
#[inline(always)]
unsafe fn half_power(e: __m256i) -> __m256 {
    // SAFETY: the kernel has AVX2.
    unsafe {
        let normal = _mm256_slli_epi32::<23>(_mm256_add_epi32(e, _mm256_set1_epi32(-1)));
        let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
        let is_normal = _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1));
        _mm256_castsi256_ps(_mm256_blendv_epi8(subnormal, normal, is_normal))
    }
}
