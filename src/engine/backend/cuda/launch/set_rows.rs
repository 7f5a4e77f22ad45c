//! Launches of `SET_ROWS`: rows into the KV cache.

use bytemuck::Zeroable;

use crate::engine::tensor::DType;

use super::super::params::ops::{SetRowsParams, SetRowsSide};
use super::rows::{self, extent, integers, push, strides};
use super::{Launch, Operand, ScratchPlan, Traits};

/// Threads of a block.
const THREADS: u32 = 256;
/// Elements of a row that one block writes, where they are plain numbers and where 32 share a scale.
const ELEMENTS_PLAIN: usize = 1024;
const ELEMENTS_BLOCKS: usize = 256;

/// The kernel for a cache of this type, and the elements that one of its blocks writes.
fn kernel(dtype: DType) -> Result<(&'static str, usize), String> {
    Ok(match dtype {
        DType::F32 => ("set_rows_f32", ELEMENTS_PLAIN),
        DType::F16 => ("set_rows_f16", ELEMENTS_PLAIN),
        DType::BF16 => ("set_rows_bf16", ELEMENTS_PLAIN),
        DType::Q8_0 => ("set_rows_q8_0", ELEMENTS_BLOCKS),
        DType::Q4_0 => ("set_rows_q4_0", ELEMENTS_BLOCKS),
        DType::Q4_1 => ("set_rows_q4_1", ELEMENTS_BLOCKS),
        DType::Q5_0 => ("set_rows_q5_0", ELEMENTS_BLOCKS),
        DType::Q5_1 => ("set_rows_q5_1", ELEMENTS_BLOCKS),
        other => return Err(format!("a cache of {other} cannot be written on the GPU")),
    })
}

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0])?;
    kernel(src[2]).map(|_| ())
}

/// See [`super::plan`]. The result is the cache itself.
pub(super) fn plan(
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let (x, cells) = (&src[0], &src[1]);
    let (kernel, elements) = kernel(dst.dtype)?;
    let x_at = strides(x)?;
    // `x` may have heads of its own; its rows are the tokens all the same.
    let rows_follow = x.ne[2] == 1 || x.nb[2] == x.ne[1] * x.nb[1];
    if !rows_follow || x.rows() != cells.ne[0] {
        return Err(format!("{} rows for {} cells", x.rows(), cells.ne[0]));
    }
    let chunks = x.ne[0].div_ceil(elements);
    let side = SetRowsSide {
        src: x.address,
        cache: dst.address,
        src_row: x_at.row,
        cache_row_bytes: dst.nb[1] as u64,
        n: extent(x.ne[0])?,
        cells: extent(dst.ne[1])?,
    };
    let params = SetRowsParams {
        sides: [side, SetRowsSide::zeroed()],
        rows: integers(cells)?,
        chunks: extent(chunks)?,
        padding: 0,
    };
    push(out, kernel, (chunks * cells.ne[0]) as u64, THREADS, &params)
}
