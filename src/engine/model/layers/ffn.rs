//! The dense gated feed-forward block: `down(act(gate(x)) * up(x))`.

use crate::engine::graph::{GluKind, GraphError, Name, Op, TensorId, WeightId};
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::HParams;
use crate::engine::model::weights::{Binder, WeightKind};

use super::ModelGraph;

/// Gate and up, in one matrix or two.
#[derive(Clone, Debug)]
enum GateUp {
    /// `(n_embd, n_ff)` each, with biases `(n_ff)`.
    Split { gate: WeightId, gate_bias: Option<WeightId>, up: WeightId, up_bias: Option<WeightId> },
    /// `(n_embd, 2 · n_ff)`: the columns of the gate first.
    Fused(WeightId),
}

/// The weights of a dense block.
#[derive(Clone, Debug)]
pub(in crate::engine::model) struct Weights {
    gate_up: GateUp,
    /// `(n_ff, n_embd)`
    down: WeightId,
    /// `(n_embd)`
    down_bias: Option<WeightId>,
    activation: GluKind,
}

/// Binds a block with separate gate and up.
pub(in crate::engine::model) fn bind(
    b: &mut Binder<'_>,
    h: &HParams,
    il: usize,
    activation: GluKind,
) -> Result<Weights, ModelError> {
    let (kind, n_ff) = (WeightKind::FeedForward, h.n_ff.get(il));
    let gate_up = GateUp::Split {
        gate: b.layer(il, "ffn_gate.weight", kind, &[h.n_embd, n_ff])?,
        gate_bias: b.opt_layer(il, "ffn_gate.bias", kind, &[n_ff])?,
        up: b.layer(il, "ffn_up.weight", kind, &[h.n_embd, n_ff])?,
        up_bias: b.opt_layer(il, "ffn_up.bias", kind, &[n_ff])?,
    };
    bind_down(b, h, il, gate_up, activation)
}

/// Binds a block whose gate and up are one matrix named `ffn_up`.
pub(in crate::engine::model) fn bind_fused(
    b: &mut Binder<'_>,
    h: &HParams,
    il: usize,
    activation: GluKind,
) -> Result<Weights, ModelError> {
    let ne = [h.n_embd, 2 * h.n_ff.get(il)];
    let gate_up = GateUp::Fused(b.layer(il, "ffn_up.weight", WeightKind::FeedForward, &ne)?);
    bind_down(b, h, il, gate_up, activation)
}

fn bind_down(
    b: &mut Binder<'_>,
    h: &HParams,
    il: usize,
    gate_up: GateUp,
    activation: GluKind,
) -> Result<Weights, ModelError> {
    let kind = WeightKind::FeedForward;
    let down = b.layer(il, "ffn_down.weight", kind, &[h.n_ff.get(il), h.n_embd])?;
    let down_bias = b.opt_layer(il, "ffn_down.bias", kind, &[h.n_embd])?;
    Ok(Weights { gate_up, down, down_bias, activation })
}

/// From `x (n_embd, t)` to `(n_embd, t)`.
pub(super) fn build(
    g: &mut ModelGraph<'_>,
    w: &Weights,
    il: usize,
    x: TensorId,
) -> Result<TensorId, GraphError> {
    let at = |stem| Name::layer(stem, il);
    let (gate, up) = match w.gate_up {
        GateUp::Split { gate, gate_bias, up, up_bias } => {
            let gate = g.mul_mat(at("ffn_gate"), "ffn_gate.weight", gate, x)?;
            let up = g.mul_mat(at("ffn_up"), "ffn_up.weight", up, x)?;
            let gate = g.add_bias(at("ffn_gate_b"), "ffn_gate.bias", gate_bias, gate)?;
            (gate, g.add_bias(at("ffn_up_b"), "ffn_up.bias", up_bias, up)?)
        }
        GateUp::Fused(both) => {
            let both = g.mul_mat(at("ffn_up"), "ffn_up.weight", both, x)?;
            let n_ff = g.h.n_ff.get(il);
            let gate = g.b.columns(at("ffn_gate"), both, 0, n_ff)?;
            (gate, g.b.columns(at("ffn_up"), both, n_ff, n_ff)?)
        }
    };
    let act = g.b.node(at(glu_stem(w.activation)), Op::Glu(w.activation), &[gate, up])?;
    let out = g.mul_mat(at("ffn_out"), "ffn_down.weight", w.down, act)?;
    g.add_bias(at("ffn_out"), "ffn_down.bias", w.down_bias, out)
}

fn glu_stem(kind: GluKind) -> &'static str {
    match kind {
        GluKind::Silu => "ffn_swiglu",
        GluKind::Gelu => "ffn_geglu",
    }
}
