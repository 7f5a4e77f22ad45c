//! Launches of `CONCAT`.

use crate::engine::backend::cuda::params::ops::ConcatParams;
use crate::engine::graph::CONCAT_MAX;
use crate::engine::tensor::DType;

use super::rows::{all_f32, extent, push, strides};
use super::{Launch, Operand};

/// Threads of a block, each with four elements.
const THREADS: usize = 256;

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    all_f32(src, &(0..src.len()).collect::<Vec<_>>())
}

/// See [`super::plan`].
pub(super) fn plan(src: &[Operand], dst: &Operand, out: &mut Vec<Launch>) -> Result<(), String> {
    if src.len() > CONCAT_MAX {
        return Err(format!("takes at most {CONCAT_MAX} operands, got {}", src.len()));
    }
    let ne0 = extent(dst.ne[0] + 4 * THREADS)? - 4 * THREADS as u32;
    let chunks = dst.ne[0].div_ceil(4 * THREADS);
    let mut params = ConcatParams {
        dst: dst.address,
        dst_row: strides(dst)?.row,
        src: [0; CONCAT_MAX],
        src_row: [0; CONCAT_MAX],
        end: [ne0; CONCAT_MAX],
        ne0,
        chunks: extent(chunks)?,
        vector: 1,
        padding: 0,
    };
    let mut end = 0;
    let mut whole = |x: &Operand, row: u64| {
        let fours = x.address.is_multiple_of(16) && x.ne[0].is_multiple_of(4);
        params.vector &= u32::from(fours && row.is_multiple_of(4));
    };
    whole(dst, strides(dst)?.row);
    for (i, part) in src.iter().enumerate() {
        let row = strides(part)?.row;
        whole(part, row);
        end += extent(part.ne[0])?;
        (params.src[i], params.src_row[i], params.end[i]) = (part.address, row, end);
    }
    push(out, "concat_f32", (chunks * dst.rows()) as u64, THREADS as u32, &params)
}
