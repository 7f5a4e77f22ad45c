//! Llama 1 to 3.x, Mistral, Mixtral, and the many models converted as `llama`.
//!
//! Neighbouring elements pair in rotary embedding; heads turn as a whole. Llama 3.1 and later
//! bring a table of frequency divisors. With experts it is Mixtral.
//! Source: llama.cpp, `src/models/llama.cpp`.

use crate::engine::graph::{GluKind, RopeMode};
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::HParams;
use crate::engine::model::keys::Keys;
use crate::engine::model::layers::{FeedForward, Layer, attention, ffn, moe};
use crate::engine::model::weights::{Binder, WeightKind};

use super::Family;

pub(super) struct Llama;

impl Family for Llama {
    fn hparams(
        &self,
        keys: &Keys<'_>,
        h: &mut HParams,
        _notes: &mut Vec<String>,
    ) -> Result<(), ModelError> {
        h.rope.mode = RopeMode::Norm;
        if h.rope.n_dims != h.head_dim_k {
            let problem = format!("{} must be the size of a head, {}", h.rope.n_dims, h.head_dim_k);
            return Err(keys.invalid("rope.dimension_count", problem));
        }
        if h.n_ff_expert == 0 {
            h.n_ff_expert = h.n_ff.max();
        }
        Ok(())
    }

    fn layer(&self, b: &mut Binder<'_>, h: &HParams, il: usize) -> Result<Layer, ModelError> {
        Ok(Layer {
            attn_norm: b.layer(il, "attn_norm.weight", WeightKind::Norm, &[h.n_embd])?,
            attention: attention::bind(b, h, il, attention::HeadNorms::Absent)?,
            post_attention_norm: None,
            ffn_norm: b.layer(il, "ffn_norm.weight", WeightKind::Norm, &[h.n_embd])?,
            feed_forward: if h.n_expert == 0 {
                FeedForward::Dense(ffn::bind(b, h, il, GluKind::Silu)?)
            } else {
                FeedForward::Moe(moe::bind(b, h, il)?)
            },
            post_ffn_norm: None,
        })
    }
}
