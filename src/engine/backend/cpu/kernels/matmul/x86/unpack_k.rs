//! The K-quants: super-blocks of 256 elements.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512i, _mm_and_si128, _mm_cvtsi64_si128, _mm_loadu_si128,
    _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_slli_epi16, _mm_srli_epi16, _mm_srli_si128,
    _mm_sub_epi8, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi32, _mm256_loadu_si256, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_set1_ps, _mm256_slli_epi16, _mm256_srli_epi16, _mm512_and_si512, _mm512_set1_epi8,
};

use super::unpack::{Scales, Weights, half, join};

/// 32 bytes.
#[inline(always)]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: the caller has 32 readable bytes and AVX2.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// `(bytes >> SHIFT) & mask` in each byte, with the shift picked at compile time once unrolled.
#[inline(always)]
unsafe fn bits(v: __m256i, shift: usize, mask: i8) -> __m256i {
    // SAFETY: the kernel has AVX2.
    unsafe {
        let v = match shift {
            0 => v,
            2 => _mm256_srli_epi16::<2>(v),
            4 => _mm256_srli_epi16::<4>(v),
            _ => _mm256_srli_epi16::<6>(v),
        };
        _mm256_and_si256(v, _mm256_set1_epi8(mask))
    }
}

/// `value` in each byte of `v` that has bit `bit`.
#[inline(always)]
unsafe fn where_bit(v: __m256i, bit: usize, value: i8) -> __m256i {
    // SAFETY: the kernel has AVX2.
    unsafe {
        let bit = _mm256_set1_epi8((1_u8 << bit) as i8);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit);
        _mm256_and_si256(set, _mm256_set1_epi8(value))
    }
}

/// 8 unsigned bytes times `d`.
#[inline(always)]
unsafe fn scaled_u8(bytes: u64, d: f32) -> __m256 {
    // SAFETY: the kernel has AVX2.
    unsafe {
        let v = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64));
        _mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_set1_ps(d))
    }
}

/// 16 signed bytes times `d`.
#[inline(always)]
unsafe fn scaled_i8(v: __m128i, d: f32) -> [__m256; 2] {
    // SAFETY: the kernel has AVX2.
    unsafe {
        let d = _mm256_set1_ps(d);
        [
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)), d),
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(v))), d),
        ]
    }
}

/// Scales of `Q4_K` and `Q5_K`: `d`, `dmin`, and 12 bytes with 8 scales and 8 minima of 6 bits.
#[inline(always)]
unsafe fn six_bit_scales(g: *const u8) -> Scales {
    // SAFETY: 16 bytes start the block.
    unsafe {
        let word = |i: usize| g.add(4 + 4 * i).cast::<u32>().read_unaligned();
        let (a, b, c) = (word(0), word(1), word(2));
        let top = |v: u32| (v >> 6 & 0x0303_0303) << 4;
        let scales = u64::from(a & 0x3f3f_3f3f) | u64::from(c & 0x0f0f_0f0f | top(a)) << 32;
        let mins = u64::from(b & 0x3f3f_3f3f) | u64::from(c >> 4 & 0x0f0f_0f0f | top(b)) << 32;
        Scales::affine_32(scaled_u8(scales, half(g)), scaled_u8(mins, -half(g.add(2))))
    }
}

/// See `tensor::formats`.
pub(super) struct Q4K;

impl Weights for Q4K {
    const GROUP_BYTES: usize = 144;
    const HAS_MIN: bool = true;
    const MAX_CODE: i32 = 15;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: passed on.
        unsafe { six_bit_scales(g) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 128 bytes of nibbles follow 16 of scales; `c` is below 8.
        unsafe { bits(load(g.add(16 + c / 2 * 32)), c % 2 * 4, 15) }
    }

    #[inline(always)]
    unsafe fn codes512(g: *const u8, c: usize) -> __m512i {
        // SAFETY: as for `codes`.
        unsafe {
            let v = load(g.add(16 + c * 32));
            _mm512_and_si512(join(v, _mm256_srli_epi16::<4>(v)), _mm512_set1_epi8(15))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q5K;

impl Weights for Q5K {
    const GROUP_BYTES: usize = 176;
    const HAS_MIN: bool = true;
    const MAX_CODE: i32 = 31;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: passed on.
        unsafe { six_bit_scales(g) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 32 bytes of fifth bits and 128 of nibbles follow 16 of scales; `c` is below 8.
        unsafe {
            let low = bits(load(g.add(48 + c / 2 * 32)), c % 2 * 4, 15);
            _mm256_or_si256(low, where_bit(load(g.add(16)), c, 16))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q6K;

impl Weights for Q6K {
    const GROUP_BYTES: usize = 210;
    const BY_16: bool = true;
    const OFFSET: i32 = 32;
    const MAX_CODE: i32 = 63;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: 16 scales stand at 192 and `d` at 208.
        unsafe {
            let scales = _mm_loadu_si128(g.add(192).cast());
            Scales::of_16(scaled_i8(scales, half(g.add(208))))
        }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 128 bytes of nibbles and 64 of upper bits start the block; `c` is below 8.
        unsafe {
            let (half, part) = (c / 4, c % 4);
            let low = bits(load(g.add(64 * half + 32 * (part % 2))), part / 2 * 4, 15);
            let high = bits(load(g.add(128 + 32 * half)), 2 * part, 3);
            _mm256_or_si256(low, _mm256_slli_epi16::<4>(high))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q3K;

impl Weights for Q3K {
    const GROUP_BYTES: usize = 110;
    const BY_16: bool = true;
    const OFFSET: i32 = 4;
    const MAX_CODE: i32 = 7;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: 12 bytes of scales stand at 96 and `d` at 108.
        unsafe {
            let low = g.add(96).cast::<u64>().read_unaligned();
            let high = u64::from(g.add(104).cast::<u32>().read_unaligned());
            let nibble = 0x0f0f_0f0f_0f0f_0f0f;
            let low = _mm_set_epi64x((low >> 4 & nibble) as i64, (low & nibble) as i64);
            // The two upper bits of scale j are bits 2 (j / 4) of byte j % 4.
            let pair = |shift: u32| high >> shift & 0x0303_0303;
            let high =
                _mm_set_epi64x((pair(4) | pair(6) << 32) as i64, (pair(0) | pair(2) << 32) as i64);
            let scales = _mm_or_si128(low, _mm_slli_epi16::<4>(high));
            let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
            Scales::of_16(scaled_i8(scales, half(g.add(108))))
        }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 32 bytes of third bits and 64 of pairs start the block; `c` is below 8.
        unsafe {
            let low = bits(load(g.add(32 + 32 * (c / 4))), c % 4 * 2, 3);
            _mm256_or_si256(low, where_bit(load(g), c, 4))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q2K;

impl Weights for Q2K {
    const GROUP_BYTES: usize = 84;
    const BY_16: bool = true;
    const HAS_MIN: bool = true;
    const MAX_CODE: i32 = 3;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: 16 bytes of scales and minima start the block; `d` and `dmin` stand at its end.
        unsafe {
            let both = _mm_loadu_si128(g.cast());
            let nibble = _mm_set1_epi8(15);
            let scales = _mm_and_si128(both, nibble);
            let mins = _mm_and_si128(_mm_srli_epi16::<4>(both), nibble);
            Scales { d: scaled_i8(scales, half(g.add(80))), m: scaled_i8(mins, -half(g.add(82))) }
        }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> __m256i {
        // SAFETY: 64 bytes of pairs follow the scales; `c` is below 8.
        unsafe { bits(load(g.add(16 + 32 * (c / 4))), c % 4 * 2, 3) }
    }
}
