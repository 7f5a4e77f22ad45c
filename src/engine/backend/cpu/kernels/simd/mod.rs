//! One small vocabulary of vector operations, so that a kernel is written once and compiled for
//! each instruction set.
//!
//! A [`Simd`] value is a token: having one means that the instruction set is present, which is why
//! arithmetic on it is safe. Tokens are made in [`dispatch`] only. Everything between there and the
//! intrinsics is `#[inline(always)]`, because code that is not inlined into the function which
//! enables the instruction set would not be compiled for it.
//!
//! Not a general SIMD library: it has what the kernels of this folder use.

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::engine::backend::cpu::Isa;

/// Vectors of `W` floats of one instruction set.
pub(super) trait Simd: Copy {
    /// A vector.
    type F: Copy;
    /// Floats per vector.
    const W: usize;
    /// Vectors that stay in registers as accumulators, with room left for operands.
    const TILE: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the instruction set can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger of each lane; lanes must not be NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller of each lane; lanes must not be NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Nearest integer of each lane, half to even; lanes stay within ±2^22.
    fn round(self, a: Self::F) -> Self::F;
    /// `a * 2^n` for whole `n` in `-126..=127`.
    fn scale2(self, a: Self::F, n: Self::F) -> Self::F;
    /// `a` where `x >= limit`, else 0.
    fn keep_ge(self, a: Self::F, x: Self::F, limit: f32) -> Self::F;
    /// Neighbours change places: `(1, 0, 3, 2, …)`.
    fn swap_pairs(self, a: Self::F) -> Self::F;
    /// Sums of neighbours, those of `a` before those of `b`: `(a0 + a1, a2 + a3, …, b0 + b1, …)`.
    fn pair_sums(self, a: Self::F, b: Self::F) -> Self::F;
    /// Sum of the lanes.
    fn sum(self, a: Self::F) -> f32;
    /// Largest lane.
    fn largest(self, a: Self::F) -> f32;

    /// `W` floats at `p`.
    ///
    /// # Safety
    /// `p` points at `W` readable floats.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// The first `n <= W` floats at `p`, the other lanes 0.
    ///
    /// # Safety
    /// `p` points at `n` readable floats.
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::F;
    /// Writes `W` floats.
    ///
    /// # Safety
    /// `p` points at `W` writable floats.
    unsafe fn store(self, p: *mut f32, a: Self::F);
    /// Writes the first `n <= W` lanes.
    ///
    /// # Safety
    /// `p` points at `n` writable floats.
    unsafe fn store_n(self, p: *mut f32, a: Self::F, n: usize);
    /// `W` IEEE half floats at `p`, widened.
    ///
    /// # Safety
    /// `p` points at `W` readable `u16`s, at any address.
    unsafe fn load_f16(self, p: *const u8) -> Self::F;
    /// Writes `W` lanes as IEEE half floats, rounded to nearest even.
    ///
    /// # Safety
    /// `p` points at `W` writable `u16`s, at any address.
    unsafe fn store_f16(self, p: *mut u8, a: Self::F);
    /// `W` bfloat16s at `p`, widened.
    ///
    /// # Safety
    /// `p` points at `W` readable `u16`s, at any address.
    unsafe fn load_bf16(self, p: *const u8) -> Self::F;
    /// `W` signed bytes at `p`, as floats.
    ///
    /// # Safety
    /// `p` points at `W` readable bytes.
    unsafe fn load_i8(self, p: *const u8) -> Self::F;
    /// Asks for the cache line at `p`, which may be any address.
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        let _ = p;
    }
    /// The first `n` floats at `p`, repeated to fill the vector; `n` is a power of two and at most
    /// `W`.
    ///
    /// # Safety
    /// `p` points at `n` readable floats.
    #[inline(always)]
    unsafe fn repeat(self, p: *const f32, n: usize) -> Self::F {
        let mut lanes = [0.0; 16];
        // SAFETY: the caller vouches for `n` floats, and no vector is wider than `lanes`.
        unsafe {
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::W) {
                *lane = *p.add(i % n);
            }
            self.load(lanes.as_ptr())
        }
    }
    /// `levels` of the low nibbles, and of the high nibbles, of the `W` bytes at `p`.
    ///
    /// # Safety
    /// `p` points at `W` readable bytes.
    #[inline(always)]
    unsafe fn nibbles(self, p: *const u8, levels: &[i8; 16]) -> (Self::F, Self::F) {
        let (mut low, mut high) = ([0_i8; 16], [0_i8; 16]);
        // SAFETY: the caller vouches for `W` bytes, and no vector is wider than the arrays.
        unsafe {
            for i in 0..Self::W {
                let byte = usize::from(*p.add(i));
                (low[i], high[i]) = (levels[byte & 15], levels[byte >> 4]);
            }
            (self.load_i8(low.as_ptr().cast()), self.load_i8(high.as_ptr().cast()))
        }
    }
    /// `x` in the lanes whose bit is set, lane 0 for the lowest, else 0.
    #[inline(always)]
    fn bits(self, bits: u32, x: f32) -> Self::F {
        let lanes: [f32; 16] = std::array::from_fn(|i| if bits >> i & 1 == 1 { x } else { 0.0 });
        // SAFETY: no vector is wider than `lanes`.
        unsafe { self.load(lanes.as_ptr()) }
    }
    /// Writes the transpose of the 8×8 floats at `src` (rows `src_stride` apart) to `dst`.
    ///
    /// # Safety
    /// Eight floats of eight rows are readable at `src` and writable at `dst`; they do not overlap.
    unsafe fn transpose8(
        self,
        src: *const f32,
        src_stride: usize,
        dst: *mut f32,
        dst_stride: usize,
    );

    /// `e^x` with a relative error below 3e-7; 0 below −87.3, and 2^127·√2 or less above 88.
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        // e^x = 2^n · e^r with |r| <= ln(2)/2; ln(2) is split in two so that r is exact, and e^r is
        // its Taylor series, whose first term left out is r^8/8! < 6e-9.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        const LOWEST: f32 = -87.3;
        let clamped = self.max(self.min(x, self.splat(88.0)), self.splat(LOWEST));
        let n = self.round(self.mul(clamped, self.splat(std::f32::consts::LOG2_E)));
        let r = self.fma(n, self.splat(-LN2_HIGH), clamped);
        let r = self.fma(n, self.splat(-LN2_LOW), r);
        let mut p = self.splat(1.0 / 5040.0);
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = self.fma(p, r, self.splat(c));
        }
        self.keep_ge(self.scale2(p, n), x, LOWEST)
    }

    /// `1 / (1 + e^-x)`.
    #[inline(always)]
    fn sigmoid(self, x: Self::F) -> Self::F {
        let one = self.splat(1.0);
        let e = self.exp(self.sub(self.splat(0.0), x));
        self.div(one, self.add(one, e))
    }

    /// `tanh x` with an absolute error below 3e-7.
    #[inline(always)]
    fn tanh(self, x: Self::F) -> Self::F {
        let two = self.splat(2.0);
        self.fma(two, self.sigmoid(self.mul(two, x)), self.splat(-1.0))
    }
}

/// A piece of work that is compiled once per instruction set.
pub(super) trait Kernel {
    /// What it returns.
    type Out;
    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// Runs `kernel` compiled for `isa`.
///
/// # Safety
/// The processor has `isa`.
pub(super) unsafe fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    match isa {
        // SAFETY: the caller vouches for the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        // SAFETY: the caller vouches for the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { x86::run_avx512(kernel) },
        // SAFETY: the caller vouches for the instruction set.
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => unsafe { neon::run_neon(kernel) },
        _ => kernel.run(portable::Portable),
    }
}
