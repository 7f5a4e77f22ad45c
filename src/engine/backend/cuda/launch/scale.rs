//! Launches of `SCALE`.

use crate::engine::tensor::DType;

use super::{Launch, Operand, ScratchPlan, Traits, rows, zip};

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0])
}

/// See [`super::plan`].
pub(super) fn plan(
    factor: f32,
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    zip::plan("scale_f32", [&src[0], &src[0], dst], factor, out)
}
