//! The tensors of the KV cache: one for keys and one for values per layer.
//!
//! Only shapes and sizes; which cell holds which token is the runtime's business.

use crate::engine::graph::CacheId;
use crate::engine::tensor::DType;

use super::hparams::HParams;

/// Cells are counted in multiples of this, as in llama.cpp, so that kernels see few shapes.
pub const CELL_PAD: usize = 256;

/// How large the KV cache is and how it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheShape {
    /// Cells of layers that see the whole context.
    pub n_cells: usize,
    /// Cells of layers with a sliding window; unused by models without such layers.
    pub n_cells_window: usize,
    /// Type of keys.
    pub type_k: DType,
    /// Type of values.
    pub type_v: DType,
}

/// A tensor of the KV cache. Its [`CacheId`] is its index in what [`cache_tensors`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTensor {
    /// llama.cpp's name: `cache_k_l0`, `cache_v_l0`, ….
    pub name: String,
    /// The layer.
    pub layer: usize,
    /// Whether the layer has a sliding window and so `n_cells_window` cells.
    pub window: bool,
    /// Element type.
    pub dtype: DType,
    /// `(n_embd_gqa, cells)`.
    pub ne: [usize; 4],
    /// Bytes.
    pub bytes: usize,
}

/// The id of the keys of layer `il`.
pub fn k_cache_id(il: usize) -> CacheId {
    CacheId(2 * il as u32)
}

/// The id of the values of layer `il`.
pub fn v_cache_id(il: usize) -> CacheId {
    CacheId(2 * il as u32 + 1)
}

/// All tensors of the cache, keys and values of layer 0 first.
pub fn cache_tensors(h: &HParams, shape: &CacheShape) -> Vec<CacheTensor> {
    let mut out = Vec::with_capacity(2 * h.n_layer);
    for layer in 0..h.n_layer {
        let window = h.is_window_layer(layer);
        let cells = if window { shape.n_cells_window } else { shape.n_cells };
        for (part, width, dtype) in
            [("k", h.n_embd_k_gqa(layer), shape.type_k), ("v", h.n_embd_v_gqa(layer), shape.type_v)]
        {
            out.push(CacheTensor {
                name: format!("cache_{part}_l{layer}"),
                layer,
                window,
                dtype,
                ne: [width, cells, 1, 1],
                bytes: width.div_ceil(dtype.block_len()) * dtype.block_bytes() * cells,
            });
        }
    }
    out
}

/// Cells for a context of `n_ctx` tokens.
pub fn context_cells(n_ctx: usize) -> usize {
    n_ctx.next_multiple_of(CELL_PAD)
}

/// Cells of layers with a window of `n_swa` tokens: enough for the windows of `n_seq_max` sequences
/// and the tokens of one ubatch, and never more than the context (`llama-kv-cache-iswa.cpp`).
pub fn window_cells(n_ctx: usize, n_swa: usize, n_seq_max: usize, n_ubatch: usize) -> usize {
    context_cells(n_ctx.min(n_swa * n_seq_max + n_ubatch))
}
