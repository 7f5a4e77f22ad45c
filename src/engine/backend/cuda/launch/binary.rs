//! Launches of `ADD` and `MUL`.

use crate::engine::graph::Op;
use crate::engine::tensor::DType;

use super::{Launch, Operand, ScratchPlan, Traits, rows, zip};

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0, 1])
}

/// See [`super::plan`].
pub(super) fn plan(
    op: &Op,
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let kernel = if matches!(op, Op::Add) { "add_f32" } else { "mul_f32" };
    zip::plan(kernel, [&src[0], &src[1], dst], 0.0, out)
}
