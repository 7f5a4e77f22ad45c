//! Qwen 3, dense: every head of query and key is normed before it turns, and heads may be wider
//! than the residual stream divided by their number. Source: llama.cpp, `src/models/qwen3.cpp`.

use crate::engine::graph::{GluKind, RopeMode};
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::HParams;
use crate::engine::model::keys::Keys;
use crate::engine::model::layers::{FeedForward, Layer, attention, ffn};
use crate::engine::model::weights::{Binder, WeightKind};

use super::Family;

pub(super) struct Qwen3;

impl Family for Qwen3 {
    fn hparams(
        &self,
        keys: &Keys<'_>,
        h: &mut HParams,
        _notes: &mut Vec<String>,
    ) -> Result<(), ModelError> {
        h.rope.mode = RopeMode::Neox;
        super::no_experts(keys, h)
    }

    fn layer(&self, b: &mut Binder<'_>, h: &HParams, il: usize) -> Result<Layer, ModelError> {
        Ok(Layer {
            attn_norm: b.layer(il, "attn_norm.weight", WeightKind::Norm, &[h.n_embd])?,
            attention: attention::bind(b, h, il, attention::HeadNorms::Required)?,
            post_attention_norm: None,
            ffn_norm: b.layer(il, "ffn_norm.weight", WeightKind::Norm, &[h.n_embd])?,
            feed_forward: FeedForward::Dense(ffn::bind(b, h, il, GluKind::Silu)?),
            post_ffn_norm: None,
        })
    }
}
