//! Attention without the matrix of scores.
//!
//! Work is cut into tiles of a few tokens and of one key head, or of all heads for a decode step
//! (`plan`); where there are fewer tiles than workers, the context is split as well and the partial results are merged. Keys and values
//! are read through strides, as rows of the cache. Quantised ones are widened, never is the query
//! narrowed: results depend on the cache's precision alone.

mod few;
mod gemm;
mod plan;
mod tile;

use super::simd::{Kernel, Simd, dispatch};
use crate::engine::backend::cpu::{Isa, TensorRef, Worker};
use plan::Plan;
use tile::Tile;

/// Alignment of the scratch memory's parts.
const ALIGN: usize = 64;

/// Bytes of scratch that [`flash_attn`] needs for exactly these extents on `workers` workers. Other
/// extents may need more even if they are smaller, because the cut into tiles follows them.
pub fn flash_attn_scratch_bytes(
    d: usize,
    dv: usize,
    n_head: usize,
    n_head_kv: usize,
    n_kv: usize,
    t: usize,
    workers: usize,
) -> usize {
    let plan = Plan::new(d, dv, n_head, n_head_kv, n_kv, t, workers);
    let floats = plan.worker_len() * workers + plan.partials_len(n_head * t);
    floats * size_of::<f32>() + ALIGN
}

/// Attention: `q` F32 `(d, n_head, t)`, `k` `(d, n_kv, n_head_kv)` and `v` `(dv, n_kv, n_head_kv)`
/// of any type, `mask` F16 `(n_kv, t)` → `dst` F32 `(dv, n_head, t)`.
///
/// Scores are `scale * q · k`, capped by `softcap * tanh(score / softcap)` unless `softcap` is 0,
/// plus the mask. A query that the mask hides everything from yields zeros.
///
/// `scratch` is shared by all workers. Where the context is split there is one barrier inside.
///
/// # Safety
/// As the contract of [`super`]; `scratch` has the bytes that [`flash_attn_scratch_bytes`] says and
/// nothing else uses it meanwhile.
pub unsafe fn flash_attn(
    wk: &Worker,
    isa: Isa,
    q: TensorRef,
    k: TensorRef,
    v: TensorRef,
    mask: TensorRef,
    dst: TensorRef,
    scale: f32,
    softcap: f32,
    scratch: *mut [u8],
) {
    let (n_head, t, n_head_kv) = (q.ne[1], q.ne[2], k.ne[2]);
    let plan = Plan::new(q.ne[0], v.ne[0], n_head, n_head_kv, k.ne[1], t, wk.count);
    let workers_len = plan.worker_len() * wk.count;
    let needed = (workers_len + plan.partials_len(n_head * t)) * size_of::<f32>() + ALIGN;
    assert!(scratch.len() >= needed, "attention needs {needed} bytes of scratch");
    let base = scratch.cast::<u8>();
    // SAFETY: the scratch holds `needed` bytes, ALIGN of which allow for this offset.
    let (buffers, partials) = unsafe {
        let base = base.add(base.align_offset(ALIGN)).cast::<f32>();
        (plan.buffers(base.add(plan.worker_len() * wk.index)), base.add(workers_len))
    };
    let items = plan.tiles * plan.head_tiles * plan.splits;
    // Items of one tile stand together and later tiles see more keys, so that dealing them out in
    // turn gives every worker its share of the long ones.
    for item in (wk.index..items).step_by(wk.count) {
        let (split, rest) = (item % plan.splits, item / plan.splits);
        let (first, tile) = (rest % plan.head_tiles * plan.heads, rest / plan.head_tiles);
        let heads = (first, plan.heads.min(n_head_kv - first));
        let tokens = (tile * plan.tokens, plan.tokens.min(t - tile * plan.tokens));
        let split = (split, plan.splits);
        // SAFETY: head and tokens exist; this worker's buffers are its own, and each item writes
        // rows of the result, or partial results, that no other item writes.
        unsafe {
            let work =
                Tile { plan: &plan, q, k, v, mask, scale, softcap, heads, tokens, split, buffers };
            dispatch(isa, work);
            for row in 0..tokens.1 * plan.group * heads.1 {
                let (head, row) = (row / (tokens.1 * plan.group), row % (tokens.1 * plan.group));
                let (at, head) = (head * plan.head_rows + row, heads.0 + head);
                let (head, token) =
                    (head * plan.group + row % plan.group, tokens.0 + row / plan.group);
                let o = buffers.o.add(at * plan.dv_padded);
                let (max, sum) = (*buffers.max.add(at), *buffers.sum.add(at));
                if plan.splits == 1 {
                    let to = dst.row(head, token, 0).cast();
                    let partials = &mut [Partial { o, max, sum, weight: 0.0 }];
                    dispatch(isa, Merge { partials, to, n: v.ne[0] });
                } else {
                    let row = (token * n_head + head) * plan.splits + split.0;
                    let to = partials.add(row * plan.partial_len());
                    to.copy_from_nonoverlapping(o, plan.dv_padded);
                    *to.add(plan.dv_padded) = max;
                    *to.add(plan.dv_padded + 1) = sum;
                }
            }
        }
    }
    if plan.splits > 1 {
        wk.barrier();
        // SAFETY: all partial results are written, and the barrier made them visible.
        unsafe { merge_splits(wk, isa, &plan, partials, dst) }
    }
}

/// Adds up the partial results of this worker's share of the rows.
///
/// # Safety
/// As [`flash_attn`]; `partials` holds `plan.splits` results for each row of `dst`.
unsafe fn merge_splits(wk: &Worker, isa: Isa, plan: &Plan, partials: *mut f32, dst: TensorRef) {
    let n_head = dst.ne[1];
    let mut parts = Vec::with_capacity(plan.splits);
    for row in wk.share(n_head * dst.ne[2], 1) {
        parts.clear();
        parts.extend((0..plan.splits).map(|split| {
            // SAFETY: as the caller vouches.
            unsafe {
                let o = partials.add((row * plan.splits + split) * plan.partial_len());
                let (max, sum) = (*o.add(plan.dv_padded), *o.add(plan.dv_padded + 1));
                Partial { o, max, sum, weight: 0.0 }
            }
        }));
        // SAFETY: `row` is a row of the result, which this worker alone writes.
        unsafe {
            let to = dst.row(row % n_head, row / n_head, 0).cast();
            dispatch(isa, Merge { partials: &mut parts, to, n: dst.ne[0] });
        }
    }
}

/// What one part of the context gave a query row.
struct Partial {
    /// Values weighted by `exp(score - max)`, not divided by their sum.
    o: *const f32,
    max: f32,
    sum: f32,
    /// The factor on `o` in the result.
    weight: f32,
}

/// The normalised sum of partial results, `n` floats at `to`.
struct Merge<'a> {
    partials: &'a mut [Partial],
    to: *mut f32,
    n: usize,
}

impl Kernel for Merge<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let max = self.partials.iter().fold(f32::NEG_INFINITY, |m, p| m.max(p.max));
        // A part that saw nothing has a maximum of −∞ and fades to 0; if none saw anything, the
        // shift must not be −∞ too.
        let shift = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let mut total = 0.0;
        for p in self.partials.iter_mut() {
            p.weight = (p.max - shift).exp();
            total += p.sum * p.weight;
        }
        let inverse = if total > 0.0 { 1.0 / total } else { 0.0 };
        for i in (0..self.n).step_by(S::W) {
            let len = (self.n - i).min(S::W);
            let mut acc = s.splat(0.0);
            for p in self.partials.iter() {
                let weight = s.splat(p.weight * inverse);
                // SAFETY: partial rows are padded to whole vectors.
                acc = s.fma(unsafe { s.load(p.o.add(i)) }, weight, acc);
            }
            // SAFETY: `len` elements from `i` are below `n`.
            unsafe { s.store_n(self.to.add(i), acc, len) }
        }
    }
}
