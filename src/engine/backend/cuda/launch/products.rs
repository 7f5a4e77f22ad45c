//! What the matrix products share: kernels of each type of weights, their shapes and shared memory,
//! and the launches that prepare activations.
//!
//! No plan of an operation. Invariant: block sizes and shared memory are those that the kernels in
//! `kernels/mul_mat*.cuh` declare.

use crate::engine::backend::cuda::params::matmul::{MulMatVecParams, QuantizeParams};
use crate::engine::tensor::DType;

use super::{Launch, Operand, ParamBytes, ScratchPlan, Traits};

/// Elements that share a scale of activations, and the step of all products of whole blocks.
const UNIT: usize = 32;
/// Threads of the kernels that stream rows.
const THREADS: u32 = 256;
/// Warps of such a block.
const WARPS: usize = 8;
/// Blocks of a grid along y or z at most.
pub(super) const GRID_Y_MAX: usize = 65535;
/// Elements that a lane of `mul_mat_vec` takes at a time.
const VEC_ELEMENTS: usize = 64;
/// Blocks of `mul_mat_vec` that one multiprocessor should hold: beyond 24 warps it has enough bytes
/// in flight.
const VEC_BLOCKS: usize = 3;

/// The kernels for one type of weights.
pub(super) struct Kernels {
    /// One column per pair.
    pub(super) vec: &'static str,
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
            few: concat!("mul_mat_few_", $type),
            tiles: None,
        }
    };
    ($type:literal) => {
        Kernels {
            vec: concat!("mul_mat_vec_", $type),
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
fn chunk_bytes(w: DType, elements: usize) -> usize {
    elements / w.block_len() * w.block_bytes()
}

/// From row to row of raw weights in shared memory: an odd number of 16 bytes.
fn pitch(w: DType, chunk_bytes: usize) -> usize {
    let room = if format(w).aligned { 15 } else { 34 };
    (((chunk_bytes + room) / 16) | 1) * 16
}

/// Shared memory of `mul_mat_vec` with this many warps for rows of `k` weights, in bytes; 0 for plain
/// weights.
fn vec_shared_bytes(w: DType, k: usize, warps: usize) -> usize {
    if !w.is_quantised() {
        return 0;
    }
    let chunk = chunk_bytes(w, 32 * VEC_ELEMENTS);
    let slot = (chunk + 4 * 32 + 4).next_multiple_of(16);
    let slots = if chunk < 1600 { 4 } else { 3 };
    let pair = if w == DType::Q2_K { 112 } else { 80 };
    warps * slots * slot + k.div_ceil(VEC_ELEMENTS) * pair
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

/// `MUL_MAT` or `MUL_MAT_ID` as pairs of (slot, token), numbered with the slot fastest.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    /// Slots of a token.
    pub(super) slots: usize,
    /// All pairs.
    pub(super) count: usize,
    /// Bytes from slot to slot and from token to token of the activations.
    pub(super) x_bytes: [usize; 2],
    /// The same of the result.
    pub(super) dst_bytes: [usize; 2],
    /// Address and bytes from token to token of the experts' numbers.
    pub(super) ids: Option<(u64, usize)>,
    /// Experts.
    pub(super) n_expert: usize,
}

/// `mul_mat_vec` for every pair.
///
/// # Errors
/// When a row is too long for the shared memory, or there are too many pairs.
pub(super) fn plan_vec(
    (w, x, dst): (&Operand, &Operand, &Operand),
    pairs: Pairs,
    traits: &Traits,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let Some(kernels) = kernels(w.dtype) else {
        return Err(format!("{} is no type of weights", w.dtype));
    };
    let (k, n) = (w.ne[0], w.ne[1]);
    let most = traits.shared_bytes_optin as usize;
    let shared = |warps: usize| vec_shared_bytes(w.dtype, k, warps);
    let Some(warps) = [WARPS, 4, 2].into_iter().find(|&warps| shared(warps) <= most) else {
        return Err(format!("rows of {k} {} need {} B shared, of {most}", w.dtype, shared(2)));
    };
    let few = pairs.ids.is_none() && pairs.count > 1 && !w.dtype.is_quantised();
    let columns = if few { 8 } else { 1 };
    let y = pairs.count.div_ceil(columns);
    if y > GRID_Y_MAX {
        return Err(format!("{y} products at once, of at most {GRID_Y_MAX}"));
    }
    let per_multiprocessor = (most / shared(warps).max(1)).clamp(1, VEC_BLOCKS);
    let share = Share {
        warps,
        lanes: if w.dtype.is_quantised() { lanes_of_row(k) } else { 32 },
        rows_of_warp: match (few, w.dtype) {
            (false, _) => 1,
            (true, DType::F32) => 4,
            (true, _) => 2,
        },
        room: traits.multiprocessors.max(1) as usize * per_multiprocessor,
    };
    let (blocks, split) = share.rows(n, k, y);
    let params = MulMatVecParams {
        w: w.address,
        x: x.address,
        dst: dst.address,
        ids: pairs.ids.map_or(0, |ids| ids.0),
        w_row_bytes: w.nb[1] as u64,
        w_expert_bytes: w.nb[2] as u64,
        x_slot_bytes: pairs.x_bytes[0] as u64,
        x_token_bytes: pairs.x_bytes[1] as u64,
        dst_slot_bytes: pairs.dst_bytes[0] as u64,
        dst_token_bytes: pairs.dst_bytes[1] as u64,
        ids_token_bytes: pairs.ids.map_or(0, |ids| ids.1) as u64,
        k: k as i32,
        n: n as i32,
        slots: pairs.slots as i32,
        n_expert: pairs.n_expert as i32,
        split: split as i32,
        lanes: share.lanes as i32,
        pairs: pairs.count as i32,
        padding: 0,
    };
    out.push(Launch {
        kernel: if few { kernels.few } else { kernels.vec },
        grid: [blocks as u32, y as u32, 1],
        block: [32 * warps as u32, 1, 1],
        shared_bytes: shared(warps) as u32,
        params: ParamBytes::new(&params),
    });
    Ok(())
}

/// Lanes of `mul_mat_vec` that share a row of `k` weights, so that few idle when rows are short.
fn lanes_of_row(k: usize) -> usize {
    [8, 16].into_iter().find(|lanes| k <= lanes * VEC_ELEMENTS).unwrap_or(32)
}

/// How rows are shared among warps.
struct Share {
    /// Warps of a block.
    warps: usize,
    /// Lanes that share a row.
    lanes: usize,
    /// Rows that these lanes take at a time.
    rows_of_warp: usize,
    /// Blocks that the device holds at a time.
    room: usize,
}

impl Share {
    /// Blocks for `n` rows of `k` weights in each of `products`, and how many warps share a row: as
    /// many as the device has room for at once, but no more than a row has chunks. Rounds of rows are
    /// as even as they can be.
    fn rows(&self, n: usize, k: usize, products: usize) -> (usize, usize) {
        let (rows, chunks) = (self.rows_of_warp * 32 / self.lanes, k.div_ceil(32 * VEC_ELEMENTS));
        let blocks = |split: usize| n.div_ceil(self.warps / split * rows);
        let split = [8, 4, 2]
            .into_iter()
            .filter(|&split| split <= chunks.min(self.warps) && self.lanes == 32)
            .find(|&split| blocks(split) * products <= self.room)
            .unwrap_or(1);
        let rounds = (blocks(split) * products).div_ceil(self.room).max(1);
        (blocks(split).div_ceil(rounds), split)
    }
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
    fn rows_are_shared_where_warps_would_idle() {
        // 132 multiprocessors with 3 blocks each.
        let share = |k| Share { warps: 8, lanes: lanes_of_row(k), rows_of_warp: 1, room: 396 };
        let rows = |n, k, products| share(k).rows(n, k, products);
        assert_eq!(rows(1024, 4096, 1), (256, 2));
        assert_eq!(rows(4096, 4096, 1), (256, 1));
        assert_eq!(rows(128, 2048, 1), (16, 1));
        // 14336 rows are 1792 blocks, in 5 rounds of 359.
        assert_eq!(rows(14336, 4096, 1), (359, 1));
        // 8 experts of 768 rows: 768 blocks in 2 rounds; their short rows back, two to a warp.
        assert_eq!(rows(768, 2048, 8), (48, 1));
        assert_eq!(rows(2048, 768, 8), (43, 1));
    }

    #[test]
    fn narrow_tiles_fit_the_oldest_device() {
        for dtype in DType::WEIGHTS.into_iter().filter(|d| *d != DType::F32) {
            assert!(tile_shared_bytes(dtype, NARROW) <= 64 << 10, "{dtype}");
            assert!(tile_shared_bytes(dtype, WIDE) <= 163 << 10, "{dtype}");
        }
    }
}
