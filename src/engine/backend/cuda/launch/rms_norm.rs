//! Launches of `RMS_NORM`.

use crate::engine::tensor::DType;

use super::super::params::ops::RowParams;
use super::rows::{self, Strides, extent, push, strides, threads_for_row, vector};
use super::{Launch, Operand, ScratchPlan, Traits};

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0, 1])
}

/// See [`super::plan`].
pub(super) fn plan(
    eps: f32,
    src: &[Operand],
    dst: &Operand,
    traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let (x, weight) = (&src[0], &src[1]);
    let (x_at, dst_at) = (strides(x)?, strides(dst)?);
    strides(weight)?;
    // The weight is one row, whatever its strides say.
    let one_row = Strides { row: 0, plane: 0 };
    let params = RowParams {
        src: x.address,
        weight: weight.address,
        dst: dst.address,
        src_row: x_at.row,
        src_plane: x_at.plane,
        dst_row: dst_at.row,
        dst_plane: dst_at.plane,
        ne0: extent(x.ne[0])?,
        ne1: extent(x.ne[1])?,
        vector: vector(&[(x, x_at), (weight, one_row), (dst, dst_at)]),
        eps,
    };
    // Few rows need many threads each; many rows fill the GPU with fewer, which wait less.
    let few = x.rows() < 2 * traits.multiprocessors as usize;
    let threads = threads_for_row(x.ne[0], if few { 1024 } else { 256 });
    push(out, "rms_norm_f32", x.rows() as u64, threads, &params)
}
