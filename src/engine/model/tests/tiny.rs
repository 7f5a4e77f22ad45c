//! Headers of tiny models, one per architecture, that tests then bend.

use crate::engine::gguf::{Metadata, TensorInfo, Value};
use crate::engine::model::{Arch, Blueprint, CacheShape, GraphShape, ModelError, Wanted};
use crate::engine::tensor::DType;

pub(super) const N_LAYER: usize = 2;
pub(super) const N_EMBD: usize = 64;
pub(super) const N_FF: usize = 96;
pub(super) const N_VOCAB: usize = 100;
pub(super) const HEAD_DIM: usize = 32;
pub(super) const N_HEAD: usize = 4;
pub(super) const N_HEAD_KV: usize = 2;
pub(super) const N_EXPERT: usize = 8;
pub(super) const N_EXPERT_USED: usize = 3;
pub(super) const N_FF_EXPERT: usize = 32;

/// A header in the making.
#[derive(Clone)]
pub(super) struct Tiny {
    pub(super) arch: Arch,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
}

impl Tiny {
    /// A valid header.
    pub(super) fn new(arch: Arch) -> Self {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", arch.name());
        let mut tiny = Self { arch, metadata, tensors: Vec::new() };
        tiny.numbers();
        tiny.add("token_embd.weight", DType::Q8_0, &[N_EMBD, N_VOCAB]);
        for il in 0..N_LAYER {
            tiny.layer(il);
        }
        tiny.add("output_norm.weight", DType::F32, &[N_EMBD]);
        tiny
    }

    fn numbers(&mut self) {
        self.set("block_count", N_LAYER as u32)
            .set("context_length", 4096u32)
            .set("embedding_length", N_EMBD as u32)
            .set("feed_forward_length", N_FF as u32)
            .set("attention.head_count", N_HEAD as u32)
            .set("attention.head_count_kv", N_HEAD_KV as u32)
            .set("attention.key_length", HEAD_DIM as u32)
            .set("attention.value_length", HEAD_DIM as u32)
            .set("attention.layer_norm_rms_epsilon", 1e-6f32);
        match self.arch {
            Arch::Qwen3Moe => {
                self.set("expert_count", N_EXPERT as u32)
                    .set("expert_used_count", N_EXPERT_USED as u32)
                    .set("expert_feed_forward_length", N_FF_EXPERT as u32);
            }
            Arch::Gemma3 => {
                // Layer 0 has the window and layer 1 sees everything.
                self.set("attention.sliding_window", 512u32)
                    .set("attention.sliding_window_pattern", 2u32)
                    .set("rope.freq_base", 1e6f32)
                    .set("rope.scaling.factor", 8f32);
            }
            Arch::Phi3 => {
                self.set("rope.dimension_count", 24u32)
                    .set("rope.scaling.original_context_length", 1024u32)
                    .set("rope.scaling.attn_factor", 1.19f32);
            }
            Arch::Llama | Arch::Qwen2 | Arch::Qwen3 => {}
        }
    }

    fn layer(&mut self, il: usize) {
        let arch = self.arch;
        let (n_q, n_kv) = (N_HEAD * HEAD_DIM, N_HEAD_KV * HEAD_DIM);
        let mut add = |suffix: &str, dtype, ne: &[usize]| {
            self.add(&format!("blk.{il}.{suffix}"), dtype, ne);
        };
        add("attn_norm.weight", DType::F32, &[N_EMBD]);
        if arch == Arch::Phi3 {
            add("attn_qkv.weight", DType::Q4_0, &[N_EMBD, n_q + 2 * n_kv]);
        } else {
            add("attn_q.weight", DType::Q4_0, &[N_EMBD, n_q]);
            add("attn_k.weight", DType::Q4_0, &[N_EMBD, n_kv]);
            add("attn_v.weight", DType::Q8_0, &[N_EMBD, n_kv]);
        }
        if arch == Arch::Qwen2 {
            add("attn_q.bias", DType::F32, &[n_q]);
            add("attn_k.bias", DType::F32, &[n_kv]);
            add("attn_v.bias", DType::F32, &[n_kv]);
        }
        if matches!(arch, Arch::Qwen3 | Arch::Qwen3Moe | Arch::Gemma3) {
            add("attn_q_norm.weight", DType::F32, &[HEAD_DIM]);
            add("attn_k_norm.weight", DType::F32, &[HEAD_DIM]);
        }
        add("attn_output.weight", DType::Q4_0, &[n_q, N_EMBD]);
        add("ffn_norm.weight", DType::F32, &[N_EMBD]);
        if arch == Arch::Gemma3 {
            add("post_attention_norm.weight", DType::F32, &[N_EMBD]);
            add("post_ffw_norm.weight", DType::F32, &[N_EMBD]);
        }
        match arch {
            Arch::Qwen3Moe => {
                add("ffn_gate_inp.weight", DType::F32, &[N_EMBD, N_EXPERT]);
                add("ffn_gate_exps.weight", DType::Q4_0, &[N_EMBD, N_FF_EXPERT, N_EXPERT]);
                add("ffn_up_exps.weight", DType::Q4_0, &[N_EMBD, N_FF_EXPERT, N_EXPERT]);
                add("ffn_down_exps.weight", DType::Q4_0, &[N_FF_EXPERT, N_EMBD, N_EXPERT]);
            }
            Arch::Phi3 => {
                add("ffn_up.weight", DType::Q4_0, &[N_EMBD, 2 * N_FF]);
                add("ffn_down.weight", DType::Q4_0, &[N_FF, N_EMBD]);
            }
            _ => {
                add("ffn_gate.weight", DType::Q4_0, &[N_EMBD, N_FF]);
                add("ffn_up.weight", DType::Q4_0, &[N_EMBD, N_FF]);
                add("ffn_down.weight", DType::Q4_0, &[N_FF, N_EMBD]);
            }
        }
    }

    /// Sets `{architecture}.{suffix}`.
    pub(super) fn set(&mut self, suffix: &str, value: impl Into<Value>) -> &mut Self {
        self.metadata.set(&format!("{}.{suffix}", self.arch.name()), value);
        self
    }

    /// Appends a tensor.
    pub(super) fn add(&mut self, name: &str, dtype: DType, ne: &[usize]) -> &mut Self {
        let mut padded = [1; 4];
        padded[..ne.len()].copy_from_slice(ne);
        let rows: usize = padded[1..].iter().product();
        self.tensors.push(TensorInfo {
            name: name.to_owned(),
            dtype,
            ne: padded,
            n_dims: ne.len(),
            offset: 0,
            bytes: (dtype.row_bytes(ne[0]).unwrap() * rows) as u64,
            file: 0,
        });
        self
    }

    /// Removes a tensor.
    pub(super) fn remove(&mut self, name: &str) -> &mut Self {
        let before = self.tensors.len();
        self.tensors.retain(|t| t.name != name);
        assert_eq!(self.tensors.len() + 1, before, "{name}");
        self
    }

    /// The tensor of this name.
    pub(super) fn tensor(&mut self, name: &str) -> &mut TensorInfo {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    pub(super) fn bind(&self) -> Result<Blueprint, ModelError> {
        Blueprint::bind(&self.metadata, &self.tensors)
    }

    /// The message of the error that binding must end in.
    pub(super) fn error(&self) -> String {
        self.bind().unwrap_err().to_string()
    }
}

/// Caches of 512 and 256 cells, half of each in use.
pub(super) fn shape(n_tokens: usize, n_outputs: usize) -> GraphShape {
    GraphShape {
        n_tokens,
        n_outputs,
        wanted: Wanted::Logits,
        n_kv: 256,
        n_kv_window: 128,
        cache: CacheShape {
            n_cells: 512,
            n_cells_window: 256,
            type_k: DType::F16,
            type_v: DType::Q8_0,
        },
        rope_ctx: 512,
    }
}
