//! Launches of `MOE_WEIGHTS`.

use crate::engine::tensor::DType;

use super::super::params::ops::ExpertWeightsParams;
use super::rows::{self, extent, integers, push, strides};
use super::{Launch, Operand, ScratchPlan, Traits};

/// Threads of a block, one warp per token.
const THREADS: u32 = 128;

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0])
}

/// See [`super::plan`].
pub(super) fn plan(
    normalise: bool,
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let (probs, ids) = (&src[0], &src[1]);
    if !dst.is_contiguous() {
        return Err(format!("weights with strides {:?}", dst.nb));
    }
    let params = ExpertWeightsParams {
        probs: probs.address,
        ids: integers(ids)?,
        dst: dst.address,
        probs_row: strides(probs)?.row,
        n_expert: extent(probs.ne[0])?,
        k: extent(ids.ne[0])?,
        t: extent(ids.rows())?,
        normalise: u32::from(normalise),
    };
    let blocks = ids.rows().div_ceil(THREADS as usize / 32);
    push(out, "expert_weights_f32", blocks as u64, THREADS, &params)
}
