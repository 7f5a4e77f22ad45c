//! Root-mean-square norm and softmax: one reduction per row, then one pass over it.

use super::simd::{Kernel, Simd, dispatch};
use super::spans::f32_at;
use crate::engine::backend::cpu::{Isa, TensorRef, Worker};

/// `dst = x / sqrt(mean(x²) + eps) * weight` over rows: `x` and `dst` F32 `(n, …)`, `weight` F32
/// `(n)`. `dst` may be `x`.
///
/// Squares are added in many short `f32` chains, whose error stays near 1e-7.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn rms_norm(
    wk: &Worker,
    isa: Isa,
    x: TensorRef,
    weight: TensorRef,
    dst: TensorRef,
    eps: f32,
) {
    for row in wk.share(x.rows(), 1) {
        // SAFETY: passed on; `row` is a row of both.
        unsafe { rms_norm_row(isa, x, weight, dst, eps, row) };
    }
}

/// Row `row` of [`rms_norm`], on the calling worker.
///
/// # Safety
/// As there; the row exists.
pub unsafe fn rms_norm_row(
    isa: Isa,
    x: TensorRef,
    weight: TensorRef,
    dst: TensorRef,
    eps: f32,
    row: usize,
) {
    // SAFETY: `row` is a row of both, and the weight has as many elements as a row.
    unsafe {
        let (from, to) = (f32_at(&x, row, 0), f32_at(&dst, row, 0));
        let weight = f32_at(&weight, 0, 0);
        dispatch(isa, RmsNorm { from, weight, to, n: x.ne[0], eps });
    }
}

struct RmsNorm {
    from: *const f32,
    weight: *const f32,
    to: *mut f32,
    n: usize,
    eps: f32,
}

impl Kernel for RmsNorm {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, weight, to, n, eps } = self;
        let mut acc = [s.splat(0.0); 4];
        let mut i = 0;
        while i + 4 * S::W <= n {
            for (part, acc) in acc.iter_mut().enumerate() {
                // SAFETY: four vectors from `i` are below `n`.
                let x = unsafe { s.load(from.add(i + part * S::W)) };
                *acc = s.fma(x, x, *acc);
            }
            i += 4 * S::W;
        }
        while i < n {
            let len = (n - i).min(S::W);
            // SAFETY: `len` elements from `i` are below `n`.
            let x = unsafe { s.load_n(from.add(i), len) };
            acc[0] = s.fma(x, x, acc[0]);
            i += len;
        }
        let sum = s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])));
        let factor = s.splat(1.0 / (sum / n as f32 + eps).sqrt());
        for i in (0..n).step_by(S::W) {
            let len = (n - i).min(S::W);
            // SAFETY: `len` elements from `i` are below `n`.
            unsafe {
                let x = s.mul(s.load_n(from.add(i), len), factor);
                s.store_n(to.add(i), s.mul(x, s.load_n(weight.add(i), len)), len);
            }
        }
    }
}

/// Softmax over rows, F32 `(n, t)` → `(n, t)`. A row of −∞ becomes zeros. `dst` may be `x`.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn soft_max(wk: &Worker, isa: Isa, x: TensorRef, dst: TensorRef) {
    for row in wk.share(x.rows(), 1) {
        // SAFETY: `row` is a row of both.
        unsafe {
            let (from, to) = (f32_at(&x, row, 0), f32_at(&dst, row, 0));
            dispatch(isa, SoftMax { from, to, n: x.ne[0] });
        }
    }
}

struct SoftMax {
    from: *const f32,
    to: *mut f32,
    n: usize,
}

impl Kernel for SoftMax {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, to, n } = self;
        // SAFETY: `n` elements are readable at `from`.
        let largest = (0..n).fold(f32::NEG_INFINITY, |m, i| m.max(unsafe { *from.add(i) }));
        let shift = s.splat(if largest == f32::NEG_INFINITY { 0.0 } else { largest });
        let mut sum = 0.0;
        for i in (0..n).step_by(S::W) {
            let len = (n - i).min(S::W);
            // SAFETY: `len` elements from `i` are below `n`; lanes beyond them are not stored, so
            // they are added up only after the store, from memory.
            unsafe {
                s.store_n(to.add(i), s.exp(s.sub(s.load_n(from.add(i), len), shift)), len);
                sum += s.sum(s.load_n(to.add(i), len));
            }
        }
        let factor = s.splat(if sum > 0.0 { 1.0 / sum } else { 0.0 });
        for i in (0..n).step_by(S::W) {
            let len = (n - i).min(S::W);
            // SAFETY: `len` elements from `i` are below `n`.
            unsafe { s.store_n(to.add(i), s.mul(s.load_n(to.add(i), len), factor), len) }
        }
    }
}
