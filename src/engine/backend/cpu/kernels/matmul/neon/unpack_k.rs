//! The K-quants: super-blocks of 256 elements.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, uint8x16_t, vandq_s8, vandq_u8, vcombine_u8, vcreate_u8, vcvtq_f32_s32,
    vdupq_n_s8, vdupq_n_u8, vget_low_s8, vget_low_s16, vld1q_s8, vld1q_u8, vmovl_high_s8,
    vmovl_high_s16, vmovl_s8, vmovl_s16, vmulq_n_f32, vorrq_u8, vreinterpretq_s8_u8,
    vreinterpretq_u8_s8, vshlq_n_u8, vshrq_n_u8, vsubq_s8, vtstq_u8,
};

use super::unpack::{Scales, Weights, half, signed};

/// 32 bytes.
#[inline(always)]
unsafe fn load(p: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller has 32 readable bytes and NEON.
    unsafe { [vld1q_u8(p), vld1q_u8(p.add(16))] }
}

/// `(byte >> shift) & mask` of each byte, with the shift picked at compile time once unrolled.
#[inline(always)]
unsafe fn bits(v: [uint8x16_t; 2], shift: usize, mask: u8) -> [uint8x16_t; 2] {
    // SAFETY: the kernel has NEON.
    unsafe {
        let one = |v: uint8x16_t| match shift {
            0 => v,
            2 => vshrq_n_u8::<2>(v),
            4 => vshrq_n_u8::<4>(v),
            _ => vshrq_n_u8::<6>(v),
        };
        let mask = vdupq_n_u8(mask);
        [vandq_u8(one(v[0]), mask), vandq_u8(one(v[1]), mask)]
    }
}

/// `low`, with `value` put into each byte whose counterpart in `v` has bit `bit`.
#[inline(always)]
unsafe fn or_where_bit(
    low: [uint8x16_t; 2],
    v: [uint8x16_t; 2],
    bit: usize,
    value: u8,
) -> [uint8x16_t; 2] {
    // SAFETY: the kernel has NEON.
    unsafe {
        let (bit, value) = (vdupq_n_u8(1 << bit), vdupq_n_u8(value));
        let one = |low, v| vorrq_u8(low, vandq_u8(vtstq_u8(v, bit), value));
        [one(low[0], v[0]), one(low[1], v[1])]
    }
}

/// 16 signed bytes times `d`.
#[inline(always)]
unsafe fn scaled(v: int8x16_t, d: f32) -> [float32x4_t; 4] {
    // SAFETY: the kernel has NEON.
    unsafe {
        let (low, high) = (vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v));
        [
            vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), d),
            vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(low)), d),
            vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), d),
            vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(high)), d),
        ]
    }
}

/// Scales of `Q4_K` and `Q5_K`: `d`, `dmin`, and 12 bytes with 8 scales and 8 minima of 6 bits.
#[inline(always)]
unsafe fn six_bit_scales(g: *const u8) -> Scales {
    // SAFETY: 16 bytes start the block.
    unsafe {
        let word = |i: usize| g.add(4 + 4 * i).cast::<u32>().read_unaligned();
        let (scales, mins, rest) = (word(0), word(1), word(2));
        // The first four of each kind lie in the lower bits of their own word; the last four have
        // their lower bits in the third word and their upper bits on top of the first four.
        let pair = |own: u32, low: u32| {
            let last = (low & 0x0f0f_0f0f) | (own >> 2 & 0x3030_3030);
            u64::from(own & 0x3f3f_3f3f) | u64::from(last) << 32
        };
        let bytes = |v: u64| vreinterpretq_s8_u8(vcombine_u8(vcreate_u8(v), vcreate_u8(0)));
        let d = scaled(bytes(pair(scales, rest)), half(g));
        let m = scaled(bytes(pair(mins, rest >> 4)), -half(g.add(2)));
        Scales::affine_32([d[0], d[1]], [m[0], m[1]])
    }
}

/// See `tensor::formats`.
pub(super) struct Q4K;

impl Weights for Q4K {
    const GROUP_BYTES: usize = 144;
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: passed on.
        unsafe { six_bit_scales(g) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 128 bytes of nibbles follow 16 of scales.
        unsafe { signed(bits(load(g.add(16 + c / 2 * 32)), c % 2 * 4, 15)) }
    }
}

/// See `tensor::formats`.
pub(super) struct Q5K;

impl Weights for Q5K {
    const GROUP_BYTES: usize = 176;
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: passed on.
        unsafe { six_bit_scales(g) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 32 bytes of fifth bits and 128 of nibbles follow 16 of scales.
        unsafe {
            let low = bits(load(g.add(48 + c / 2 * 32)), c % 2 * 4, 15);
            signed(or_where_bit(low, load(g.add(16)), c, 16))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q6K;

impl Weights for Q6K {
    const GROUP_BYTES: usize = 210;
    const BY_16: bool = true;
    const OFFSET: i8 = 32;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: 16 scales stand at 192 and `d` at 208.
        unsafe { Scales::of_16(scaled(vld1q_s8(g.add(192).cast()), half(g.add(208)))) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 128 bytes of nibbles and 64 of upper bits start the block.
        unsafe {
            let (half, part) = (c / 4, c % 4);
            let low = bits(load(g.add(64 * half + 32 * (part % 2))), part / 2 * 4, 15);
            let high = bits(load(g.add(128 + 32 * half)), 2 * part, 3);
            let join = |low, high| vorrq_u8(low, vshlq_n_u8::<4>(high));
            signed([join(low[0], high[0]), join(low[1], high[1])])
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q3K;

impl Weights for Q3K {
    const GROUP_BYTES: usize = 110;
    const BY_16: bool = true;
    const OFFSET: i8 = 4;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: 12 bytes of scales stand at 96 and `d` at 108.
        unsafe {
            let nibbles = g.add(96).cast::<u64>().read_unaligned();
            let pairs = g.add(104).cast::<u32>().read_unaligned();
            // The two upper bits of scale j are bits 2 (j / 4) of byte j % 4.
            let upper = |from: u32| {
                let four = |shift: u32| u64::from(pairs >> shift & 0x0303_0303) << 4;
                four(from) | four(from + 2) << 32
            };
            let mask = 0x0f0f_0f0f_0f0f_0f0f;
            let (low, high) = (nibbles & mask | upper(0), nibbles >> 4 & mask | upper(4));
            let scales = vreinterpretq_s8_u8(vcombine_u8(vcreate_u8(low), vcreate_u8(high)));
            Scales::of_16(scaled(vsubq_s8(scales, vdupq_n_s8(32)), half(g.add(108))))
        }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 32 bytes of third bits and 64 of pairs start the block.
        unsafe {
            let low = bits(load(g.add(32 + 32 * (c / 4))), c % 4 * 2, 3);
            signed(or_where_bit(low, load(g), c, 4))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q2K;

impl Weights for Q2K {
    const GROUP_BYTES: usize = 84;
    const BY_16: bool = true;
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: 16 bytes of scales and minima start the block; `d` and `dmin` stand at its end.
        unsafe {
            let both = vld1q_s8(g.cast());
            let scales = vandq_s8(both, vdupq_n_s8(15));
            let mins = vreinterpretq_s8_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s8(both)));
            Scales { d: scaled(scales, half(g.add(80))), m: scaled(mins, -half(g.add(82))) }
        }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 64 bytes of pairs follow the scales.
        unsafe { signed(bits(load(g.add(16 + 32 * (c / 4))), c % 4 * 2, 3)) }
    }
}
