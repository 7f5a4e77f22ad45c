//! [`Simd`] for 64-bit Arm: NEON, whose vectors hold four floats.
//!
//! The set that detection looks for also has the dot product instruction, which nothing here uses:
//! it matters to the quantised products only. As in the other files of this kind, the token `self`
//! exists only where [`super::dispatch`] was promised the instruction set, and whoever calls an
//! `unsafe` method vouches for the memory behind its pointers; all blocks rest on that.

#[allow(clippy::wildcard_imports, reason = "a list of all the intrinsics helps nobody")]
use std::arch::aarch64::*;

use super::{Kernel, Simd};

/// The token of NEON.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

/// Runs `kernel` on NEON.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn run_neon<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Neon(()))
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

impl Simd for Neon {
    type F = float32x4_t;
    const W: usize = 4;
    // Of 32 registers, 24 accumulate; the rest holds a line of operands and a factor.
    const TILE: usize = 24;

    methods! {
        // Into the second-level cache. Assembly, because the intrinsic is not stable.
        prefetch(p: *const u8) -> () = std::arch::asm!(
            "prfm pldl2keep, [{p}]",
            p = in(reg) p,
            options(readonly, nostack, preserves_flags),
        );
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmaxq_f32(a, b);
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t = vminq_f32(a, b);
        round(a: float32x4_t) -> float32x4_t = vrndnq_f32(a);
        scale2(a: float32x4_t, n: float32x4_t) -> float32x4_t = {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        };
        keep_ge(a: float32x4_t, x: float32x4_t, limit: f32) -> float32x4_t = {
            let keep = vcgeq_f32(x, vdupq_n_f32(limit));
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), keep))
        };
        bits(bits: u32, x: f32) -> float32x4_t = {
            const LANES: [u32; 4] = [1, 2, 4, 8];
            let set = vtstq_u32(vdupq_n_u32(bits), vld1q_u32(LANES.as_ptr()));
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(vdupq_n_f32(x)), set))
        };
        swap_pairs(a: float32x4_t) -> float32x4_t = vrev64q_f32(a);
        pair_sums(a: float32x4_t, b: float32x4_t) -> float32x4_t = vpaddq_f32(a, b);
        sum(a: float32x4_t) -> f32 = vaddvq_f32(a);
        largest(a: float32x4_t) -> f32 = vmaxvq_f32(a);
    }

    memory_methods! {
        load(p: *const f32) -> float32x4_t = vld1q_f32(p);
        load_n(p: *const f32, n: usize) -> float32x4_t = {
            if n >= 4 {
                vld1q_f32(p)
            } else {
                let mut lanes = [0.0_f32; 4];
                for i in 0..n {
                    lanes[i] = *p.add(i);
                }
                vld1q_f32(lanes.as_ptr())
            }
        };
        store(p: *mut f32, a: float32x4_t) -> () = vst1q_f32(p, a);
        store_n(p: *mut f32, a: float32x4_t, n: usize) -> () = {
            if n >= 4 {
                vst1q_f32(p, a);
            } else {
                let mut lanes = [0.0_f32; 4];
                vst1q_f32(lanes.as_mut_ptr(), a);
                for i in 0..n {
                    *p.add(i) = lanes[i];
                }
            }
        };
        load_f16(p: *const u8) -> float32x4_t =
            vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p.cast())));
        store_f16(p: *mut u8, a: float32x4_t) -> () =
            vst1_u16(p.cast(), vreinterpret_u16_f16(vcvt_f16_f32(a)));
        load_bf16(p: *const u8) -> float32x4_t =
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p.cast())));
        load_i8(p: *const u8) -> float32x4_t = {
            widen(vcreate_s8(u64::from(p.cast::<u32>().read_unaligned())))
        };
        repeat(p: *const f32, n: usize) -> float32x4_t = match n {
            1 => vdupq_n_f32(*p),
            2 => {
                let two = vld1_f32(p);
                vcombine_f32(two, two)
            }
            _ => vld1q_f32(p),
        };
        nibbles(p: *const u8, levels: &[i8; 16]) -> (float32x4_t, float32x4_t) = {
            let levels = vld1q_s8(levels.as_ptr());
            let bytes = vcreate_u8(u64::from(p.cast::<u32>().read_unaligned()));
            let low = vqtbl1_s8(levels, vand_u8(bytes, vdup_n_u8(15)));
            let high = vqtbl1_s8(levels, vshr_n_u8::<4>(bytes));
            (widen(low), widen(high))
        };
        transpose8(src: *const f32, ss: usize, dst: *mut f32, ds: usize) -> () = {
            for r in [0, 4] {
                for c in [0, 4] {
                    transpose4(src.add(r * ss + c), ss, dst.add(c * ds + r), ds);
                }
            }
        };
    }
}

/// The first four of eight signed bytes, as floats.
///
/// # Safety
/// NEON is present.
#[inline(always)]
unsafe fn widen(bytes: int8x8_t) -> float32x4_t {
    // SAFETY: as the caller vouches.
    unsafe { vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes)))) }
}

/// Writes the transpose of the 4×4 floats at `src` to `dst`.
///
/// # Safety
/// Four floats of four rows are readable at `src` and writable at `dst`; NEON is present.
#[inline(always)]
unsafe fn transpose4(src: *const f32, ss: usize, dst: *mut f32, ds: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        let row = |r: usize| vld1q_f32(src.add(r * ss));
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        // Even and odd columns of two rows each, as pairs of floats.
        let (ab, cd) =
            (vreinterpretq_f64_f32(vtrn1q_f32(a, b)), vreinterpretq_f64_f32(vtrn1q_f32(c, d)));
        let (ab_odd, cd_odd) =
            (vreinterpretq_f64_f32(vtrn2q_f32(a, b)), vreinterpretq_f64_f32(vtrn2q_f32(c, d)));
        let columns = [
            vzip1q_f64(ab, cd),
            vzip1q_f64(ab_odd, cd_odd),
            vzip2q_f64(ab, cd),
            vzip2q_f64(ab_odd, cd_odd),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            vst1q_f32(dst.add(i * ds), vreinterpretq_f32_f64(column));
        }
    }
}
