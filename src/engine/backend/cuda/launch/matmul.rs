//! Launches of `MUL_MAT`: one column streams rows, up to eight share what is streamed, more take
//! tensor cores.

use bytemuck::Zeroable;

use crate::engine::backend::cuda::params::matmul::{MulMatFewParams, MulMatFewSide, MulMatParams};
use crate::engine::tensor::DType;

use super::mul_mat_vec::{Pairs, plan_vec};
use super::products::{
    Form, NARROW, Prepared, Tile, WIDE, few_shared_bytes, is_streamable, kernels, prepare,
    tile_shared_bytes,
};
use super::{Launch, Operand, ParamBytes, ScratchPlan, Traits};

/// Columns that `mul_mat_few` takes at once.
const FEW: usize = 8;
/// Rows of a block of `mul_mat_few`.
const FEW_ROWS: usize = 16;
/// What a narrow tile costs, in the work of a wide one with as many elements: it loads more for each.
const NARROW_COST: f64 = 2.2;

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    match src {
        [w, DType::F32] if kernels(*w).is_some() => Ok(()),
        _ => Err(format!("no product of {src:?}")),
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
    let [w, x] = src else { return Err(format!("takes 2 operands, got {}", src.len())) };
    let columns = x.ne[1];
    if columns == 0 || w.ne[1] == 0 {
        return Ok(());
    }
    let pairs = Pairs {
        slots: 1,
        count: columns,
        x_bytes: [0, x.nb[1]],
        dst_bytes: [0, dst.nb[1]],
        ids: None,
        n_expert: 1,
    };
    let quantised = w.dtype.is_quantised();
    if quantised && !is_streamable(w) {
        return Err(format!("{} weights that start at no multiple of 16 bytes", w.dtype));
    }
    if columns > FEW
        && is_streamable(w)
        && let Some([narrow, wide]) = kernels(w.dtype).and_then(|kernels| kernels.tiles)
    {
        let tile = tile(w, columns, traits);
        let kernel = if tile.columns == WIDE.columns { wide } else { narrow };
        let x = prepare(x, Form::F16, scratch, out)?;
        out.push(tiles((w, &x, dst), columns, kernel, tile));
        return Ok(());
    }
    let shared = few_shared_bytes(w.dtype);
    if quantised && (2..=FEW).contains(&columns) && shared <= traits.shared_bytes_optin as usize {
        let x = prepare(x, Form::Q8, scratch, out)?;
        out.push(few((w, &x, dst), columns, shared)?);
        return Ok(());
    }
    plan_vec((w, x, dst), pairs, traits, out)
}

/// The tile with which `columns` columns take less time, by the number of rounds of blocks.
fn tile(w: &Operand, columns: usize, traits: &Traits) -> Tile {
    let fits = tile_shared_bytes(w.dtype, WIDE) <= traits.shared_bytes_optin as usize;
    if traits.compute_capability.0 < 8 || !fits {
        return NARROW;
    }
    let rounds = |tile: Tile| {
        let blocks = columns.div_ceil(tile.columns) * w.ne[1].div_ceil(tile.rows);
        let rounds = blocks.div_ceil(traits.multiprocessors.max(1) as usize);
        (rounds * tile.columns * tile.rows) as f64
    };
    if rounds(WIDE) < rounds(NARROW) * NARROW_COST { WIDE } else { NARROW }
}

fn tiles(
    (w, x, dst): (&Operand, &Prepared, &Operand),
    columns: usize,
    kernel: &'static str,
    tile: Tile,
) -> Launch {
    let params = MulMatParams {
        w: w.address,
        x: x.address,
        row_scales: x.row_scales,
        dst: dst.address,
        groups: 0,
        w_row_bytes: w.nb[1] as u64,
        w_expert_bytes: 0,
        x_row_bytes: x.row_bytes as u64,
        dst_slot_bytes: 0,
        dst_token_bytes: dst.nb[1] as u64,
        k: w.ne[0] as i32,
        n: w.ne[1] as i32,
        columns: columns as i32,
        slots: 1,
        x_slots: 1,
        n_expert: 1,
    };
    // Blocks that share weights are neighbours, so that the weights are read from memory once.
    let grid = [columns.div_ceil(tile.columns) as u32, w.ne[1].div_ceil(tile.rows) as u32, 1];
    Launch {
        kernel,
        grid,
        block: [128, 1, 1],
        shared_bytes: tile_shared_bytes(w.dtype, tile) as u32,
        params: ParamBytes::new(&params),
    }
}

fn few(
    (w, x, dst): (&Operand, &Prepared, &Operand),
    columns: usize,
    shared_bytes: usize,
) -> Result<Launch, String> {
    let Some(kernels) = kernels(w.dtype) else {
        return Err(format!("{} is no type of weights", w.dtype));
    };
    let blocks = w.ne[1].div_ceil(FEW_ROWS);
    let mut params = MulMatFewParams {
        x: x.address,
        x_column_bytes: x.row_bytes as u64,
        k: w.ne[0] as i32,
        columns: columns as i32,
        ..MulMatFewParams::zeroed()
    };
    params.sides[0] = MulMatFewSide {
        w: w.address,
        dst: dst.address,
        w_row_bytes: w.nb[1] as u64,
        dst_column_bytes: dst.nb[1] as u64,
        n: w.ne[1] as i32,
        end_block: blocks as i32,
    };
    Ok(Launch {
        kernel: kernels.few,
        grid: [blocks as u32, 1, 1],
        block: [256, 1, 1],
        shared_bytes: shared_bytes as u32,
        params: ParamBytes::new(&params),
    })
}
