//! What a ubatch costs at least: bytes that must be read and operations of its block products.
//!
//! Counted from the graph that would run, so that whatever an architecture leaves out (layers whose
//! result nobody wants, experts that nobody chose) is not counted. Only the matrix products with
//! weights count as operations; attention, norms and activations are small beside them at short
//! contexts, and not the work of the product kernels that the count is there to judge. Activations
//! count as read from caches, hence not at all.

use std::ops::AddAssign;

use crate::engine::graph::{Graph, GraphError, Op, Role, Tensor};
use crate::engine::tensor::DType;

use super::memory::cache_bytes;
use super::{Blueprint, CELL_PAD, CacheShape, GraphShape, Wanted};

/// The least that some ubatches cost together. See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of weights, each used one once for each ubatch.
    pub weight_bytes: u64,
    /// Bytes of keys and values that queries see, each once for each ubatch.
    pub kv_bytes: u64,
    /// Operations of products with quantised weights; a multiply-add is two.
    pub int8_ops: u64,
    /// Operations of products with weights of 16 or 32 bits.
    pub f32_ops: u64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.weight_bytes += other.weight_bytes;
        self.kv_bytes += other.kv_bytes;
        self.int8_ops += other.int8_ops;
        self.f32_ops += other.f32_ops;
    }
}

/// A ubatch of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UbatchShape {
    /// Tokens in the cache before it.
    pub n_past: usize,
    /// Its tokens.
    pub n_tokens: usize,
    /// How many of them have their logits computed.
    pub n_outputs: usize,
    /// Type of keys.
    pub type_k: DType,
    /// Type of values.
    pub type_v: DType,
}

impl Blueprint {
    /// What a ubatch costs at least.
    ///
    /// # Errors
    /// When the ubatch makes no sense, as for [`Blueprint::build`].
    pub fn work(&self, ubatch: &UbatchShape) -> Result<Work, GraphError> {
        let UbatchShape { n_past, n_tokens, n_outputs, type_k, type_v } = *ubatch;
        let cells =
            |n_cells, n_cells_window| CacheShape { n_cells, n_cells_window, type_k, type_v };
        // How many cells there are changes neither weights nor products.
        let shape = GraphShape {
            n_tokens,
            n_outputs,
            wanted: Wanted::Logits,
            n_kv: CELL_PAD,
            n_kv_window: CELL_PAD,
            cache: cells(CELL_PAD, CELL_PAD),
            rope_ctx: n_past + n_tokens,
        };
        let mut work = graph_work(&self.build(&shape)?);
        let seen = n_past + n_tokens;
        // The first token of the ubatch sees one window back, the last one to itself.
        let window = self.hparams().sliding_window.map_or(seen, |w| w as usize + n_tokens - 1);
        work.kv_bytes = cache_bytes(self.hparams(), &cells(seen, seen.min(window))).total as u64;
        Ok(work)
    }
}

fn graph_work(graph: &Graph) -> Work {
    let mut work = Work::default();
    for node in &graph.nodes {
        let dst = graph.tensor(node.dst);
        for (i, &id) in node.src.iter().enumerate() {
            let src = graph.tensor(id);
            if !matches!(src.role, Role::Weight(_)) {
                continue;
            }
            // Of the weight, what this node reads: a numerator and a denominator.
            let (read, of) = match node.op {
                Op::GetRows => (dst.ne[1], src.ne[1]),
                Op::MulMatId => ((dst.ne[1] * dst.ne[2]).min(src.ne[2]), src.ne[2]),
                _ => (1, 1),
            };
            work.weight_bytes += (src.bytes() as u128 * read as u128 / of.max(1) as u128) as u64;
            if i == 0 && matches!(node.op, Op::MulMat | Op::MulMatId) {
                let ops = product_ops(src, dst);
                if src.dtype.is_quantised() {
                    work.int8_ops += ops;
                } else {
                    work.f32_ops += ops;
                }
            }
        }
    }
    work
}

/// Each element of the result sums `ne0` products of the weight's row.
fn product_ops(weight: &Tensor, dst: &Tensor) -> u64 {
    2 * weight.ne[0] as u64 * dst.len() as u64
}
