//! Launches of `TOP_K`.

use crate::engine::tensor::DType;

use super::super::params::ops::TopKParams;
use super::rows::{self, extent, push, strides};
use super::{Launch, Operand, ScratchPlan, Traits};

/// Threads of a block.
const THREADS: u32 = 256;
/// The longest row that one block searches alone, and the parts of longer ones.
const ALONE_MAX: usize = 4096;
const PART_LEN: usize = 2048;

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0])
}

/// See [`super::plan`].
pub(super) fn plan(
    k: usize,
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let x = &src[0];
    let (n, t) = (x.ne[0], x.rows());
    let parts = n.div_ceil(PART_LEN);
    let mut params = TopKParams {
        src: x.address,
        winners: 0,
        dst: rows::integers(dst)?,
        src_row: strides(x)?.row,
        n: extent(n)?,
        k: extent(k)?,
        parts: extent(parts)?,
        part_len: PART_LEN as u32,
    };
    if n <= ALONE_MAX {
        return push(out, "top_k_f32", t as u64, THREADS, &params);
    }
    extent(parts * k)?;
    params.winners = scratch.take(size_of::<u64>() * parts * k * t);
    push(out, "top_k_parts_f32", (parts * t) as u64, THREADS, &params)?;
    push(out, "top_k_merge", t as u64, THREADS, &params)
}
