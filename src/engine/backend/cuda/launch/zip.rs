//! Launches of what works on each element alone, over one or two operands.

use super::super::params::ops::ZipParams;
use super::rows::{Strides, extent, push, strides, vector};
use super::{Launch, Operand};

/// Threads of a block, each with four elements.
const THREADS: usize = 256;

/// `dst = kernel(a, b)`; one row of `b` stands for all rows.
pub(super) fn plan(
    kernel: &'static str,
    [a, b, dst]: [&Operand; 3],
    factor: f32,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let (mut a_at, mut b_at, mut dst_at) = (strides(a)?, strides(b)?, strides(dst)?);
    let (mut ne0, mut ne1, mut rows) = (a.ne[0], a.ne[1], a.rows());
    if b.rows() == 1 && rows != 1 {
        b_at = Strides { row: 0, plane: 0 };
    } else if [a, b, dst].iter().all(|x| x.is_contiguous()) {
        // One long row wastes no threads at the ends of short ones.
        let flat = Strides { row: 0, plane: 0 };
        (ne0, ne1, rows) = (ne0 * rows, 1, rows.min(1));
        (a_at, b_at, dst_at) = (flat, flat, flat);
    }
    let chunks = ne0.div_ceil(4 * THREADS);
    let params = ZipParams {
        a: a.address,
        b: b.address,
        dst: dst.address,
        a_row: a_at.row,
        a_plane: a_at.plane,
        b_row: b_at.row,
        b_plane: b_at.plane,
        dst_row: dst_at.row,
        dst_plane: dst_at.plane,
        // The last thread counts up to four elements further.
        ne0: extent(ne0 + 4 * THREADS)? - 4 * THREADS as u32,
        ne1: extent(ne1)?,
        chunks: extent(chunks)?,
        vector: vector(&[(a, a_at), (b, b_at), (dst, dst_at)]),
        factor,
        padding: 0,
    };
    push(out, kernel, (chunks * rows) as u64, THREADS as u32, &params)
}
