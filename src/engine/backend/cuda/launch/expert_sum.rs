//! Launches of `MOE_SUM`.

use crate::engine::tensor::DType;

use super::super::params::ops::ExpertSumParams;
use super::rows::{self, Strides, extent, push, strides, vector};
use super::{Launch, Operand, ScratchPlan, Traits};

/// Threads of a block, each with four elements.
const THREADS: usize = 256;

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0, 1])
}

/// See [`super::plan`].
pub(super) fn plan(
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let (x, weights) = (&src[0], &src[1]);
    let (x_at, dst_at) = (strides(x)?, strides(dst)?);
    strides(weights)?;
    if !weights.is_contiguous() {
        return Err(format!("weights with strides {:?}", weights.nb));
    }
    let chunks = x.ne[0].div_ceil(4 * THREADS);
    let dst_rows = Strides { row: dst_at.row, plane: 0 };
    let params = ExpertSumParams {
        src: x.address,
        weights: weights.address,
        dst: dst.address,
        src_row: x_at.row,
        src_plane: x_at.plane,
        dst_row: dst_at.row,
        n: extent(x.ne[0])?,
        k: extent(x.ne[1])?,
        chunks: extent(chunks)?,
        vector: vector(&[(x, x_at), (dst, dst_rows)]),
    };
    push(out, "expert_sum_f32", (chunks * x.ne[2]) as u64, THREADS as u32, &params)
}
