//! Launches of `MUL_MAT_ID`: few tokens stream the rows of each pair's expert, many are sorted by
//! expert and take tensor cores. Only experts that some token chose are read.

use crate::engine::backend::cuda::params::matmul::{GroupExpertsParams, MulMatParams};
use crate::engine::tensor::DType;

use super::mul_mat_vec::{Pairs, plan_vec};
use super::products::{Form, NARROW, is_streamable, kernels, prepare, tile_shared_bytes};
use super::{Launch, Operand, ParamBytes, ScratchPlan, Traits};

/// Tokens up to which each pair reads its expert for itself: pairs that share one are rare then, and
/// find its rows in the second-level cache.
const FEW: usize = 8;

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    match src {
        [w, DType::F32, DType::I32] if kernels(*w).is_some() => Ok(()),
        _ => Err(format!("no product by expert of {src:?}")),
    }
}

/// See [`super::plan`].
pub(super) fn plan(
    src: &[Operand],
    dst: &Operand,
    traits: &Traits,
    scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let [w, x, ids] = src else { return Err(format!("takes 3 operands, got {}", src.len())) };
    let (slots, tokens, n_expert) = (ids.ne[0], ids.ne[1], w.ne[2]);
    let count = slots * tokens;
    if count == 0 || w.ne[1] == 0 {
        return Ok(());
    }
    let pairs = Pairs {
        slots,
        count,
        x_bytes: [if x.ne[1] == 1 { 0 } else { x.nb[1] }, x.nb[2]],
        dst_bytes: [dst.nb[1], dst.nb[2]],
        ids: Some((ids.address, ids.nb[1])),
        n_expert,
    };
    if w.dtype.is_quantised() && !is_streamable(w) {
        return Err(format!("{} weights that start at no multiple of 16 bytes", w.dtype));
    }
    let tiles = kernels(w.dtype).and_then(|kernels| kernels.tiles);
    match tiles {
        Some([narrow, _]) if tokens > FEW && is_streamable(w) => {
            let x_slots = x.ne[1];
            let x = prepare(x, Form::F16, scratch, out)?;
            let groups = group(&pairs, scratch, out);
            let params = MulMatParams {
                w: w.address,
                x: x.address,
                row_scales: x.row_scales,
                dst: dst.address,
                groups,
                w_row_bytes: w.nb[1] as u64,
                w_expert_bytes: w.nb[2] as u64,
                x_row_bytes: x.row_bytes as u64,
                dst_slot_bytes: dst.nb[1] as u64,
                dst_token_bytes: dst.nb[2] as u64,
                k: w.ne[0] as i32,
                n: w.ne[1] as i32,
                columns: count as i32,
                slots: slots as i32,
                x_slots: x_slots as i32,
                n_expert: n_expert as i32,
            };
            // Every tile has a pair, so there are no more than pairs.
            let tiles = tiles_max(&pairs).min(count);
            out.push(Launch {
                kernel: narrow,
                grid: [tiles as u32, w.ne[1].div_ceil(NARROW.rows) as u32, 1],
                block: [128, 1, 1],
                shared_bytes: tile_shared_bytes(w.dtype, NARROW) as u32,
                params: ParamBytes::new(&params),
            });
            Ok(())
        }
        _ => plan_vec((w, x, dst), pairs, traits, out),
    }
}

/// Tiles that the pairs are cut into at most, whatever they chose.
fn tiles_max(pairs: &Pairs) -> usize {
    pairs.count / NARROW.columns + pairs.n_expert + 1
}

/// Sorts the pairs by expert; the address of the result.
fn group(pairs: &Pairs, scratch: &mut ScratchPlan, out: &mut Vec<Launch>) -> u64 {
    let words = 4 + 4 * tiles_max(pairs) + pairs.count;
    let groups = scratch.take(words * size_of::<i32>());
    let (ids, ids_token_bytes) = pairs.ids.unwrap_or_default();
    let params = GroupExpertsParams {
        ids,
        groups,
        ids_token_bytes: ids_token_bytes as u64,
        pairs: pairs.count as i32,
        slots: pairs.slots as i32,
        n_expert: pairs.n_expert as i32,
        tile: NARROW.columns as i32,
    };
    out.push(Launch {
        kernel: "group_experts",
        grid: [1, 1, 1],
        block: [1024, 1, 1],
        shared_bytes: (2 * (pairs.n_expert + 1) * size_of::<i32>()) as u32,
        params: ParamBytes::new(&params),
    });
    groups
}
