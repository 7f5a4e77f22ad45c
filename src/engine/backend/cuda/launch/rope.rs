//! Launches of `ROPE`.

use std::f32::consts::PI;

use bytemuck::Zeroable;

use crate::engine::graph::{RopeMode, RopeParams};
use crate::engine::tensor::DType;

use super::super::params::ops::{self, ROPE_PAIRS_MAX};
use super::rows::{self, extent, integers, strides};
use super::{Launch, Operand, ParamBytes, ScratchPlan, Traits};

/// Threads of a block, for the pairs of one head or of several.
const THREADS: u32 = 256;
/// Heads that share the angles of a token.
const HEADS_PER_BLOCK: u32 = 8;

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, if src.len() > 2 { &[0, 2] } else { &[0] })
}

/// See [`super::plan`].
pub(super) fn plan(
    rope: &RopeParams,
    src: &[Operand],
    dst: &Operand,
    _traits: &Traits,
    _scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let x = &src[0];
    let (x_at, dst_at) = (strides(x)?, strides(dst)?);
    let pairs = rope.n_dims / 2;
    if pairs > ROPE_PAIRS_MAX {
        return Err(format!(
            "heads turn {} elements, more than {}",
            rope.n_dims,
            2 * ROPE_PAIRS_MAX
        ));
    }
    // As the CPU's kernel computes them, so that both turn by the same angles.
    let mut base = [0.0; ROPE_PAIRS_MAX];
    let step = -2.0 / rope.n_dims as f32;
    for (i, radians) in base.iter_mut().take(pairs).enumerate() {
        *radians = rope.freq_base.powf(step * i as f32);
    }
    let mut magnitude = rope.attn_factor;
    if rope.ext_factor != 0.0 {
        magnitude *= 1.0 + 0.1 * (1.0 / rope.freq_scale).ln();
    }
    // The pair that turns `rotations` times within the context the model was trained with.
    let pair = |rotations: f32| {
        let turns = rope.n_ctx_orig as f32 / (rotations * 2.0 * PI);
        rope.n_dims as f32 * turns.ln() / (2.0 * rope.freq_base.ln())
    };
    let ramp_low = pair(rope.beta_fast).floor().max(0.0);
    let ramp_high = pair(rope.beta_slow).ceil().min(rope.n_dims as f32 - 1.0);
    let (tokens, groups) = (extent(x.ne[2])?, extent(x.ne[1])?.div_ceil(HEADS_PER_BLOCK));
    let side = ops::RopeSide {
        src: x.address,
        dst: dst.address,
        src_head: x_at.row,
        src_token: x_at.plane,
        dst_head: dst_at.row,
        dst_token: dst_at.plane,
        n_head: extent(x.ne[1])?,
        groups,
    };
    let params = ops::RopeParams {
        sides: [side, ops::RopeSide::zeroed()],
        positions: integers(&src[1])?,
        factors: src.get(2).map_or(0, |f| f.address),
        d: extent(x.ne[0])?,
        n_dims: extent(rope.n_dims)?,
        neox: u32::from(rope.mode == RopeMode::Neox),
        heads_per_block: HEADS_PER_BLOCK,
        freq_scale: rope.freq_scale,
        ext_factor: rope.ext_factor,
        ramp_low,
        ramp_width: (ramp_high - ramp_low).max(0.001),
        magnitude,
        padding: 0,
        base,
    };
    if tokens > 0 && groups > 0 {
        out.push(Launch {
            kernel: "rope_f32",
            grid: [tokens, groups, 1],
            block: [THREADS, 1, 1],
            shared_bytes: 0,
            params: ParamBytes::new(&params),
        });
    }
    Ok(())
}
