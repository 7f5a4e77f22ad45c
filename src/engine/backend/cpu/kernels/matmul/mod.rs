//! Matrix products: `dst = wᵀ x`, and the same by expert.
//!
//! Weights are read as they lie in the file, unaligned and never repacked as a whole. Against
//! quantised weights, activations are rounded to 8 bits (`activations`); against F32, F16 and
//! BF16 weights they are multiplied as they are. Few columns (decode) take row dot products, bound
//! by memory; many (prompts) take tiles of rows unpacked once for all columns, bound by arithmetic.
//!
//! Not here: which node runs where, buffers, or any other operation.
//!
//! Invariant: for each instruction set, every path computes what `scalar` computes from the same
//! rounded activations, up to the order of `f32` sums.

#![allow(
    clippy::cast_ptr_alignment,
    reason = "rows of scratch and of F32 tensors are aligned by contract"
)]

mod activations;
mod columns;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod several;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use self::activations::RowLayout;
use self::columns::{Columns, Experts};
use super::super::isa::Isa;
use super::super::pool::Worker;
use super::super::view::TensorRef;
use crate::engine::tensor::DType;

pub use self::several::mul_mats;

/// Alignment that the scratch of [`mul_mat`] and [`mul_mat_id`] must have.
pub const SCRATCH_ALIGN: usize = activations::ALIGN;

/// Rows of weights are handed out in multiples of this: the rows of the largest tile.
const GRANULE: usize = 64;

/// How much work one chunk should be at least, in multiplications: enough to hide the cost of
/// taking it.
const CHUNK_WORK: usize = 1 << 16;

/// Rows of a chunk at most: the results of a prompt's chunk should fit the second-level cache.
const MOST_ROWS: usize = 256;

/// A product of some rows with some columns, as the kernels see it.
///
/// Contract of every kernel that takes one: the weights hold the rows asked for, each column's `x`
/// is a row that [`prepare_x`] wrote (quantised weights) or `k` floats (others), each column's `dst`
/// has room for all rows, and the calling thread alone writes the rows asked for.
struct Product<'a> {
    /// Type of the weights.
    dtype: DType,
    /// Elements of a row.
    k: usize,
    /// Row 0 of the weights.
    w: *const u8,
    /// From one row of weights to the next, in bytes.
    w_stride: usize,
    /// Bytes of a row of weights.
    w_row_bytes: usize,
    /// What to multiply the rows with.
    cols: Columns<'a>,
    /// This worker's scratch: [`room_bytes`] for the columns, aligned to [`SCRATCH_ALIGN`].
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86 packs columns"))]
    room: *mut u8,
    /// All columns as the kernel of these weights wants them interleaved, or nothing.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86 packs columns"))]
    panel: *const u32,
}

/// From this many columns on, weights are unpacked in tiles.
#[cfg(target_arch = "x86_64")]
const TILE_COLUMNS: usize = x86::TILE_COLUMNS;
/// From this many columns on, weights are unpacked in tiles.
#[cfg(target_arch = "aarch64")]
const TILE_COLUMNS: usize = neon::TILE_COLUMNS;
/// No tiles here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const TILE_COLUMNS: usize = usize::MAX;

/// How a kernel wants activations interleaved.
#[cfg(target_arch = "x86_64")]
type Packing = x86::Packing;
/// No kernel wants them interleaved.
#[cfg(not(target_arch = "x86_64"))]
type Packing = std::convert::Infallible;

/// What `columns` columns must be interleaved like before weights of type `w` can meet them.
fn packing(isa: Isa, w: DType, columns: usize) -> Option<Packing> {
    #[cfg(target_arch = "x86_64")]
    return x86::packing(isa, w, columns);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, w, columns);
        None
    }
}

/// Bytes of `columns` interleaved columns of `k` elements for weights of type `w`.
fn panel_bytes(w: DType, k: usize, columns: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    return if columns < TILE_COLUMNS { 0 } else { x86::panel_bytes(w.is_quantised(), k, columns) };
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (w, k, columns);
        0
    }
}

/// Bytes of scratch that each worker needs for products with `columns` columns.
fn room_bytes(columns: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    return x86::room_bytes(columns);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = columns;
        0
    }
}

/// Bytes of prepared activations `(k, t)`.
fn prepared_bytes(w: DType, k: usize, t: usize) -> usize {
    if w.is_quantised() { RowLayout::new(k).stride * t } else { 0 }
}

/// Bytes of scratch that [`mul_mat`] on `workers` workers needs for weights of type `w` and
/// activations `(k, t)`.
pub fn mul_mat_scratch_bytes(w: DType, k: usize, t: usize, workers: usize) -> usize {
    prepared_bytes(w, k, t) + panel_bytes(w, k, t) + workers * room_bytes(t)
}

/// Bytes of scratch that [`mul_mat_id`] on `workers` workers needs for weights of type `w` with
/// `n_expert` experts, activations `(k, x_rows, t)` and ids `(n_used, t)`.
pub fn mul_mat_id_scratch_bytes(
    w: DType,
    k: usize,
    x_rows: usize,
    n_expert: usize,
    n_used: usize,
    t: usize,
    workers: usize,
) -> usize {
    let pairs = n_used * t;
    prepared_bytes(w, k, x_rows * t) + Experts::bytes(n_expert, pairs) + workers * room_bytes(pairs)
}

/// Rounds the rows of `x` into `scratch`, if weights of type `w` want them rounded. All quantised
/// types share one format, so what was prepared for one serves the others.
///
/// A barrier must follow before any use.
///
/// # Safety
/// The contract of all kernels (see [`super`]); `scratch` is aligned to [`SCRATCH_ALIGN`] and has
/// the bytes of [`mul_mat_scratch_bytes`] for all rows of `x`.
pub unsafe fn prepare_x(wk: &Worker, isa: Isa, w: DType, x: TensorRef, scratch: *mut u8) {
    if !w.is_quantised() {
        return;
    }
    for r in wk.share(x.rows(), 1) {
        // SAFETY: passed on; `r` is a row of `x`, and shares do not overlap.
        unsafe { prepare_row(isa, x, r, scratch) };
    }
}

/// Rounds row `row` of `x` into `scratch`, as [`prepare_x`] does for weights that want it.
///
/// # Safety
/// As there; the row exists, and no other worker prepares it.
pub unsafe fn prepare_row(isa: Isa, x: TensorRef, row: usize, scratch: *mut u8) {
    let stride = RowLayout::new(x.ne[0]).stride;
    // SAFETY: `row` is a row of `x`, and its slot lies in the scratch.
    unsafe { activations::quantise_row(isa, x.f32_row(row), scratch.add(row * stride)) };
}

/// `dst = wᵀ x`: `w (k, n)` of any type, `x` F32 `(k, t)`, `dst` F32 `(n, t)`.
///
/// `x_is_ready` says that the scratch still holds this `x`, prepared by an earlier product with
/// quantised weights; then no barrier is passed inside. All workers call this with the same
/// arguments, and a barrier must stand between two products.
///
/// # Safety
/// The contract of all kernels (see [`super`]); `x` and `dst` are 4-byte aligned; `scratch` is
/// aligned to [`SCRATCH_ALIGN`] and has [`mul_mat_scratch_bytes`].
pub unsafe fn mul_mat(
    wk: &Worker,
    isa: Isa,
    w: TensorRef,
    x: TensorRef,
    dst: TensorRef,
    scratch: *mut u8,
    x_is_ready: bool,
) {
    // SAFETY: passed on.
    unsafe { mul_mats(wk, isa, &[(w, dst)], x, scratch, x_is_ready, false, &|_| ()) }
}

/// The product by expert: `w (k, n, n_expert)` of any type, `x` F32 `(k, 1 | n_used, t)`, `ids` I32
/// `(n_used, t)`, `dst` F32 `(n, n_used, t)`. Only experts that some token uses are read. A row
/// whose id is no expert becomes zeros.
///
/// `x_is_ready` as in [`mul_mat`]; a barrier is passed inside in any case.
///
/// # Safety
/// As [`mul_mat`], with [`mul_mat_id_scratch_bytes`]; `ids` is gapless.
pub unsafe fn mul_mat_id(
    wk: &Worker,
    isa: Isa,
    w: TensorRef,
    x: TensorRef,
    ids: TensorRef,
    dst: TensorRef,
    scratch: *mut u8,
    x_is_ready: bool,
) {
    assert_eq!(scratch.align_offset(SCRATCH_ALIGN), 0, "products need aligned scratch");
    let (n, n_expert) = (w.ne[1], w.ne[2]);
    let prepared = prepared_bytes(w.dtype, w.ne[0], x.rows());
    let pairs = ids.rows() * ids.ne[0];
    if !x_is_ready {
        // SAFETY: passed on.
        unsafe { prepare_x(wk, isa, w.dtype, x, scratch) };
    }
    // SAFETY: the groups lie behind the prepared rows, in the bytes that
    // `mul_mat_id_scratch_bytes` counts for them.
    let groups = unsafe { Experts::at(scratch.add(prepared), n_expert, pairs) };
    // SAFETY: the rooms lie behind the groups, one for each worker.
    let room = unsafe {
        let rooms = scratch.add(prepared + Experts::bytes(n_expert, pairs));
        rooms.add(wk.index * room_bytes(pairs))
    };
    if wk.index == 0 {
        // SAFETY: only this worker touches the groups before the barrier; `ids` is gapless.
        let unknown = unsafe { groups.fill(ids.i32s()) };
        for pair in unknown {
            // SAFETY: the pair counts a row of `dst`, which no product will write.
            unsafe { scalar::zero_row(dst, pair % ids.ne[0], pair / ids.ne[0]) };
        }
    }
    wk.barrier();
    // SAFETY: the barrier made the groups visible, and nobody writes them any more.
    let groups = unsafe { groups.read() };
    let work = p_work(w.ne[0], pairs, groups.used());
    let chunk = chunk_rows(n, work, wk.count);
    let chunks = n.div_ceil(chunk);
    for items in wk.chunks(groups.used() * chunks, 1) {
        for item in items {
            let (expert, pairs) = groups.group(item / chunks);
            // SAFETY: the expert is below `n_expert`.
            let w_expert = TensorRef { ptr: unsafe { w.ptr.add(expert * w.nb[2]) }, ..w };
            let cols = Columns::some(w.dtype, x, dst, scratch, pairs, ids.ne[0]);
            let p = product(w_expert, cols, room);
            let start = item % chunks * chunk;
            // SAFETY: the rows are below `n`, and items do not overlap.
            unsafe { rows(isa, &p, start..(start + chunk).min(n)) };
        }
    }
}

/// Multiplications per row of an expert, on average.
fn p_work(k: usize, pairs: usize, used: usize) -> usize {
    k * pairs.div_ceil(used.max(1))
}

fn product(w: TensorRef, cols: Columns<'_>, room: *mut u8) -> Product<'_> {
    let k = w.ne[0];
    let w_row_bytes = k / w.dtype.block_len() * w.dtype.block_bytes();
    Product {
        dtype: w.dtype,
        k,
        w: w.ptr,
        w_stride: w.nb[1],
        w_row_bytes,
        cols,
        room,
        panel: std::ptr::null(),
    }
}

/// How many rows of `work` multiplications each a chunk should have at least.
fn least_rows(work: usize) -> usize {
    (CHUNK_WORK / work.max(1)).max(1).next_multiple_of(GRANULE).min(MOST_ROWS)
}

/// Rows per chunk when `n` rows of `work` multiplications each are shared by `workers`: several
/// chunks for each, none too small.
fn chunk_rows(n: usize, work: usize, workers: usize) -> usize {
    (n / (workers * 4)).next_multiple_of(GRANULE).min(MOST_ROWS).max(least_rows(work))
}

/// Computes rows `range` of the result for all columns, with the kernels of `isa`.
///
/// # Safety
/// As [`Product`] states; the processor has `isa`.
unsafe fn rows(isa: Isa, p: &Product, range: Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: passed on.
    unsafe {
        x86::rows(isa, p, range);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: passed on.
    unsafe {
        neon::rows(isa, p, range);
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = isa;
        // SAFETY: passed on.
        unsafe { scalar::rows(p, range) };
    }
}

#[cfg(test)]
mod tests;
