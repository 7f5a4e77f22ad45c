//! Launches of the kernels that stream rows past one column: `mul_mat_vec` and its variants.
//!
//! No plan of an operation, and no choice of what is joined (see `fuse_products`). Invariant: block
//! sizes and shared memory are those that `kernels/mul_mat_vec.cuh` and `mul_mat_float.cuh` declare.

use std::ops::Range;

use bytemuck::Zeroable;

use crate::engine::backend::cuda::params::matmul::{
    MUL_MAT_VEC_SIDES, MulMatFewParams, MulMatVecParams, MulMatVecSide,
};
use crate::engine::tensor::DType;

use super::products::{GRID_Y_MAX, WARPS, chunk_bytes, kernels};
use super::{Launch, Operand, ParamBytes, Traits};

/// Elements that a lane takes at a time.
const VEC_ELEMENTS: usize = 64;
/// Blocks that one multiprocessor should hold: beyond 24 warps it has enough bytes in flight.
const VEC_BLOCKS: usize = 3;

/// Kernels for matrices of two types, the first one's first.
const MIXED: [(&str, DType, DType); 3] = [
    ("mul_mat_vec_q4_k_q5_k", DType::Q4_K, DType::Q5_K),
    ("mul_mat_vec_q4_k_q6_k", DType::Q4_K, DType::Q6_K),
    ("mul_mat_vec_q5_k_q6_k", DType::Q5_K, DType::Q6_K),
];

/// The types of weights that a launch multiplies; the second one only by a mixed kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(pub(super) DType, pub(super) Option<DType>);

impl Types {
    /// The types of a kernel that takes up to three matrices; `None` for every other kernel.
    pub(super) fn of(kernel: &str) -> Option<Self> {
        let single =
            DType::WEIGHTS.into_iter().find(|d| kernels(*d).is_some_and(|k| k.vec == kernel));
        let mixed = || MIXED.iter().find(|m| m.0 == kernel).map(|m| Self(m.1, Some(m.2)));
        single.map(|d| Self(d, None)).or_else(mixed)
    }

    /// The kernel for matrices of these types.
    pub(super) fn kernel(self) -> Option<&'static str> {
        match self {
            Self(only, None) => kernels(only).map(|k| k.vec),
            Self(a, Some(b)) => MIXED.iter().find(|m| (m.1, m.2) == (a, b)).map(|m| m.0),
        }
    }

    /// Shared memory with this many warps for rows of `k` weights, in bytes.
    fn shared_bytes(self, k: usize, warps: usize) -> usize {
        let second = self.1.map_or(0, |d| shared_bytes(d, k, warps));
        shared_bytes(self.0, k, warps).max(second)
    }
}

/// Shared memory with this many warps for rows of `k` weights, in bytes; 0 for plain weights.
fn shared_bytes(w: DType, k: usize, warps: usize) -> usize {
    if !w.is_quantised() {
        return 0;
    }
    let chunk = chunk_bytes(w, 32 * VEC_ELEMENTS);
    let slot = (chunk + 4 * 32 + 4).next_multiple_of(16);
    let slots = if chunk < 1600 { 4 } else { 3 };
    let pair = if w == DType::Q2_K { 112 } else { 80 };
    warps * slots * slot + k.div_ceil(VEC_ELEMENTS) * pair
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
    let k = w.ne[0];
    let few = pairs.ids.is_none() && pairs.count > 1 && !w.dtype.is_quantised();
    let columns = if few { 8 } else { 1 };
    let y = pairs.count.div_ceil(columns);
    if y > GRID_Y_MAX {
        return Err(format!("{y} products at once, of at most {GRID_Y_MAX}"));
    }
    let rows_of_warp = match (few, w.dtype) {
        (false, _) => 1,
        (true, DType::F32) => 4,
        (true, _) => 2,
    };
    let Some(share) = Share::new(Types(w.dtype, None), k, rows_of_warp, traits) else {
        let most = traits.shared_bytes_optin;
        let least = shared_bytes(w.dtype, k, 2);
        return Err(format!("rows of {k} {} need {least} B shared, of {most}", w.dtype));
    };
    let mut params = MulMatVecParams {
        x: x.address,
        ids: pairs.ids.map_or(0, |ids| ids.0),
        x_slot_bytes: pairs.x_bytes[0] as u64,
        x_token_bytes: pairs.x_bytes[1] as u64,
        ids_token_bytes: pairs.ids.map_or(0, |ids| ids.1) as u64,
        k: k as i32,
        slots: pairs.slots as i32,
        n_expert: pairs.n_expert as i32,
        pairs: pairs.count as i32,
        ..MulMatVecParams::zeroed()
    };
    params.sides[0] = MulMatVecSide {
        w: w.address,
        dst: dst.address,
        w_row_bytes: w.nb[1] as u64,
        w_expert_bytes: w.nb[2] as u64,
        dst_slot_bytes: pairs.dst_bytes[0] as u64,
        dst_token_bytes: pairs.dst_bytes[1] as u64,
        n: w.ne[1] as i32,
        ..MulMatVecSide::zeroed()
    };
    out.push(share.launch(if few { kernels.few } else { kernels.vec }, params, y));
    Ok(())
}

/// Lanes that share a row of `k` weights, so that few idle when rows are short.
fn lanes_of_row(k: usize) -> usize {
    [8, 16].into_iter().find(|lanes| k <= lanes * VEC_ELEMENTS).unwrap_or(32)
}

/// How rows are shared among warps.
pub(super) struct Share {
    /// Weights of a row.
    k: usize,
    /// Warps of a block.
    warps: usize,
    /// Lanes that share a row.
    lanes: usize,
    /// Rows that these lanes take at a time.
    rows_of_warp: usize,
    /// Blocks that the device holds at a time.
    room: usize,
    /// Shared memory of a block, in bytes.
    shared_bytes: usize,
}

impl Share {
    /// For rows of `k` weights of these types; `None` if they are too long for the shared memory.
    pub(super) fn new(
        types: Types,
        k: usize,
        rows_of_warp: usize,
        traits: &Traits,
    ) -> Option<Self> {
        let most = traits.shared_bytes_optin as usize;
        let fits = |&warps: &usize| types.shared_bytes(k, warps) <= most;
        let warps = [WARPS, 4, 2].into_iter().find(fits)?;
        let shared_bytes = types.shared_bytes(k, warps);
        let per_multiprocessor = (most / shared_bytes.max(1)).clamp(1, VEC_BLOCKS);
        Some(Self {
            k,
            warps,
            lanes: if types.0.is_quantised() { lanes_of_row(k) } else { 32 },
            rows_of_warp,
            room: traits.multiprocessors.max(1) as usize * per_multiprocessor,
            shared_bytes,
        })
    }

    /// The launch of `kernel` for these arguments, whose sides are dealt out to blocks here.
    /// `products`: extent of the grid along y. With `gated` all sides share the blocks of the first.
    pub(super) fn launch(
        &self,
        kernel: &'static str,
        mut params: MulMatVecParams,
        products: usize,
    ) -> Launch {
        let sides = if params.gated == 0 { sides(&params) } else { 1 };
        let rows: Vec<usize> = params.sides[..sides].iter().map(|s| s.n as usize).collect();
        let (blocks, split) = self.rows(&rows, products);
        let mut end = 0;
        for (side, blocks) in params.sides.iter_mut().zip(blocks) {
            end += blocks;
            side.end_block = end as i32;
        }
        params.split = split as i32;
        params.lanes = self.lanes as i32;
        Launch {
            kernel,
            grid: [end as u32, products as u32, 1],
            block: [32 * self.warps as u32, 1, 1],
            shared_bytes: self.shared_bytes as u32,
            params: ParamBytes::new(&params),
        }
    }

    /// Blocks for `n` rows of each matrix in each of `products`, and how many warps share a row: as
    /// many as the device has room for at once, but no more than a row has chunks. Rounds of rows are
    /// as even as they can be.
    fn rows(&self, n: &[usize], products: usize) -> (Vec<usize>, usize) {
        let (rows, chunks) =
            (self.rows_of_warp * 32 / self.lanes, self.k.div_ceil(32 * VEC_ELEMENTS));
        let blocks_of = |n: usize, split: usize| n.div_ceil(self.warps / split * rows);
        let blocks = |split: usize| n.iter().map(|&n| blocks_of(n, split)).sum::<usize>();
        let split = [8, 4, 2]
            .into_iter()
            .filter(|&split| split <= chunks.min(self.warps) && self.lanes == 32)
            .find(|&split| blocks(split) * products <= self.room)
            .unwrap_or(1);
        let rounds = (blocks(split) * products).div_ceil(self.room).max(1);
        (n.iter().map(|&n| blocks_of(n, split).div_ceil(rounds)).collect(), split)
    }
}

/// The arguments of a product of few columns of quantised weights; `None` for every other kernel.
pub(super) fn few_params(launch: &Launch) -> Option<MulMatFewParams> {
    let few = |d: &DType| d.is_quantised() && kernels(*d).is_some_and(|k| k.few == launch.kernel);
    DType::WEIGHTS.iter().find(|d| few(d))?;
    Some(bytemuck::pod_read_unaligned(launch.params.as_bytes()))
}

/// How many matrices a launch has.
pub(super) fn sides(params: &MulMatVecParams) -> usize {
    params.sides.iter().take_while(|s| s.n > 0).count()
}

/// Memory that a launch reads before it waits for earlier work: the weights of plain products.
pub(in crate::engine::backend::cuda) fn read_before_the_wait(launch: &Launch) -> Vec<Range<u64>> {
    if let Some(p) = few_params(launch) {
        let sides = p.sides.iter().filter(|s| s.n > 0);
        return sides.map(|s| s.w..s.w + s.n as u64 * s.w_row_bytes).collect();
    }
    if !launch.kernel.starts_with("mul_mat_vec_") {
        return Vec::new();
    }
    let p: MulMatVecParams = bytemuck::pod_read_unaligned(launch.params.as_bytes());
    let sides = p.sides[..sides(&p).min(MUL_MAT_VEC_SIDES)].iter();
    // A stride is at least a row; the longest way is by the last expert.
    let experts = |s: &MulMatVecSide| (p.n_expert.max(1) as u64 - 1) * s.w_expert_bytes;
    sides.map(|s| s.w..s.w + experts(s) + s.n as u64 * s.w_row_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 132 multiprocessors with 3 blocks each.
    fn share(k: usize) -> Share {
        let lanes = lanes_of_row(k);
        Share { k, warps: 8, lanes, rows_of_warp: 1, room: 396, shared_bytes: 0 }
    }

    #[test]
    fn rows_are_shared_where_warps_would_idle() {
        let rows = |n, k, products| {
            let (blocks, split) = share(k).rows(&[n], products);
            (blocks[0], split)
        };
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
    fn matrices_that_share_a_launch_have_even_rounds() {
        // Query, key and value of an 8B model: two rounds for every block.
        assert_eq!(share(4096).rows(&[4096, 1024, 1024], 1), (vec![256, 64, 64], 1));
        // Of a small one: two warps to a row, one round.
        assert_eq!(share(4096).rows(&[1024, 128, 128], 1), (vec![256, 32, 32], 2));
    }

    #[test]
    fn kernels_are_known_by_their_types() {
        for dtype in DType::WEIGHTS {
            let types = Types(dtype, None);
            assert_eq!(types.kernel().and_then(Types::of), Some(types));
        }
        for (name, a, b) in MIXED {
            assert_eq!(Types(a, Some(b)).kernel(), Some(name));
            assert_eq!(Types::of(name), Some(Types(a, Some(b))));
        }
        assert_eq!(Types::of("mul_mat_vec_glu_q4_k"), None);
        assert_eq!(Types(DType::Q6_K, Some(DType::Q4_K)).kernel(), None);
    }
}
