//! What the matrix products share: kernels of each type of weights, their shapes and shared memory,
//! and the launches that prepare activations.
//!
//! No plan of an operation. Invariant: block sizes and shared memory are those that the kernels in
//! `kernels/mul_mat*.cuh` declare.

use crate::engine::backend::cuda::params::matmul::QuantizeParams;
use crate::engine::tensor::DType;

use super::{Launch, Operand, ParamBytes, ScratchPlan};

/// Elements that share a scale of activations, and the step of all products of whole blocks.
const UNIT: usize = 32;
/// Threads of the kernels that stream rows.
const THREADS: u32 = 256;
/// Warps of such a block.
pub(super) const WARPS: usize = 8;
/// Blocks of a grid along y or z at most.
pub(super) const GRID_Y_MAX: usize = 65535;
/// The kernels for one type of weights.
pub(super) struct Kernels {
    /// One column per pair.
    pub(super) vec: &'static str,
    /// One column per pair, with gate and up and their gated unit.
    pub(super) vec_glu: &'static str,
    /// Up to 8 columns at once.
    pub(super) few: &'static str,
    /// Tensor cores with tiles of [`NARROW`] and [`WIDE`]; none for F32, which they would round.
    pub(super) tiles: Option<[&'static str; 2]>,
}

/// A tile of the tensor core kernels: columns, rows of weights.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// For few columns, for experts, and for devices with little shared memory.
pub(super) const NARROW: Tile = Tile { columns: 32, rows: 64 };
/// For long prompts; devices from 8.0 on.
pub(super) const WIDE: Tile = Tile { columns: 128, rows: 128 };

macro_rules! kernels {
    ($type:literal, F32) => {
        Kernels {
            vec: concat!("mul_mat_vec_", $type),
            vec_glu: concat!("mul_mat_vec_glu_", $type),
            few: concat!("mul_mat_few_", $type),
            tiles: None,
        }
    };
    ($type:literal) => {
        Kernels {
            vec: concat!("mul_mat_vec_", $type),
            vec_glu: concat!("mul_mat_vec_glu_", $type),
            few: concat!("mul_mat_few_", $type),
            tiles: Some([concat!("mul_mat_narrow_", $type), concat!("mul_mat_wide_", $type)]),
        }
    };
}

/// The kernels for weights of this type; `None` if it is no type of weights.
pub(super) fn kernels(dtype: DType) -> Option<Kernels> {
    Some(match dtype {
        DType::F32 => kernels!("f32", F32),
        DType::F16 => kernels!("f16"),
        DType::BF16 => kernels!("bf16"),
        DType::Q4_0 => kernels!("q4_0"),
        DType::Q4_1 => kernels!("q4_1"),
        DType::Q5_0 => kernels!("q5_0"),
        DType::Q5_1 => kernels!("q5_1"),
        DType::Q8_0 => kernels!("q8_0"),
        DType::Q2_K => kernels!("q2_k"),
        DType::Q3_K => kernels!("q3_k"),
        DType::Q4_K => kernels!("q4_k"),
        DType::Q5_K => kernels!("q5_k"),
        DType::Q6_K => kernels!("q6_k"),
        DType::IQ4_NL => kernels!("iq4_nl"),
        DType::IQ4_XS => kernels!("iq4_xs"),
        DType::MXFP4 => kernels!("mxfp4"),
        DType::I32 => return None,
    })
}

/// What a kernel needs to know of a format beside the geometry of its blocks.
struct Format {
    /// What a block's address is a multiple of is at least 16: rows need no shift.
    aligned: bool,
    /// Halves of 32 elements have scales of their own.
    halves: bool,
}

fn format(dtype: DType) -> Format {
    let aligned = matches!(dtype, DType::Q4_K | DType::Q5_K | DType::BF16);
    let halves = matches!(dtype, DType::Q2_K | DType::Q3_K | DType::Q6_K);
    Format { aligned, halves }
}

/// Bytes of the blocks that hold `elements` of a row.
pub(super) fn chunk_bytes(w: DType, elements: usize) -> usize {
    elements / w.block_len() * w.block_bytes()
}

/// From row to row of raw weights in shared memory: an odd number of 16 bytes.
fn pitch(w: DType, chunk_bytes: usize) -> usize {
    let room = if format(w).aligned { 15 } else { 34 };
    (((chunk_bytes + room) / 16) | 1) * 16
}

/// Shared memory of `mul_mat_few` for quantised weights, in bytes.
pub(super) fn few_shared_bytes(w: DType) -> usize {
    let rows = 16 * pitch(w, chunk_bytes(w, 256));
    let scales = 8 * 16 * if format(w).halves { 16 } else { 8 };
    WARPS * (2 * rows + scales)
}

/// Shared memory of a tensor core kernel, in bytes.
pub(super) fn tile_shared_bytes(w: DType, tile: Tile) -> usize {
    let row_of_halves = UNIT * 2;
    let x = 3 * tile.columns * row_of_halves + tile.columns * 4;
    if w == DType::F16 {
        return x + 3 * tile.rows * row_of_halves;
    }
    let steps = if w.block_len() == 256 { 8 } else { 4 };
    let raw = tile.rows * pitch(w, chunk_bytes(w, steps * UNIT));
    x + 2 * (tile.rows * row_of_halves + raw + tile.rows * 8)
}

/// Whether rows of these weights lie as the kernels for quantised weights and the tensor core kernels
/// need them: the tensor at a multiple of 16, whole blocks, plain types in rows of 16 bytes.
pub(super) fn is_streamable(w: &Operand) -> bool {
    let row_align = if w.dtype.is_quantised() { 1 } else { 16 };
    w.address.is_multiple_of(16)
        && w.ne[0].is_multiple_of(UNIT)
        && w.nb[1].is_multiple_of(row_align)
        && w.nb[2].is_multiple_of(row_align)
}

/// Forms in which activations are kept for the next product that reads them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// 8 bits, a scale for every 32.
    Q8,
    /// Halves, a scale for every row.
    F16,
}

/// Activations in another form: the address of row 0, bytes from row to row, and for halves the
/// address of the rows' scales.
pub(super) struct Prepared {
    pub(super) address: u64,
    pub(super) row_bytes: usize,
    pub(super) row_scales: u64,
}

/// All rows of `x` in `form`, which an earlier node may have left behind.
///
/// # Errors
/// When there are too many rows, or 4 GiB of them: kernels count in 32 bits.
pub(super) fn prepare(
    x: &Operand,
    form: Form,
    scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<Prepared, String> {
    let (k, rows) = (x.ne[0], x.ne[1] * x.ne[2]);
    if rows > GRID_Y_MAX {
        return Err(format!("{rows} rows of activations, of at most {GRID_Y_MAX}"));
    }
    let units = k / UNIT;
    let (name, kernel, row_bytes, blocks) = match form {
        Form::Q8 => ("q8", "quantize_q8", units * 48, units.div_ceil(4 * WARPS)),
        Form::F16 => ("f16", "quantize_f16", k * 2, 1),
    };
    if u32::try_from(rows * row_bytes).is_err() {
        return Err(format!("{rows} rows of {k} activations are more than 4 GiB"));
    }
    let (address, fresh) = scratch.keep(x, name, rows * (row_bytes + size_of::<f32>()));
    let row_scales = address + (rows * row_bytes) as u64;
    if fresh {
        let params = QuantizeParams {
            x: x.address,
            out: address,
            row_scales,
            x_slot_bytes: x.nb[1] as u64,
            x_token_bytes: x.nb[2] as u64,
            out_bytes: row_bytes as u64,
            k: k as i32,
            slots: x.ne[1] as i32,
        };
        out.push(Launch {
            kernel,
            grid: [blocks as u32, rows as u32, 1],
            block: [THREADS, 1, 1],
            shared_bytes: 0,
            params: ParamBytes::new(&params),
        });
    }
    Ok(Prepared { address, row_bytes, row_scales })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_weights_has_kernels() {
        for dtype in DType::WEIGHTS {
            assert!(kernels(dtype).is_some(), "{dtype}");
        }
        assert!(kernels(DType::I32).is_none());
    }

    #[test]
    fn narrow_tiles_fit_the_oldest_device() {
        for dtype in DType::WEIGHTS.into_iter().filter(|d| *d != DType::F32) {
            assert!(tile_shared_bytes(dtype, NARROW) <= 64 << 10, "{dtype}");
            assert!(tile_shared_bytes(dtype, WIDE) <= 163 << 10, "{dtype}");
        }
    }
}
