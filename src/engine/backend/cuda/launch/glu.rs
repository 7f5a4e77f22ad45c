//! Launches of `GLU`.

use crate::engine::graph::GluKind;
use crate::engine::tensor::DType;

use super::{Launch, Operand, ScratchPlan, Traits, rows, zip};

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0, 1])
}

/// See [`super::plan`].
pub(super) fn plan(
    kind: GluKind,
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let kernel = match kind {
        GluKind::Silu => "glu_silu_f32",
        GluKind::Gelu => "glu_gelu_f32",
    };
    zip::plan(kernel, [&src[0], &src[1], dst], 0.0, out)
}
