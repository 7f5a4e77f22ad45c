//! Weights as codes and scales: the one description of a format that all NEON kernels share.
//!
//! A row is read in groups of 256 elements: a super-block of the K-quants, or 8 blocks of 32. Each
//! format says how to get 32 consecutive codes, as signed bytes because the dot product instruction
//! takes them so, and what they mean: `w = d * (code - OFFSET) + m`, with `d` and `m` per 32 or per
//! 16 elements.
//!
//! The functions are `inline(always)`: they become part of kernels that enable what they need.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, uint8x16_t, vandq_u8, vcvt_f32_f16, vcvt_high_f32_f16, vdupq_n_f32,
    vdupq_n_u8, vld1q_u8, vld1q_u16, vreinterpretq_f16_u16, vreinterpretq_s8_u8, vshrq_n_u8,
};
use std::arch::aarch64::{vcombine_u16, vcreate_u16, vget_low_f16, vgetq_lane_f32};

/// Scales and addends of a group: of its 8 sub-blocks of 32 in the first two vectors, or of its 16
/// sub-blocks of 16 in all four, in order.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    /// Scales.
    pub(super) d: [float32x4_t; 4],
    /// What to add, laid out as `d`.
    pub(super) m: [float32x4_t; 4],
}

impl Scales {
    /// One scale per 32 elements, nothing to add.
    #[inline(always)]
    pub(super) unsafe fn of_32(d: [float32x4_t; 2]) -> Self {
        // SAFETY: the kernel that this becomes part of has NEON.
        let zero = unsafe { vdupq_n_f32(0.0) };
        Self { d: [d[0], d[1], zero, zero], m: [zero; 4] }
    }

    /// One scale and one addend per 32 elements.
    #[inline(always)]
    pub(super) unsafe fn affine_32(d: [float32x4_t; 2], m: [float32x4_t; 2]) -> Self {
        // SAFETY: the kernel that this becomes part of has NEON.
        let zero = unsafe { vdupq_n_f32(0.0) };
        Self { d: [d[0], d[1], zero, zero], m: [m[0], m[1], zero, zero] }
    }

    /// One scale per 16 elements, nothing to add.
    #[inline(always)]
    pub(super) unsafe fn of_16(d: [float32x4_t; 4]) -> Self {
        // SAFETY: the kernel that this becomes part of has NEON.
        let zero = unsafe { vdupq_n_f32(0.0) };
        Self { d, m: [zero; 4] }
    }
}

/// A quantised weight format.
///
/// Safety of its functions: `g` points at a whole group, `c` is below 8, and the kernel that they
/// become part of has NEON.
pub(super) trait Weights {
    /// Bytes of a group of 256 elements.
    const GROUP_BYTES: usize;
    /// Scales stand for 16 elements instead of 32.
    const BY_16: bool = false;
    /// Subtracted from every code; codes minus this are signed bytes again.
    const OFFSET: i8 = 0;
    /// There is something to add (`m`); never together with an offset.
    const HAS_MIN: bool = false;

    /// Scales of group `g`.
    unsafe fn scales(g: *const u8) -> Scales;

    /// Codes `32 c .. 32 c + 32` of group `g`.
    unsafe fn codes(g: *const u8, c: usize) -> [int8x16_t; 2];
}

/// Both halves of 32 codes as the signed bytes that they are.
#[inline(always)]
pub(super) unsafe fn signed(v: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: the kernel has NEON.
    unsafe { [vreinterpretq_s8_u8(v[0]), vreinterpretq_s8_u8(v[1])] }
}

/// Eight `f16`s, `STRIDE` bytes apart.
///
/// # Safety
/// All are readable; the kernel has NEON.
#[inline(always)]
pub(super) unsafe fn halves<const STRIDE: usize>(p: *const u8) -> [float32x4_t; 2] {
    // SAFETY: passed on.
    unsafe {
        let mut bits = [0_u16; 8];
        for i in 0..8 {
            bits[i] = p.add(i * STRIDE).cast::<u16>().read_unaligned();
        }
        let h = vreinterpretq_f16_u16(vld1q_u16(bits.as_ptr()));
        [vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)]
    }
}

/// One `f16`.
///
/// # Safety
/// It is readable; the kernel has NEON.
#[inline(always)]
pub(super) unsafe fn half(p: *const u8) -> f32 {
    // SAFETY: passed on.
    unsafe {
        let bits = vcreate_u16(u64::from(p.cast::<u16>().read_unaligned()));
        let h = vreinterpretq_f16_u16(vcombine_u16(bits, bits));
        vgetq_lane_f32::<0>(vcvt_f32_f16(vget_low_f16(h)))
    }
}

/// The 32 nibbles of 16 bytes: the low ones, then the high ones.
///
/// # Safety
/// 16 bytes are readable; the kernel has NEON.
#[inline(always)]
pub(super) unsafe fn nibbles_16(p: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: passed on.
    unsafe {
        let bytes = vld1q_u8(p);
        [vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)]
    }
}
