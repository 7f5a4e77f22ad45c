//! The mixture of experts: each token goes through the few experts that the router scores highest.

use crate::engine::graph::{GluKind, GraphError, Name, Op, TensorId, WeightId};
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::HParams;
use crate::engine::model::weights::{Binder, WeightKind};

use super::ModelGraph;

/// The weights of a block of experts.
#[derive(Clone, Debug)]
pub(in crate::engine::model) struct Weights {
    /// `(n_embd, n_expert)`
    router: WeightId,
    /// `(n_embd, n_ff_expert, n_expert)`
    gate: WeightId,
    /// `(n_embd, n_ff_expert, n_expert)`
    up: WeightId,
    /// `(n_ff_expert, n_embd, n_expert)`
    down: WeightId,
}

/// Binds the experts of layer `il`.
pub(in crate::engine::model) fn bind(
    b: &mut Binder<'_>,
    h: &HParams,
    il: usize,
) -> Result<Weights, ModelError> {
    let (kind, inner) = (WeightKind::Expert, [h.n_embd, h.n_ff_expert, h.n_expert]);
    let router = b.layer(il, "ffn_gate_inp.weight", WeightKind::Router, &[h.n_embd, h.n_expert])?;
    Ok(Weights {
        router,
        gate: b.layer(il, "ffn_gate_exps.weight", kind, &inner)?,
        up: b.layer(il, "ffn_up_exps.weight", kind, &inner)?,
        down: b.layer(il, "ffn_down_exps.weight", kind, &[h.n_ff_expert, h.n_embd, h.n_expert])?,
    })
}

/// From `x (n_embd, t)` to `(n_embd, t)`.
pub(super) fn build(
    g: &mut ModelGraph<'_>,
    w: &Weights,
    il: usize,
    x: TensorId,
) -> Result<TensorId, GraphError> {
    let at = |stem| Name::layer(stem, il);
    let logits = g.mul_mat(at("ffn_moe_logits"), "ffn_gate_inp.weight", w.router, x)?;
    let probs = g.b.node(at("ffn_moe_probs"), Op::SoftMax, &[logits])?;
    let chosen = g.b.node(at("ffn_moe_topk"), Op::TopK { k: g.h.n_expert_used }, &[probs])?;
    let op = Op::ExpertWeights { normalise: g.h.expert_weights_normalise };
    let mut weights = g.b.node(at("ffn_moe_weights"), op, &[probs, chosen])?;
    let factor = g.h.expert_weights_scale;
    if factor != 1.0 {
        weights = g.b.node(at("ffn_moe_weights_scaled"), Op::Scale { factor }, &[weights])?;
    }
    // (n_embd, 1, t): every chosen expert of a token reads the same row.
    let [n_embd, t, ..] = g.b.tensor(x).ne;
    let rows = g.b.reshape(x, [n_embd, 1, t, 1])?;
    let gate = experts(g, at("ffn_moe_gate"), "ffn_gate_exps.weight", w.gate, rows, chosen)?;
    let up = experts(g, at("ffn_moe_up"), "ffn_up_exps.weight", w.up, rows, chosen)?;
    let act = g.b.node(at("ffn_moe_swiglu"), Op::Glu(GluKind::Silu), &[gate, up])?;
    let down = experts(g, at("ffn_moe_down"), "ffn_down_exps.weight", w.down, act, chosen)?;
    g.b.node(at("ffn_moe_out"), Op::ExpertSum, &[down, weights])
}

/// The product of each token with its chosen experts: `(n, n_used, t)`.
fn experts(
    g: &mut ModelGraph<'_>,
    name: Name,
    stem: &'static str,
    weight: WeightId,
    x: TensorId,
    chosen: TensorId,
) -> Result<TensorId, GraphError> {
    let w = g.weight(Name { stem, ..name }, weight);
    g.b.node(name, Op::MulMatId, &[w, x, chosen])
}
