//! How rows are dealt to workers: whole rows, or pieces of rows where rows are few.

use crate::engine::backend::cpu::{TensorRef, Worker};

/// Elements that are worth waking a thread for.
const GRANULE: usize = 1024;

/// A piece of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The row, as [`TensorRef::flat_row`] counts.
    pub(super) row: usize,
    /// First element.
    pub(super) start: usize,
    /// Elements.
    pub(super) len: usize,
}

/// This worker's pieces of a tensor of `rows` rows of `n` elements, for work that treats every
/// element alike. Pieces begin at multiples of 16 elements unless rows are shorter than that.
pub(super) fn spans(wk: &Worker, n: usize, rows: usize) -> impl Iterator<Item = Span> {
    let mut mine = wk.share(n * rows, GRANULE);
    std::iter::from_fn(move || {
        if mine.is_empty() {
            return None;
        }
        let (row, start) = (mine.start / n, mine.start % n);
        let len = (n - start).min(mine.len());
        mine.start += len;
        Some(Span { row, start, len })
    })
}

/// `index` as a row number of a table of `rows` rows.
///
/// Whoever fills index tensors keeps them in range; a debug build checks that, and a release build
/// stays inside the table whatever happens, because a panic would leave the other workers waiting.
pub(super) fn row_index(index: i32, rows: usize) -> usize {
    debug_assert!((0..rows as i64).contains(&i64::from(index)), "row {index} of {rows}");
    (index.max(0) as usize).min(rows.saturating_sub(1))
}

/// Address of element `start` of row `row` of an F32 tensor.
///
/// # Safety
/// As [`TensorRef::flat_row`]; `start` is at most `ne[0]`.
pub(super) unsafe fn f32_at(t: &TensorRef, row: usize, start: usize) -> *mut f32 {
    // SAFETY: the caller vouches for the indices.
    unsafe { t.flat_row(row).cast::<f32>().add(start) }
}
