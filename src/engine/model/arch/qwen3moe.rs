//! Qwen 3 with experts (30B-A3B, 235B-A22B, Qwen3-Coder): the attention of Qwen 3, and a mixture
//! of experts in every layer whose weights are made to add up to 1.
//! Source: llama.cpp, `src/models/qwen3moe.cpp`.

use crate::engine::graph::RopeMode;
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::HParams;
use crate::engine::model::keys::Keys;
use crate::engine::model::layers::{FeedForward, Layer, attention, moe};
use crate::engine::model::weights::{Binder, WeightKind};

use super::Family;

pub(super) struct Qwen3Moe;

impl Family for Qwen3Moe {
    fn hparams(
        &self,
        keys: &Keys<'_>,
        h: &mut HParams,
        _notes: &mut Vec<String>,
    ) -> Result<(), ModelError> {
        h.rope.mode = RopeMode::Neox;
        if h.n_expert == 0 {
            return Err(keys.invalid("expert_count", "no experts in a model of experts".into()));
        }
        if h.n_ff_expert == 0 {
            // The key is younger than the architecture; the width of all used experts together
            // was what files stated before.
            h.n_ff_expert = h.n_ff.max().checked_div(h.n_expert_used).unwrap_or(0);
        }
        Ok(())
    }

    fn layer(&self, b: &mut Binder<'_>, h: &HParams, il: usize) -> Result<Layer, ModelError> {
        Ok(Layer {
            attn_norm: b.layer(il, "attn_norm.weight", WeightKind::Norm, &[h.n_embd])?,
            attention: attention::bind(b, h, il, attention::HeadNorms::Required)?,
            post_attention_norm: None,
            ffn_norm: b.layer(il, "ffn_norm.weight", WeightKind::Norm, &[h.n_embd])?,
            feed_forward: FeedForward::Moe(moe::bind(b, h, il)?),
            post_ffn_norm: None,
        })
    }
}
