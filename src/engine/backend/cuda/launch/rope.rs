//! Launches of `ROPE`.

use crate::engine::graph::RopeParams;
use crate::engine::tensor::DType;

use super::{Launch, Operand, ScratchPlan, Traits, no_kernel_yet};

/// See [`super::supports`].
pub(super) fn supports(_src: &[DType]) -> Result<(), String> {
    no_kernel_yet()
}

/// See [`super::plan`].
pub(super) fn plan(
    _params: &RopeParams,
    _src: &[Operand],
    _dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    _out: &mut Vec<Launch>,
) -> Result<(), String> {
    no_kernel_yet()
}
