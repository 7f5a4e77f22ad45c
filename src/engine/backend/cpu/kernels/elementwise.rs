//! Sums, products and gated linear units: every element on its own.
//!
//! Operands may be rows of a wider tensor, such as the halves of a fused projection. The result may
//! be the first operand itself.

use super::simd::{Kernel, Simd, dispatch};
use super::spans::{f32_at, spans};
use crate::engine::backend::cpu::{Isa, TensorRef, Worker};
use crate::engine::graph::GluKind;

/// What is done to each pair of elements.
#[derive(Clone, Copy)]
enum Pairing {
    Add,
    Mul,
    Glu(GluKind),
}

/// `dst[i] = a[i] ∘ b[i]` for `n` elements.
struct Zip {
    pairing: Pairing,
    a: *const f32,
    b: *const f32,
    dst: *mut f32,
    n: usize,
}

impl Kernel for Zip {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.pairing {
            Pairing::Add => self.each(s, |a, b| s.add(a, b)),
            Pairing::Mul => self.each(s, |a, b| s.mul(a, b)),
            Pairing::Glu(GluKind::Silu) => self.each(s, |a, b| s.mul(s.mul(a, s.sigmoid(a)), b)),
            Pairing::Glu(GluKind::Gelu) => self.each(s, |a, b| s.mul(gelu(s, a), b)),
        }
    }
}

impl Zip {
    #[inline(always)]
    fn each<S: Simd>(&self, s: S, f: impl Fn(S::F, S::F) -> S::F) {
        let mut i = 0;
        while i + S::W <= self.n {
            // SAFETY: whoever made `self` vouches for `n` elements behind each pointer.
            unsafe {
                let (a, b) = (s.load(self.a.add(i)), s.load(self.b.add(i)));
                s.store(self.dst.add(i), f(a, b));
            }
            i += S::W;
        }
        let rest = self.n - i;
        if rest > 0 {
            // SAFETY: as above, with the `rest` elements that are left.
            unsafe {
                let (a, b) = (s.load_n(self.a.add(i), rest), s.load_n(self.b.add(i), rest));
                s.store_n(self.dst.add(i), f(a, b), rest);
            }
        }
    }
}

/// `0.5 x (1 + tanh u)` with `u = √(2/π) (x + 0.044715 x³)`, which is `x · sigmoid(2u)`: that form
/// keeps its relative precision where `tanh` is close to −1.
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
    let cubic = s.fma(
        s.mul(x, x),
        s.splat(0.044_715 * TWICE_SQRT_2_OVER_PI),
        s.splat(TWICE_SQRT_2_OVER_PI),
    );
    s.mul(x, s.sigmoid(s.mul(x, cubic)))
}

/// Applies `pairing` to `a` and `b`; a single row of `b` stands for all rows.
///
/// # Safety
/// As the contract of [`super`]; all are F32, and `b` has the extents of `a` or is one row of it.
unsafe fn zip(wk: &Worker, isa: Isa, pairing: Pairing, a: TensorRef, b: TensorRef, dst: TensorRef) {
    let one_row = b.rows() == 1;
    for span in spans(wk, a.ne[0], a.rows()) {
        let b_row = if one_row { 0 } else { span.row };
        // SAFETY: spans stay inside rows of `a`, and `b` and `dst` have the same rows.
        unsafe {
            let kernel = Zip {
                pairing,
                a: f32_at(&a, span.row, span.start),
                b: f32_at(&b, b_row, span.start),
                dst: f32_at(&dst, span.row, span.start),
                n: span.len,
            };
            dispatch(isa, kernel);
        }
    }
}

/// `dst = a + b`, all F32 `(n, …)`; `b` may be one row `(n)`.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn add(wk: &Worker, isa: Isa, a: TensorRef, b: TensorRef, dst: TensorRef) {
    // SAFETY: the caller's contract is that of `zip`.
    unsafe { zip(wk, isa, Pairing::Add, a, b, dst) }
}

/// `dst = a * b`, all F32 `(n, …)`; `b` may be one row `(n)`.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn mul(wk: &Worker, isa: Isa, a: TensorRef, b: TensorRef, dst: TensorRef) {
    // SAFETY: the caller's contract is that of `zip`.
    unsafe { zip(wk, isa, Pairing::Mul, a, b, dst) }
}

/// `dst = activation(gate) * up`, all F32 `(n, …)`.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn glu(
    wk: &Worker,
    isa: Isa,
    kind: GluKind,
    gate: TensorRef,
    up: TensorRef,
    dst: TensorRef,
) {
    // SAFETY: the caller's contract is that of `zip`.
    unsafe { zip(wk, isa, Pairing::Glu(kind), gate, up, dst) }
}

/// `dst = x * factor`, both F32 `(n, …)`.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn scale(wk: &Worker, isa: Isa, x: TensorRef, dst: TensorRef, factor: f32) {
    for span in spans(wk, x.ne[0], x.rows()) {
        // SAFETY: spans stay inside rows of `x`, and `dst` has the same rows.
        unsafe {
            let from = f32_at(&x, span.row, span.start);
            let kernel =
                Scaled { from, to: f32_at(&dst, span.row, span.start), n: span.len, factor };
            dispatch(isa, kernel);
        }
    }
}

/// `to[i] = from[i] * factor` for `n` elements.
struct Scaled {
    from: *const f32,
    to: *mut f32,
    n: usize,
    factor: f32,
}

impl Kernel for Scaled {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(self.factor);
        for i in (0..self.n).step_by(S::W) {
            let n = (self.n - i).min(S::W);
            // SAFETY: whoever made `self` vouches for `n` elements behind both pointers.
            unsafe {
                let x = s.load_n(self.from.add(i), n);
                s.store_n(self.to.add(i), s.mul(x, factor), n);
            }
        }
    }
}
