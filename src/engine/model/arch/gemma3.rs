//! Gemma 3: scaled embeddings, norms before and after both blocks, GELU gates, and five layers
//! with a sliding window to each one that sees everything.
//!
//! The two kinds of layers rotate differently: those with the window at base 10000 without
//! scaling, the others as the metadata says. The `1 +` of Gemma's norms is already in the file.
//! Source: llama.cpp, `src/models/gemma3.cpp`.

use crate::engine::graph::{GluKind, RopeMode};
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::{HParams, window_pattern};
use crate::engine::model::keys::Keys;
use crate::engine::model::layers::{FeedForward, Layer, attention, ffn};
use crate::engine::model::weights::{Binder, WeightKind};

use super::Family;

/// Every sixth layer sees everything, unless the file says otherwise.
const WINDOW_PERIOD: usize = 6;

/// The 27B model is told by its layers; it alone scales queries by the width per head of the
/// residual stream instead of the size of a head.
const LAYERS_27B: usize = 62;

pub(super) struct Gemma3;

impl Family for Gemma3 {
    fn hparams(
        &self,
        keys: &Keys<'_>,
        h: &mut HParams,
        _notes: &mut Vec<String>,
    ) -> Result<(), ModelError> {
        super::no_experts(keys, h)?;
        if keys.opt_f32("final_logit_softcapping")?.is_some_and(|cap| cap != 0.0) {
            let feature = "capped final logits".to_owned();
            return Err(ModelError::Unsupported { arch: keys.arch, feature });
        }
        h.rope.mode = RopeMode::Neox;
        h.embedding_scale = (h.n_embd as f32).sqrt();
        if h.n_layer == LAYERS_27B && h.n_head.get(0) > 0 {
            h.attention_scale = 1.0 / (h.n_embd as f32 / h.n_head.get(0) as f32).sqrt();
        }
        if let Some(n_swa) = keys.opt_usize("attention.sliding_window")?.filter(|&n| n > 0) {
            h.sliding_window = Some(n_swa as u32);
            let pattern = "attention.sliding_window_pattern";
            h.window_layers = if let Some(flags) = keys.opt_flags(pattern, h.n_layer)? {
                flags
            } else {
                window_pattern(h.n_layer, keys.opt_usize(pattern)?.unwrap_or(WINDOW_PERIOD))
            };
        }
        h.rope.freq_base_window = keys.opt_f32("rope.freq_base_swa")?.unwrap_or(10000.0);
        h.rope.freq_scale_window = 1.0;
        Ok(())
    }

    fn layer(&self, b: &mut Binder<'_>, h: &HParams, il: usize) -> Result<Layer, ModelError> {
        let norm = |b: &mut Binder<'_>, stem| b.layer(il, stem, WeightKind::Norm, &[h.n_embd]);
        Ok(Layer {
            attn_norm: norm(b, "attn_norm.weight")?,
            attention: attention::bind(b, h, il, attention::HeadNorms::Required)?,
            post_attention_norm: Some(norm(b, "post_attention_norm.weight")?),
            ffn_norm: norm(b, "ffn_norm.weight")?,
            feed_forward: FeedForward::Dense(ffn::bind(b, h, il, GluKind::Gelu)?),
            post_ffn_norm: Some(norm(b, "post_ffw_norm.weight")?),
        })
    }
}
