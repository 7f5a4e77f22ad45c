//! Phi 3, 3.5 and 4: query, key and value in one matrix, gate and up in another; part of each head
//! may turn, and models for long contexts bring two tables of frequency divisors.
//!
//! Some files state a sliding window; llama.cpp ignores it, and so do we, with a note.
//! Source: llama.cpp, `src/models/phi3.cpp`.

use crate::engine::graph::{GluKind, RopeMode};
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::HParams;
use crate::engine::model::keys::Keys;
use crate::engine::model::layers::{FeedForward, Layer, attention, ffn};
use crate::engine::model::weights::{Binder, WeightKind};

use super::Family;

pub(super) struct Phi3;

impl Family for Phi3 {
    fn hparams(
        &self,
        keys: &Keys<'_>,
        h: &mut HParams,
        notes: &mut Vec<String>,
    ) -> Result<(), ModelError> {
        h.rope.mode = RopeMode::Neox;
        if let Some(n_swa) = keys.opt_usize("attention.sliding_window")?.filter(|&n| n > 0) {
            notes.push(format!(
                "the sliding window of {n_swa} tokens is ignored, as in llama.cpp; every layer \
                 sees the whole context"
            ));
        }
        super::no_experts(keys, h)
    }

    fn layer(&self, b: &mut Binder<'_>, h: &HParams, il: usize) -> Result<Layer, ModelError> {
        Ok(Layer {
            attn_norm: b.layer(il, "attn_norm.weight", WeightKind::Norm, &[h.n_embd])?,
            attention: attention::bind(b, h, il, attention::HeadNorms::Absent)?,
            post_attention_norm: None,
            ffn_norm: b.layer(il, "ffn_norm.weight", WeightKind::Norm, &[h.n_embd])?,
            feed_forward: FeedForward::Dense(ffn::bind_fused(b, h, il, GluKind::Silu)?),
            post_ffn_norm: None,
        })
    }
}
