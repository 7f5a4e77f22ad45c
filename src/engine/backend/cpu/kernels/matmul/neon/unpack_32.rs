//! The formats with blocks of 32 elements, and `IQ4_XS`, whose codes lie as theirs do.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, uint8x16_t, vandq_u8, vcombine_u8, vdup_n_u8, vdupq_n_u8, vld1q_f32,
    vld1q_s8, vld1q_u8, vorrq_u8, vqtbl1q_s8, vtstq_u8,
};

use super::unpack::{Scales, Weights, half, halves, nibbles_16, signed};
use crate::engine::tensor::formats::{IQ4_VALUES, MXFP4_VALUES, e8m0_half};

/// See `tensor::formats`.
pub(super) struct Q4_0;

impl Weights for Q4_0 {
    const GROUP_BYTES: usize = 8 * 18;
    const OFFSET: i8 = 8;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its scale.
        unsafe { Scales::of_32(halves::<18>(g)) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 16 bytes follow the scale of block `c`.
        unsafe { signed(nibbles_16(g.add(c * 18 + 2))) }
    }
}

/// See `tensor::formats`.
pub(super) struct Q4_1;

impl Weights for Q4_1 {
    const GROUP_BYTES: usize = 8 * 20;
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with scale and minimum.
        unsafe { Scales::affine_32(halves::<20>(g), halves::<20>(g.add(2))) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 16 bytes follow scale and minimum of block `c`.
        unsafe { signed(nibbles_16(g.add(c * 20 + 4))) }
    }
}

/// 32 bytes that are 16 where bit `i` of the four bytes at `p` is set, added to `low`.
#[inline(always)]
unsafe fn with_fifth_bits(low: [uint8x16_t; 2], p: *const u8) -> [int8x16_t; 2] {
    const SELECT: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: the caller has 4 readable bytes and NEON.
    unsafe {
        let select = vld1q_u8(SELECT.as_ptr());
        let byte = |i: usize| vdup_n_u8(*p.add(i));
        let fifth = |a: usize| {
            let set = vtstq_u8(vcombine_u8(byte(a), byte(a + 1)), select);
            vandq_u8(set, vdupq_n_u8(16))
        };
        signed([vorrq_u8(low[0], fifth(0)), vorrq_u8(low[1], fifth(2))])
    }
}

/// See `tensor::formats`.
pub(super) struct Q5_0;

impl Weights for Q5_0 {
    const GROUP_BYTES: usize = 8 * 22;
    const OFFSET: i8 = 16;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its scale.
        unsafe { Scales::of_32(halves::<22>(g)) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: scale, 4 bytes of fifth bits and 16 bytes of nibbles make block `c`.
        unsafe {
            let b = g.add(c * 22);
            with_fifth_bits(nibbles_16(b.add(6)), b.add(2))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q5_1;

impl Weights for Q5_1 {
    const GROUP_BYTES: usize = 8 * 24;
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with scale and minimum.
        unsafe { Scales::affine_32(halves::<24>(g), halves::<24>(g.add(2))) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: scale, minimum, 4 bytes of fifth bits and 16 bytes of nibbles make block `c`.
        unsafe {
            let b = g.add(c * 24);
            with_fifth_bits(nibbles_16(b.add(8)), b.add(4))
        }
    }
}

/// See `tensor::formats`.
pub(super) struct Q8_0;

impl Weights for Q8_0 {
    const GROUP_BYTES: usize = 8 * 34;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its scale.
        unsafe { Scales::of_32(halves::<34>(g)) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 32 bytes follow the scale of block `c`.
        unsafe {
            let q = g.add(c * 34 + 2).cast::<i8>();
            [vld1q_s8(q), vld1q_s8(q.add(16))]
        }
    }
}

/// The values that 32 nibbles stand for.
#[inline(always)]
unsafe fn look_up(values: &[i8; 16], nibbles: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: the table has 16 bytes; the kernel has NEON.
    unsafe {
        let table = vld1q_s8(values.as_ptr());
        [vqtbl1q_s8(table, nibbles[0]), vqtbl1q_s8(table, nibbles[1])]
    }
}

/// See `tensor::formats`.
pub(super) struct Iq4Nl;

impl Weights for Iq4Nl {
    const GROUP_BYTES: usize = 8 * 18;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its scale.
        unsafe { Scales::of_32(halves::<18>(g)) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 16 bytes follow the scale of block `c`.
        unsafe { look_up(&IQ4_VALUES, nibbles_16(g.add(c * 18 + 2))) }
    }
}

/// See `tensor::formats`. Although a super-block, its nibbles lie as in `IQ4_NL`.
pub(super) struct Iq4Xs;

impl Weights for Iq4Xs {
    const GROUP_BYTES: usize = 136;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: `d`, 2 bytes of upper and 4 bytes of lower scale bits start the block.
        unsafe {
            let d = half(g);
            let high = u32::from(g.add(2).cast::<u16>().read_unaligned());
            let low = g.add(4).cast::<u32>().read_unaligned();
            let scale = |i: usize| {
                let code = (low >> (4 * i) & 15) | (high >> (2 * i) & 3) << 4;
                d * (code as i32 - 32) as f32
            };
            Scales::of_32(vectors(scale))
        }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 8 runs of 16 bytes follow the 8 bytes of scales.
        unsafe { look_up(&IQ4_VALUES, nibbles_16(g.add(8 + c * 16))) }
    }
}

/// See `tensor::formats`.
pub(super) struct Mxfp4;

impl Weights for Mxfp4 {
    const GROUP_BYTES: usize = 8 * 17;

    #[inline(always)]
    unsafe fn scales(g: *const u8) -> Scales {
        // SAFETY: each block starts with its exponent.
        unsafe { Scales::of_32(vectors(|i| e8m0_half(*g.add(i * 17)))) }
    }

    #[inline(always)]
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2] {
        // SAFETY: 16 bytes follow the exponent of block `c`.
        unsafe { look_up(&MXFP4_VALUES, nibbles_16(g.add(c * 17 + 1))) }
    }
}

/// Eight scales, each computed by itself.
#[inline(always)]
unsafe fn vectors(scale: impl Fn(usize) -> f32) -> [float32x4_t; 2] {
    let scales: [f32; 8] = std::array::from_fn(scale);
    // SAFETY: both halves of the array are readable; the kernel has NEON.
    unsafe { [vld1q_f32(scales.as_ptr()), vld1q_f32(scales.as_ptr().add(4))] }
}
