//! Frequency tables of rotary embedding, and the choice between them.

use crate::engine::graph::{Name, TensorId, WeightId};
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::HParams;
use crate::engine::model::weights::{Binder, LayerClass, WeightKind};

use super::ModelGraph;

/// The tables that the file has, each `(n_dims / 2)`. They are stored once and used by every
/// layer, so each layer has entries of its own for them in the table of weights.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine::model) struct Factors {
    /// For all contexts (Llama 3).
    freqs: Option<WeightId>,
    /// For contexts longer than that of the training (Phi 3).
    long: Option<WeightId>,
    /// For the others.
    short: Option<WeightId>,
}

/// Binds the tables for layer `il`.
pub(super) fn bind(b: &mut Binder<'_>, h: &HParams, il: usize) -> Result<Factors, ModelError> {
    let mut table = |name| {
        let class = LayerClass::Repeating(il);
        b.optional(name, class, WeightKind::Rope, &[h.rope.n_dims / 2])
    };
    Ok(Factors {
        freqs: table("rope_freqs.weight")?,
        long: table("rope_factors_long.weight")?,
        short: table("rope_factors_short.weight")?,
    })
}

impl Factors {
    /// The table for the context of this graph, as llama.cpp's `get_rope_factors` chooses it.
    pub(super) fn tensor(self, g: &mut ModelGraph<'_>, il: usize) -> Option<TensorId> {
        let by_length = if g.shape.rope_ctx > g.h.rope.n_ctx_orig {
            (self.long, "rope_factors_long.weight")
        } else {
            (self.short, "rope_factors_short.weight")
        };
        let (id, stem) = match self.freqs {
            Some(_) => (self.freqs, "rope_freqs.weight"),
            None => by_length,
        };
        id.map(|id| g.weight(Name::layer(stem, il), id))
    }
}
