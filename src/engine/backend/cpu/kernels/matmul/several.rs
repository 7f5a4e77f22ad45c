//! Several products of the same activations: who interleaves them, and who computes which rows.
//!
//! All workers interleave the activations once, in a panel that they share, where the kernels want
//! that. Rows are handed out in ranges that become smaller, so that threads of unequal speed finish
//! together; in decode they wait for each other some hundred times a token.

use std::ops::Range;

use super::super::super::pool::{Sizes, Worker};
use super::super::super::view::TensorRef;
use super::columns::Columns;
use super::{
    GRANULE, Isa, MOST_ROWS, Product, SCRATCH_ALIGN, TILE_COLUMNS, chunk_rows, least_rows, packing,
    panel_bytes, prepare_x, prepared_bytes, product, room_bytes, rows,
};

/// Rows are handed out in multiples of this where there are no tiles: results of a cache line.
const FEW_GRANULE: usize = 16;

/// How many bytes of weights one chunk should be at least where memory is the limit: in long chunks
/// the processor's own prefetching gets under way. With 32 KiB, F16 decode was a fifth slower.
const CHUNK_BYTES: usize = 1 << 19;

/// Weights and result of one product.
type Output = (TensorRef, TensorRef);

/// What all products of a call have in common, for one worker.
struct Call<'a> {
    wk: &'a Worker<'a>,
    isa: Isa,
    x: TensorRef,
    scratch: *mut u8,
    /// What all workers share, behind the prepared activations.
    panel: *mut u8,
    /// What is this worker's own.
    room: *mut u8,
}

/// Several products of the same `x`: pairs of `w` and `dst` as [`super::mul_mat`] takes them, all
/// quantised or all plain.
///
/// With `together`, which needs products of equally many rows, each chunk of rows is computed for
/// all products by one worker, which then calls `then` with it; otherwise `then` is not called.
///
/// # Safety
/// As [`super::mul_mat`] for each pair; `then` does not touch what other workers read or write.
pub unsafe fn mul_mats(
    wk: &Worker,
    isa: Isa,
    outputs: &[(TensorRef, TensorRef)],
    x: TensorRef,
    scratch: *mut u8,
    x_is_ready: bool,
    together: bool,
    then: &dyn Fn(Range<usize>),
) {
    assert_eq!(scratch.align_offset(SCRATCH_ALIGN), 0, "products need aligned scratch");
    let (w, k, t) = (outputs[0].0.dtype, x.ne[0], x.rows());
    if w.is_quantised() && !x_is_ready {
        // SAFETY: passed on.
        unsafe { prepare_x(wk, isa, w, x, scratch) };
        wk.barrier();
    }
    // SAFETY: the panel lies behind the prepared rows, and behind it one room for each worker.
    let (panel, room) = unsafe {
        let panel = scratch.add(prepared_bytes(w, k, t));
        (panel, panel.add(panel_bytes(w, k, t) + wk.index * room_bytes(t)))
    };
    let call = Call { wk, isa, x, scratch, panel, room };
    // There is one panel: products that want another one come later, or interleave strips for
    // themselves when their chunks must not be apart.
    let packing = |output: &Output| packing(isa, output.0.dtype, t);
    let mut rest = outputs;
    while let Some(first) = rest.first() {
        let wanted = packing(first);
        let alike = rest.iter().take_while(|o| packing(o) == wanted).count();
        let (group, others) = rest.split_at(if together { rest.len() } else { alike });
        let shared = wanted.is_some() && alike == group.len();
        let sizes = sizes(group, t, wanted.is_some() && !shared, wk.count);
        // SAFETY: passed on; nobody reads the panel before a barrier, or writes it before the next.
        unsafe {
            if shared {
                call.pack(*first);
                wk.barrier();
            }
            if together {
                call.by_chunk(group, shared, sizes, then);
            } else {
                call.one_by_one(group, shared, sizes);
            }
        }
        rest = others;
        if !rest.is_empty() {
            wk.barrier();
        }
    }
}

impl Call<'_> {
    /// `shared` says that the panel holds what this product wants.
    fn product(&self, (w, dst): Output, shared: bool) -> Product<'_> {
        let product = product(w, Columns::all(w.dtype, self.x, dst, self.scratch), self.room);
        let panel = if shared { self.panel.cast_const().cast() } else { std::ptr::null() };
        Product { panel, ..product }
    }

    /// Interleaves this worker's part of the columns.
    ///
    /// # Safety
    /// As [`mul_mats`]; nobody uses the panel.
    unsafe fn pack(&self, output: Output) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: passed on; the panel has the bytes.
        unsafe {
            let p = self.product(output, false);
            super::x86::pack_part(self.isa, &p, self.wk.index, self.wk.count, self.panel.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = output;
    }

    /// Each chunk of rows of all products, and then what follows.
    ///
    /// # Safety
    /// As [`mul_mats`] with `together`.
    unsafe fn by_chunk(
        &self,
        outputs: &[Output],
        shared: bool,
        sizes: Sizes,
        then: &dyn Fn(Range<usize>),
    ) {
        for range in self.wk.shrinking(outputs[0].0.ne[1], sizes) {
            for &output in outputs {
                // SAFETY: the rows are below the product's, and ranges do not overlap.
                unsafe { rows(self.isa, &self.product(output, shared), range.clone()) };
            }
            then(range);
        }
    }

    /// One list of rows for all products, so that the workers meet only at its end.
    ///
    /// # Safety
    /// As [`mul_mats`].
    unsafe fn one_by_one(&self, outputs: &[Output], shared: bool, sizes: Sizes) {
        let padded = |w: TensorRef| w.ne[1].next_multiple_of(sizes.granule);
        let total = outputs.iter().map(|&(w, _)| padded(w)).sum();
        for range in self.wk.shrinking(total, sizes) {
            let mut before = 0;
            for &output in outputs {
                let here = |at: usize| at.saturating_sub(before).min(output.0.ne[1]);
                let range = here(range.start)..here(range.end);
                if !range.is_empty() {
                    // SAFETY: the rows are below the product's, and ranges do not overlap.
                    unsafe { rows(self.isa, &self.product(output, shared), range) };
                }
                before += padded(output.0);
            }
        }
    }
}

/// How rows of the products of the same `t` columns are handed out to `workers`: several ranges for
/// each, however many there are.
fn sizes(outputs: &[Output], t: usize, chunks_pack: bool, workers: usize) -> Sizes {
    let (k, n) = (outputs[0].0.ne[0], outputs[0].0.ne[1]);
    if t < TILE_COLUMNS {
        let row_bytes = outputs.iter().map(|(w, _)| w.nb[1]).sum::<usize>() / outputs.len();
        let share = (n / (workers * 4)).next_multiple_of(FEW_GRANULE);
        let least = (CHUNK_BYTES / row_bytes.max(1)).next_multiple_of(FEW_GRANULE);
        let least = least.min(share).clamp(FEW_GRANULE, MOST_ROWS);
        return Sizes { granule: FEW_GRANULE, least, most: MOST_ROWS };
    }
    // A chunk that packs its columns by itself must have the rows that this pays for.
    let work = k * t;
    let least = if chunks_pack { chunk_rows(n, work, workers) } else { least_rows(work) };
    Sizes { granule: GRANULE, least, most: MOST_ROWS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tensor::DType;

    /// Neither long runs of memory nor columns packed for a chunk may leave threads without work.
    #[test]
    fn every_worker_gets_rows_however_many_there_are() {
        let w = TensorRef::contiguous(std::ptr::null_mut(), DType::F16, [4096, 2048, 1, 1]);
        for workers in [1, 2, 8, 16, 32] {
            for (t, chunks_pack) in [(1, false), (512, false), (512, true)] {
                let sizes = sizes(&[(w, w)], t, chunks_pack, workers);
                let first = 2048 / (2 * workers) / sizes.granule * sizes.granule;
                let largest = first.min(sizes.most).max(sizes.least);
                assert!(largest * workers <= 2048, "{workers} workers, {t} columns: {largest}");
            }
        }
    }
}
