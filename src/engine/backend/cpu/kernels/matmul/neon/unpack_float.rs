//! The plain weight types, converted to `f32` as they are read.

use std::arch::aarch64::{
    float32x4_t, vcvt_f32_f16, vld1_u16, vld1q_f32, vreinterpret_f16_u16, vreinterpretq_f32_u32,
    vshll_n_u16,
};

use super::unpack::half;

/// A weight type without blocks.
///
/// Safety of its functions: the elements are readable, at any address, and the kernel that the
/// functions become part of has NEON.
pub(super) trait Floats {
    /// Bytes of an element.
    const BYTES: usize;
    /// One element.
    unsafe fn load1(p: *const u8) -> f32;
    /// 4 elements.
    unsafe fn load4(p: *const u8) -> float32x4_t;
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
    unsafe fn load4(p: *const u8) -> float32x4_t {
        // SAFETY: the contract of the trait.
        unsafe { vld1q_f32(p.cast()) }
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
    unsafe fn load4(p: *const u8) -> float32x4_t {
        // SAFETY: the contract of the trait.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p.cast()))) }
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
    unsafe fn load4(p: *const u8) -> float32x4_t {
        // SAFETY: the contract of the trait.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p.cast()))) }
    }
}
