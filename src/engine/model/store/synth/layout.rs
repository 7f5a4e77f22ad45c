//! The header of a model with random weights: metadata and tensors as `convert_hf_to_gguf.py` and
//! `llama-quantize` write them for the architecture.

use super::vocab;
use super::weights::Fill;
use crate::engine::gguf::{GgufError, GgufWriter, Metadata};
use crate::engine::model::store::{Shape, StoreError};
use crate::engine::model::{Arch, HParams};
use crate::engine::tensor::{FileType, ModelShape};

/// Version of ggml's block formats, `general.quantization_version`.
const QUANTIZATION_VERSION: u32 = 2;

/// Norms are around 1; the noise keeps a kernel that ignores them from going unnoticed.
const NORM: Fill = Fill::Vector { mean: 1.0, deviation: 0.05 };
const BIAS: Fill = Fill::Vector { mean: 0.0, deviation: 0.1 };

/// What a model's file will hold, apart from the numbers themselves.
pub(super) struct Layout {
    /// Metadata and tensors.
    pub(super) writer: GgufWriter,
    pub(super) metadata: Metadata,
    /// What each tensor is filled with, in the order of the tensors.
    pub(super) fills: Vec<Fill>,
}

/// Lays out `shape` with the tensor types of `file_type`.
pub(super) fn lay_out(shape: &Shape, file_type: FileType) -> Result<Layout, StoreError> {
    let n_vocab = shape.hparams.n_vocab;
    if n_vocab < vocab::FEWEST {
        let problem = format!("vocab_size is {n_vocab}; at least {} are needed", vocab::FEWEST);
        return Err(StoreError::Shape { origin: shape.name.clone(), problem });
    }
    let metadata = metadata(shape, file_type);
    let mut tensors = Tensors {
        shape,
        h: &shape.hparams,
        file_type,
        mix: mix(shape),
        writer: GgufWriter::new(metadata.clone()),
        fills: Vec::new(),
    };
    tensors.all()?;
    let Tensors { writer, fills, .. } = tensors;
    Ok(Layout { writer, metadata, fills })
}

fn metadata(shape: &Shape, file_type: FileType) -> Metadata {
    let mut metadata = Metadata::new();
    metadata
        .set("general.architecture", shape.arch.name())
        .set("general.type", "model")
        .set("general.name", format!("{} (random weights)", shape.title));
    for (key, value) in shape.metadata.iter() {
        metadata.set(key, value.clone());
    }
    metadata
        .set("general.file_type", file_type.ggml_id())
        .set("general.quantization_version", QUANTIZATION_VERSION);
    vocab::add(&mut metadata, shape.hparams.n_vocab);
    metadata
}

fn mix(shape: &Shape) -> ModelShape<'_> {
    let h = &shape.hparams;
    ModelShape {
        arch: shape.arch.name(),
        n_layer: h.n_layer,
        n_gqa: h.n_head.get(0) / h.n_head_kv.get(0),
        n_expert: h.n_expert,
        tied_embeddings: shape.tied_embeddings,
    }
}

/// Adds tensors one by one.
struct Tensors<'a> {
    shape: &'a Shape,
    h: &'a HParams,
    file_type: FileType,
    mix: ModelShape<'a>,
    writer: GgufWriter,
    fills: Vec<Fill>,
}

impl Tensors<'_> {
    fn add(&mut self, name: &str, ne: &[usize], fill: Fill) -> Result<(), GgufError> {
        let dtype = self.file_type.tensor_type(name, ne, &self.mix);
        self.writer.add_tensor(name, dtype, ne)?;
        self.fills.push(fill);
        Ok(())
    }

    fn all(&mut self) -> Result<(), GgufError> {
        let h = self.h;
        self.add("token_embd.weight", &[h.n_embd, h.n_vocab], Fill::Matrix)?;
        if let Some(params) = self.shape.rope_freqs {
            let fill = Fill::RopeFreqs { params, base: f64::from(h.rope.freq_base) };
            self.add("rope_freqs.weight", &[h.rope.n_dims / 2], fill)?;
        }
        for il in 0..h.n_layer {
            self.attention(il)?;
            if h.n_expert > 0 { self.experts(il)? } else { self.feed_forward(il)? }
        }
        self.add("output_norm.weight", &[h.n_embd], NORM)?;
        if !self.shape.tied_embeddings {
            self.add("output.weight", &[h.n_embd, h.n_vocab], Fill::Matrix)?;
        }
        Ok(())
    }

    /// Adds `blk.{il}.{suffix}`.
    fn layer(
        &mut self,
        il: usize,
        suffix: &str,
        ne: &[usize],
        fill: Fill,
    ) -> Result<(), GgufError> {
        self.add(&format!("blk.{il}.{suffix}"), ne, fill)
    }

    fn attention(&mut self, il: usize) -> Result<(), GgufError> {
        let (h, arch) = (self.h, self.shape.arch);
        let n_q = h.head_dim_k * h.n_head.get(il);
        let (n_k, n_v) = (h.n_embd_k_gqa(il), h.n_embd_v_gqa(il));
        self.layer(il, "attn_norm.weight", &[h.n_embd], NORM)?;
        let split = [("attn_q", n_q), ("attn_k", n_k), ("attn_v", n_v)];
        let fused = [("attn_qkv", n_q + n_k + n_v)];
        for (stem, n) in if arch == Arch::Phi3 { &fused[..] } else { &split } {
            self.layer(il, &format!("{stem}.weight"), &[h.n_embd, *n], Fill::Matrix)?;
            if self.shape.qkv_bias {
                self.layer(il, &format!("{stem}.bias"), &[*n], BIAS)?;
            }
        }
        if self.shape.qk_norm {
            self.layer(il, "attn_q_norm.weight", &[h.head_dim_k], NORM)?;
            self.layer(il, "attn_k_norm.weight", &[h.head_dim_k], NORM)?;
        }
        let n_heads = h.head_dim_v * h.n_head.get(il);
        self.layer(il, "attn_output.weight", &[n_heads, h.n_embd], Fill::Matrix)?;
        if arch == Arch::Gemma3 {
            self.layer(il, "post_attention_norm.weight", &[h.n_embd], NORM)?;
            self.layer(il, "post_ffw_norm.weight", &[h.n_embd], NORM)?;
        }
        self.layer(il, "ffn_norm.weight", &[h.n_embd], NORM)
    }

    fn feed_forward(&mut self, il: usize) -> Result<(), GgufError> {
        let h = self.h;
        let n_ff = h.n_ff.get(il);
        if self.shape.arch == Arch::Phi3 {
            self.layer(il, "ffn_up.weight", &[h.n_embd, 2 * n_ff], Fill::Matrix)?;
        } else {
            self.layer(il, "ffn_gate.weight", &[h.n_embd, n_ff], Fill::Matrix)?;
            self.layer(il, "ffn_up.weight", &[h.n_embd, n_ff], Fill::Matrix)?;
        }
        self.layer(il, "ffn_down.weight", &[n_ff, h.n_embd], Fill::Matrix)
    }

    fn experts(&mut self, il: usize) -> Result<(), GgufError> {
        let h = self.h;
        let (inner, n) = (h.n_ff_expert, h.n_expert);
        self.layer(il, "ffn_gate_inp.weight", &[h.n_embd, n], Fill::Matrix)?;
        self.layer(il, "ffn_gate_exps.weight", &[h.n_embd, inner, n], Fill::Matrix)?;
        self.layer(il, "ffn_up_exps.weight", &[h.n_embd, inner, n], Fill::Matrix)?;
        self.layer(il, "ffn_down_exps.weight", &[inner, h.n_embd, n], Fill::Matrix)
    }
}
