//! Routing of mixture-of-experts layers: the weights of the chosen experts and the sum of what they
//! return.

use super::simd::{Kernel, Simd, dispatch};
use super::spans::{f32_at, row_index, spans};
use crate::engine::backend::cpu::{Isa, TensorRef, Worker};

/// Weights of the chosen experts: `probs` F32 `(n_expert, t)`, `ids` I32 `(k, t)` → F32 `(k, t)`,
/// divided by their sum where `normalise` says so.
///
/// # Safety
/// As the contract of [`super`]; `ids` are below `n_expert`.
pub unsafe fn expert_weights(
    wk: &Worker,
    probs: TensorRef,
    ids: TensorRef,
    dst: TensorRef,
    normalise: bool,
) {
    for row in wk.share(ids.rows(), 1) {
        // SAFETY: `row` is a row of all three; `ids` is I32 with `ne[0]` elements per row.
        let (probs, ids, weights) = unsafe {
            let first = ids.flat_row(row).cast::<i32>();
            (probs.f32_row(row), std::slice::from_raw_parts(first, ids.ne[0]), dst.f32_row_mut(row))
        };
        for (weight, &id) in weights.iter_mut().zip(ids) {
            *weight = probs[row_index(id, probs.len())];
        }
        if normalise {
            let sum: f32 = weights.iter().sum();
            // The bound keeps weights finite when every chosen expert has underflown to 0.
            let sum = sum.max(f32::MIN_POSITIVE);
            for weight in weights {
                *weight /= sum;
            }
        }
    }
}

/// Weighted sum over experts: `x` F32 `(n, k, t)`, `weights` F32 `(k, t)` → F32 `(n, t)`.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn expert_sum(wk: &Worker, isa: Isa, x: TensorRef, weights: TensorRef, dst: TensorRef) {
    for span in spans(wk, dst.ne[0], dst.rows()) {
        // SAFETY: `span` lies in row `span.row` of `dst`, which is token `span.row` of the others.
        unsafe {
            let kernel = WeightedSum {
                x: x.row(0, span.row, 0).cast::<f32>().add(span.start),
                stride: x.nb[1] / size_of::<f32>(),
                weights: weights.f32_row(span.row),
                dst: f32_at(&dst, span.row, span.start),
                n: span.len,
            };
            dispatch(isa, kernel);
        }
    }
}

/// `dst[i] = Σ weights[e] * x[e * stride + i]` for `n` elements.
struct WeightedSum<'a> {
    x: *const f32,
    stride: usize,
    weights: &'a [f32],
    dst: *mut f32,
    n: usize,
}

impl Kernel for WeightedSum<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in (0..self.n).step_by(S::W) {
            let n = (self.n - i).min(S::W);
            let mut acc = s.splat(0.0);
            for (e, &w) in self.weights.iter().enumerate() {
                // SAFETY: whoever made `self` vouches for `n` elements per expert.
                let x = unsafe { s.load_n(self.x.add(e * self.stride + i), n) };
                acc = s.fma(x, s.splat(w), acc);
            }
            // SAFETY: as above, for the result.
            unsafe { s.store_n(self.dst.add(i), acc, n) }
        }
    }
}
