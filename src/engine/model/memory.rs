//! Exact bytes of weights, KV cache and logits.
//!
//! Pure functions of a model's table and numbers; what a graph needs on top comes from its
//! liveness plan, and what lands on which device is the scheduler's choice.

use std::collections::BTreeMap;

use super::cache::{CacheShape, cache_tensors};
use super::hparams::HParams;
use super::weights::{LayerClass, WeightInfo, WeightKind};

/// Bytes of weights. A tensor that is used twice counts once, at its first use; the other uses
/// are in `duplicates`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// All together.
    pub total: usize,
    /// Before the layers.
    pub input: usize,
    /// Each repeating layer.
    pub layers: Vec<usize>,
    /// After the layers.
    pub output: usize,
    /// By purpose; kinds that the model lacks are absent.
    pub by_kind: BTreeMap<WeightKind, usize>,
    /// Bytes of further uses of the same tensors: what a device needs for them unless it also
    /// holds the first use.
    pub duplicates: usize,
}

/// Sums the table of weights of a model of `n_layer` layers.
pub fn weight_bytes(table: &[WeightInfo], n_layer: usize) -> WeightBytes {
    let mut sum = WeightBytes { layers: vec![0; n_layer], ..WeightBytes::default() };
    for weight in table {
        if weight.duplicate_of.is_some() {
            sum.duplicates += weight.bytes;
            continue;
        }
        sum.total += weight.bytes;
        *sum.by_kind.entry(weight.kind).or_default() += weight.bytes;
        match weight.class {
            LayerClass::Input => sum.input += weight.bytes,
            LayerClass::Repeating(il) => sum.layers[il] += weight.bytes,
            LayerClass::Output => sum.output += weight.bytes,
        }
    }
    sum
}

/// Bytes of the KV cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheBytes {
    /// All together.
    pub total: usize,
    /// Keys and values of each layer.
    pub layers: Vec<usize>,
    /// Keys of all layers.
    pub keys: usize,
    /// Values of all layers.
    pub values: usize,
    /// The part of `total` in layers with a sliding window.
    pub window: usize,
}

/// Sums the tensors of the cache.
pub fn cache_bytes(h: &HParams, shape: &CacheShape) -> CacheBytes {
    let mut sum = CacheBytes { layers: vec![0; h.n_layer], ..CacheBytes::default() };
    for (i, tensor) in cache_tensors(h, shape).iter().enumerate() {
        sum.total += tensor.bytes;
        sum.layers[tensor.layer] += tensor.bytes;
        if i % 2 == 0 {
            sum.keys += tensor.bytes;
        } else {
            sum.values += tensor.bytes;
        }
        if tensor.window {
            sum.window += tensor.bytes;
        }
    }
    sum
}

/// Bytes of the logits of `n_outputs` tokens, which the host receives as F32.
pub fn logits_bytes(h: &HParams, n_outputs: usize) -> usize {
    h.n_vocab * n_outputs * size_of::<f32>()
}

#[cfg(test)]
mod tests {
    use crate::engine::graph::{RopeMode, WeightId};
    use crate::engine::model::{PerLayer, Rope, context_cells, window_cells, window_pattern};
    use crate::engine::tensor::DType;

    use super::*;

    const MIB: usize = 1 << 20;

    fn shape(
        n_layer: usize,
        n_embd: usize,
        n_head_kv: usize,
        head_dim: usize,
        n_vocab: usize,
    ) -> HParams {
        HParams {
            n_layer,
            n_embd,
            n_ctx_train: 131_072,
            n_vocab,
            n_head: PerLayer::uniform(32),
            n_head_kv: PerLayer::uniform(n_head_kv),
            head_dim_k: head_dim,
            head_dim_v: head_dim,
            n_ff: PerLayer::uniform(1),
            n_expert: 0,
            n_expert_used: 0,
            n_ff_expert: 0,
            expert_weights_normalise: true,
            expert_weights_scale: 1.0,
            rms_eps: 1e-5,
            rope: Rope::plain(RopeMode::Norm, head_dim, 8192),
            sliding_window: None,
            window_layers: Vec::new(),
            attention_scale: 1.0,
            attention_softcap: 0.0,
            embedding_scale: 1.0,
        }
    }

    fn cache(n_ctx: usize, n_cells_window: usize, dtype: DType) -> CacheShape {
        CacheShape { n_cells: context_cells(n_ctx), n_cells_window, type_k: dtype, type_v: dtype }
    }

    #[test]
    fn the_cache_of_llama_3_1_8b_takes_128_kib_per_token() {
        let h = shape(32, 4096, 8, 128, 128_256);
        let at_8k = cache_bytes(&h, &cache(8192, 0, DType::F16));
        assert_eq!(at_8k.total, 1024 * MIB);
        assert_eq!((at_8k.keys, at_8k.values), (512 * MIB, 512 * MIB));
        assert_eq!(at_8k.layers, vec![32 * MIB; 32]);
        let at_8k = cache_bytes(&h, &cache(8192, 0, DType::Q8_0));
        assert_eq!(at_8k.total, 544 * MIB);
        // A context of 2000 tokens is padded to 2048 cells.
        assert_eq!(cache_bytes(&h, &cache(2000, 0, DType::F16)).total, 256 * MIB);
        assert_eq!(logits_bytes(&h, 1), 513_024);
    }

    #[test]
    fn the_cache_of_qwen2_5_0_5b_at_32k_takes_384_mib() {
        let h = shape(24, 896, 2, 64, 151_936);
        assert_eq!(cache_bytes(&h, &cache(32_768, 0, DType::F16)).total, 384 * MIB);
    }

    #[test]
    fn gemma_3_4b_keeps_few_cells_in_five_of_six_layers() {
        let mut h = shape(34, 2560, 4, 256, 262_208);
        h.sliding_window = Some(1024);
        h.window_layers = window_pattern(34, 6);
        let n_window = window_cells(32_768, 1024, 1, 512);
        assert_eq!(n_window, 1536);
        let sum = cache_bytes(&h, &cache(32_768, n_window, DType::F16));
        // 5 layers of 128 MiB see everything, 29 layers of 6 MiB a window.
        assert_eq!(sum.window, 29 * 6 * MIB);
        assert_eq!(sum.total, (5 * 128 + 29 * 6) * MIB);
        assert_eq!((sum.layers[0], sum.layers[5]), (6 * MIB, 128 * MIB));
    }

    #[test]
    fn windows_never_have_more_cells_than_the_context() {
        assert_eq!(window_cells(1024, 1024, 4, 512), 1024);
        assert_eq!(window_cells(131_072, 512, 4, 512), 2560);
        assert_eq!(window_cells(131_072, 1000, 1, 1), 1024);
    }

    #[test]
    fn a_tied_output_matrix_counts_once() {
        let weight = |class, kind, bytes, duplicate_of| WeightInfo {
            name: String::new(),
            dtype: DType::F32,
            ne: [1; 4],
            bytes,
            class,
            tensor: 0,
            duplicate_of,
            kind,
        };
        let table = [
            weight(LayerClass::Input, WeightKind::Embedding, 1000, None),
            weight(LayerClass::Repeating(1), WeightKind::Attention, 20, None),
            weight(LayerClass::Output, WeightKind::Norm, 3, None),
            weight(LayerClass::Output, WeightKind::Output, 1000, Some(WeightId(0))),
        ];
        let sum = weight_bytes(&table, 2);
        assert_eq!((sum.total, sum.duplicates), (1023, 1000));
        assert_eq!((sum.input, sum.output), (1000, 3));
        assert_eq!(sum.layers, [0, 20]);
        assert_eq!(sum.by_kind.get(&WeightKind::Output), None);
        assert_eq!(sum.by_kind[&WeightKind::Embedding], 1000);
    }
}
