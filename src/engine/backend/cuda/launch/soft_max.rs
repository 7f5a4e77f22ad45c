//! Launches of `SOFT_MAX`.

use crate::engine::tensor::DType;

use super::super::params::ops::RowParams;
use super::rows::{self, extent, push, strides, threads_for_row};
use super::{Launch, Operand, ScratchPlan, Traits};

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0])
}

/// See [`super::plan`].
pub(super) fn plan(
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let x = &src[0];
    let (x_at, dst_at) = (strides(x)?, strides(dst)?);
    let params = RowParams {
        src: x.address,
        weight: 0,
        dst: dst.address,
        src_row: x_at.row,
        src_plane: x_at.plane,
        dst_row: dst_at.row,
        dst_plane: dst_at.plane,
        ne0: extent(x.ne[0])?,
        ne1: extent(x.ne[1])?,
        vector: 0,
        eps: 0.0,
    };
    push(out, "soft_max_f32", x.rows() as u64, threads_for_row(x.ne[0], 1024), &params)
}
