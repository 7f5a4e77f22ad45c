//! Launches of `GET_ROWS`.

use crate::engine::tensor::DType;

use super::super::params::ops::GetRowsParams;
use super::rows::{extent, integers, push, strides};
use super::{Launch, Operand, ScratchPlan, Traits};

/// Threads of a block.
const THREADS: u32 = 256;
/// Elements of a row that one block widens.
const ELEMENTS: usize = 2048;

/// The kernel for a table of this type.
fn kernel(dtype: DType) -> Result<&'static str, String> {
    Ok(match dtype {
        DType::F32 => "get_rows_f32",
        DType::F16 => "get_rows_f16",
        DType::BF16 => "get_rows_bf16",
        DType::Q4_0 => "get_rows_q4_0",
        DType::Q4_1 => "get_rows_q4_1",
        DType::Q5_0 => "get_rows_q5_0",
        DType::Q5_1 => "get_rows_q5_1",
        DType::Q8_0 => "get_rows_q8_0",
        DType::Q2_K => "get_rows_q2_k",
        DType::Q3_K => "get_rows_q3_k",
        DType::Q4_K => "get_rows_q4_k",
        DType::Q5_K => "get_rows_q5_k",
        DType::Q6_K => "get_rows_q6_k",
        DType::IQ4_NL => "get_rows_iq4_nl",
        DType::IQ4_XS => "get_rows_iq4_xs",
        DType::MXFP4 => "get_rows_mxfp4",
        DType::I32 => return Err("a table of I32 holds no weights".to_string()),
    })
}

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    kernel(src[0]).map(|_| ())
}

/// See [`super::plan`].
pub(super) fn plan(
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let (table, ids) = (&src[0], &src[1]);
    let chunks = table.ne[0].div_ceil(ELEMENTS);
    let params = GetRowsParams {
        table: table.address,
        ids: integers(ids)?,
        dst: dst.address,
        table_row_bytes: table.nb[1] as u64,
        dst_row: strides(dst)?.row,
        n: extent(table.ne[0])?,
        rows: extent(table.ne[1])?,
        chunks: extent(chunks)?,
        padding: 0,
    };
    push(out, kernel(table.dtype)?, (chunks * ids.ne[0]) as u64, THREADS, &params)
}
