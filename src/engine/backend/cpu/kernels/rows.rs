//! Rows out of a table, rows into the KV cache, and rows side by side.

use super::convert::{row_from_f32, row_to_f32};
use super::simd::{Kernel, Simd, dispatch};
use super::spans::{f32_at, row_index, spans};
use crate::engine::backend::cpu::{Isa, TensorRef, Worker};
use crate::engine::tensor::DType;

/// `dst[i] = table[ids[i]]`: `table` `(n, rows)` of any weight type, `ids` I32 `(t)`, `dst` F32
/// `(n, t)`.
///
/// # Safety
/// As the contract of [`super`]; ids are below `rows`.
pub unsafe fn get_rows(wk: &Worker, isa: Isa, table: TensorRef, ids: TensorRef, dst: TensorRef) {
    // SAFETY: ids are I32 and gapless.
    let ids = unsafe { ids.i32s() };
    for i in wk.share(ids.len(), 1) {
        // SAFETY: `row_index` stays inside the table; `i` is a row of `dst`, as long as the table's.
        unsafe {
            let src = table.row(row_index(ids[i], table.ne[1]), 0, 0);
            let dst = f32_at(&dst, i, 0);
            dispatch(isa, Widen { dtype: table.dtype, src, dst, n: table.ne[0] });
        }
    }
}

struct Widen {
    dtype: DType,
    src: *const u8,
    dst: *mut f32,
    n: usize,
}

impl Kernel for Widen {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: whoever made `self` vouches for a row of `n` elements on both sides.
        unsafe { row_to_f32(s, self.dtype, self.src, self.dst, self.n) }
    }
}

/// `cache[rows[i]] = src[i]`, converted: `src` F32 `(n, t)`, `rows` I32 `(t)`, `cache` `(n, cells)`
/// of a type that a KV cache can have.
///
/// # Safety
/// As the contract of [`super`]; row numbers are below `cells` and no two of them are equal, for
/// different workers write them.
pub unsafe fn set_rows(wk: &Worker, isa: Isa, src: TensorRef, rows: TensorRef, cache: TensorRef) {
    // SAFETY: row numbers are I32 and gapless.
    let rows = unsafe { rows.i32s() };
    for i in wk.share(rows.len(), 1) {
        // SAFETY: `row_index` stays inside the cache; `i` is a row of `src`, as long as the cache's.
        unsafe {
            let dst = cache.row(row_index(rows[i], cache.ne[1]), 0, 0);
            let src = f32_at(&src, i, 0);
            dispatch(isa, Narrow { dtype: cache.dtype, src, dst, n: cache.ne[0] });
        }
    }
}

struct Narrow {
    dtype: DType,
    src: *const f32,
    dst: *mut u8,
    n: usize,
}

impl Kernel for Narrow {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: whoever made `self` vouches for a row of `n` elements on both sides.
        unsafe { row_from_f32(s, self.dtype, self.src, self.dst, self.n) }
    }
}

/// Rows side by side: `parts` F32 `(n0, t)`, `(n1, t)`, … → F32 `(n0 + n1 + …, t)`.
///
/// # Safety
/// As the contract of [`super`]; all have the rows of `dst`.
pub unsafe fn concat(wk: &Worker, parts: &[TensorRef], dst: TensorRef) {
    let mut begin = 0;
    for part in parts {
        for span in spans(wk, part.ne[0], part.rows()) {
            // SAFETY: the span lies in a row of the part, and the same row of `dst` has room for it
            // behind the parts before.
            unsafe {
                let from = f32_at(part, span.row, span.start);
                let to = f32_at(&dst, span.row, begin + span.start);
                std::ptr::copy_nonoverlapping(from, to, span.len);
            }
        }
        begin += part.ne[0];
    }
}
