//! [`Simd`] in plain Rust: the reference, and what runs where no instruction set is known.
//!
//! Arrays of eight, because compilers turn loops over them into whatever vectors the target has.

use half::{bf16, f16};

use super::Simd;

/// The token of plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type F = [f32; 8];

#[inline(always)]
fn zip(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type F = F;
    const W: usize = 8;
    const TILE: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [x; 8]
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        // Not `mul_add`: without the instruction that is a call per lane.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        // Adding 1.5 · 2^23 pushes the fraction out of the mantissa.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|x| (x + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn scale2(self, a: F, n: F) -> F {
        zip(a, n, |a, n| a * f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    fn keep_ge(self, a: F, x: F, limit: f32) -> F {
        zip(a, x, |a, x| if x >= limit { a } else { 0.0 })
    }
    #[inline(always)]
    fn swap_pairs(self, a: F) -> F {
        std::array::from_fn(|i| a[i ^ 1])
    }
    #[inline(always)]
    fn pair_sums(self, a: F, b: F) -> F {
        let sums = |x: F, i: usize| x[2 * i] + x[2 * i + 1];
        std::array::from_fn(|i| if i < 4 { sums(a, i) } else { sums(b, i - 4) })
    }
    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn largest(self, a: F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> F {
        // SAFETY: the caller vouches for eight floats.
        unsafe { p.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> F {
        // SAFETY: the caller vouches for `n` floats.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: F) {
        // SAFETY: the caller vouches for eight floats.
        unsafe { p.cast::<F>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, a: F, n: usize) {
        for (i, x) in a.into_iter().enumerate().take(n) {
            // SAFETY: the caller vouches for `n` floats.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> F {
        // SAFETY: the caller vouches for eight halves.
        let bits = unsafe { p.cast::<[u16; 8]>().read_unaligned() };
        bits.map(|b| f16::from_bits(b).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u8, a: F) {
        let bits = a.map(|x| f16::from_f32(x).to_bits());
        // SAFETY: the caller vouches for eight halves.
        unsafe { p.cast::<[u16; 8]>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u8) -> F {
        // SAFETY: the caller vouches for eight halves.
        let bits = unsafe { p.cast::<[u16; 8]>().read_unaligned() };
        bits.map(|b| bf16::from_bits(b).to_f32())
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> F {
        // SAFETY: the caller vouches for eight bytes.
        unsafe { p.cast::<[i8; 8]>().read_unaligned() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn transpose8(self, src: *const f32, ss: usize, dst: *mut f32, ds: usize) {
        for r in 0..8 {
            for c in 0..8 {
                // SAFETY: the caller vouches for 8×8 floats on both sides.
                unsafe { *dst.add(c * ds + r) = *src.add(r * ss + c) }
            }
        }
    }
}
