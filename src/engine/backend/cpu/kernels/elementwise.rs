//! Sums, products and gated linear units: every element on its own.
//!
//! Operands may be rows of a wider tensor, such as the halves of a fused projection. The result may
//! be the first operand itself.

use std::marker::PhantomData;
use std::ops::Range;

use super::simd::{Kernel, Simd, dispatch};
use super::spans::{f32_at, spans};
use crate::engine::backend::cpu::{Isa, TensorRef, Worker};
use crate::engine::graph::{GluKind, Op};

/// What is done to each pair of elements.
///
/// A type per function, because a closure is a function of its own: one that the compiler does not
/// inline would not be compiled for the instruction set.
trait Pairing {
    /// `a ∘ b`. Implementations are `#[inline(always)]`.
    fn of<S: Simd>(s: S, a: S::F, b: S::F) -> S::F;
}

struct Sum;
struct Product;
struct SiluTimes;
struct GeluTimes;

impl Pairing for Sum {
    #[inline(always)]
    fn of<S: Simd>(s: S, a: S::F, b: S::F) -> S::F {
        s.add(a, b)
    }
}

impl Pairing for Product {
    #[inline(always)]
    fn of<S: Simd>(s: S, a: S::F, b: S::F) -> S::F {
        s.mul(a, b)
    }
}

impl Pairing for SiluTimes {
    #[inline(always)]
    fn of<S: Simd>(s: S, a: S::F, b: S::F) -> S::F {
        s.mul(s.mul(a, s.sigmoid(a)), b)
    }
}

impl Pairing for GeluTimes {
    #[inline(always)]
    fn of<S: Simd>(s: S, a: S::F, b: S::F) -> S::F {
        s.mul(gelu(s, a), b)
    }
}

/// `dst[i] = a[i] ∘ b[i]` for `n` elements.
struct Zip<P> {
    a: *const f32,
    b: *const f32,
    dst: *mut f32,
    n: usize,
    pairing: PhantomData<P>,
}

impl<P> Zip<P> {
    /// Over `n` elements at the addresses of `a`, `b` and the result.
    fn new([a, b, dst]: [*mut f32; 3], n: usize) -> Self {
        Self { a, b, dst, n, pairing: PhantomData }
    }
}

impl<P: Pairing> Kernel for Zip<P> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut i = 0;
        while i + S::W <= self.n {
            // SAFETY: whoever made `self` vouches for `n` elements behind each pointer.
            unsafe {
                let (a, b) = (s.load(self.a.add(i)), s.load(self.b.add(i)));
                s.store(self.dst.add(i), P::of(s, a, b));
            }
            i += S::W;
        }
        let rest = self.n - i;
        if rest > 0 {
            // SAFETY: as above, with the `rest` elements that are left.
            unsafe {
                let (a, b) = (s.load_n(self.a.add(i), rest), s.load_n(self.b.add(i), rest));
                s.store_n(self.dst.add(i), P::of(s, a, b), rest);
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

/// Applies `P` to `a` and `b`; a single row of `b` stands for all rows.
///
/// # Safety
/// As the contract of [`super`]; all are F32, and `b` has the extents of `a` or is one row of it.
unsafe fn zip<P: Pairing>(wk: &Worker, isa: Isa, a: TensorRef, b: TensorRef, dst: TensorRef) {
    let one_row = b.rows() == 1;
    for span in spans(wk, a.ne[0], a.rows()) {
        let b_row = if one_row { 0 } else { span.row };
        // SAFETY: spans stay inside rows of `a`, and `b` and `dst` have the same rows.
        unsafe {
            let at = [
                f32_at(&a, span.row, span.start),
                f32_at(&b, b_row, span.start),
                f32_at(&dst, span.row, span.start),
            ];
            dispatch(isa, Zip::<P>::new(at, span.len));
        }
    }
}

/// `dst = a ∘ b` for elements `range` of every row, on the calling thread: what [`add`], [`mul`] and
/// [`glu`] do, for a part of each row that is in the cache. Other operations do nothing.
///
/// # Safety
/// As the contract of [`super`] for these elements; all are F32, `a` and `dst` have the same extents,
/// and `b` has them too or is one row.
pub unsafe fn on_columns(
    isa: Isa,
    op: &Op,
    a: TensorRef,
    b: TensorRef,
    dst: TensorRef,
    range: &Range<usize>,
) {
    for row in 0..a.rows() {
        let b_row = if b.rows() == 1 { 0 } else { row };
        // SAFETY: the row exists in all three, and so does the range.
        unsafe {
            let at = [
                f32_at(&a, row, range.start),
                f32_at(&b, b_row, range.start),
                f32_at(&dst, row, range.start),
            ];
            match op {
                Op::Add => dispatch(isa, Zip::<Sum>::new(at, range.len())),
                Op::Mul => dispatch(isa, Zip::<Product>::new(at, range.len())),
                Op::Glu(GluKind::Silu) => dispatch(isa, Zip::<SiluTimes>::new(at, range.len())),
                Op::Glu(GluKind::Gelu) => dispatch(isa, Zip::<GeluTimes>::new(at, range.len())),
                _ => debug_assert!(false, "{} does not work by elements", op.name()),
            }
        }
    }
}

/// `dst = a + b`, all F32 `(n, …)`; `b` may be one row `(n)`.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn add(wk: &Worker, isa: Isa, a: TensorRef, b: TensorRef, dst: TensorRef) {
    // SAFETY: the caller's contract is that of `zip`.
    unsafe { zip::<Sum>(wk, isa, a, b, dst) }
}

/// `dst = a * b`, all F32 `(n, …)`; `b` may be one row `(n)`.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn mul(wk: &Worker, isa: Isa, a: TensorRef, b: TensorRef, dst: TensorRef) {
    // SAFETY: the caller's contract is that of `zip`.
    unsafe { zip::<Product>(wk, isa, a, b, dst) }
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
    unsafe {
        match kind {
            GluKind::Silu => zip::<SiluTimes>(wk, isa, gate, up, dst),
            GluKind::Gelu => zip::<GeluTimes>(wk, isa, gate, up, dst),
        }
    }
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
