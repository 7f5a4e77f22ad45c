//! Causal self-attention through the KV cache.

use crate::engine::graph::{CacheId, GraphError, InputKind, Name, Op, TensorId, WeightId};
use crate::engine::model::cache::{k_cache_id, v_cache_id};
use crate::engine::model::error::ModelError;
use crate::engine::model::hparams::HParams;
use crate::engine::model::weights::{Binder, WeightKind, layer_name};
use crate::engine::tensor::DType;

use super::{ModelGraph, rope};

/// A matrix and its bias.
#[derive(Clone, Copy, Debug)]
struct Linear {
    weight: WeightId,
    bias: Option<WeightId>,
}

/// The projections to query, key and value.
#[derive(Clone, Debug)]
enum Qkv {
    /// `(n_embd, n_embd_q)`, `(n_embd, n_embd_k_gqa)`, `(n_embd, n_embd_v_gqa)`
    Split { q: Linear, k: Linear, v: Linear },
    /// `(n_embd, n_embd_q + n_embd_k_gqa + n_embd_v_gqa)`
    Fused(Linear),
}

/// The weights of an attention block.
#[derive(Clone, Debug)]
pub(in crate::engine::model) struct Weights {
    qkv: Qkv,
    /// `(head_dim_k)` each: norms of every head of query and key.
    head_norms: Option<(WeightId, WeightId)>,
    /// `(n_embd_v of all query heads, n_embd)`
    out: Linear,
    factors: rope::Factors,
}

/// Whether queries and keys are normed head by head before they turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::model) enum HeadNorms {
    Absent,
    Required,
}

/// Binds the attention weights of layer `il`. Projections may be split or fused in any
/// architecture, and any of them may have a bias, as in llama.cpp.
pub(in crate::engine::model) fn bind(
    b: &mut Binder<'_>,
    h: &HParams,
    il: usize,
    head_norms: HeadNorms,
) -> Result<Weights, ModelError> {
    let n_q = h.head_dim_k * h.n_head.get(il);
    let (n_k, n_v) = (h.n_embd_k_gqa(il), h.n_embd_v_gqa(il));
    let qkv = if b.has(&layer_name(il, "attn_qkv.weight")) {
        Qkv::Fused(linear(b, il, "attn_qkv", h.n_embd, n_q + n_k + n_v)?)
    } else {
        Qkv::Split {
            q: linear(b, il, "attn_q", h.n_embd, n_q)?,
            k: linear(b, il, "attn_k", h.n_embd, n_k)?,
            v: linear(b, il, "attn_v", h.n_embd, n_v)?,
        }
    };
    let head_norms = match head_norms {
        HeadNorms::Absent => None,
        HeadNorms::Required => {
            let (kind, ne) = (WeightKind::Norm, [h.head_dim_k]);
            let q = b.layer(il, "attn_q_norm.weight", kind, &ne)?;
            Some((q, b.layer(il, "attn_k_norm.weight", kind, &ne)?))
        }
    };
    let out = linear(b, il, "attn_output", h.head_dim_v * h.n_head.get(il), h.n_embd)?;
    Ok(Weights { qkv, head_norms, out, factors: rope::bind(b, h, il)? })
}

fn linear(
    b: &mut Binder<'_>,
    il: usize,
    stem: &str,
    n_in: usize,
    n_out: usize,
) -> Result<Linear, ModelError> {
    let kind = WeightKind::Attention;
    let weight = b.layer(il, &format!("{stem}.weight"), kind, &[n_in, n_out])?;
    let bias = b.opt_layer(il, &format!("{stem}.bias"), kind, &[n_out])?;
    Ok(Linear { weight, bias })
}

/// From the normed `x (n_embd, t)` to the block's result `(n_embd, t)`; `None` when nothing but
/// the keys and values of this layer is wanted.
pub(super) fn build(
    g: &mut ModelGraph<'_>,
    w: &Weights,
    il: usize,
    x: TensorId,
) -> Result<Option<TensorId>, GraphError> {
    let (h, t) = (g.h, g.shape.n_tokens);
    let at = |stem| Name::layer(stem, il);
    let (q, k, v) = project(g, w, il, x)?;
    let positions = g.index_input(InputKind::Positions, t);
    let factors = w.factors.tensor(g, il);
    let turn = |g: &mut ModelGraph<'_>, stem, x| match factors {
        Some(f) => g.b.node(at(stem), Op::Rope(h.rope_params(il)), &[x, positions, f]),
        None => g.b.node(at(stem), Op::Rope(h.rope_params(il)), &[x, positions]),
    };
    // (head_dim, n_head, t) and (head_dim, n_head_kv, t)
    let q = match q {
        Some(q) => {
            let q = g.b.heads(q, h.head_dim_k, h.n_head.get(il))?;
            let q = head_norm(g, w.head_norms.map(|n| n.0), "attn_q_norm.weight", "Qcur", il, q)?;
            Some(turn(g, "Qcur", q)?)
        }
        None => None,
    };
    let k = g.b.heads(k, h.head_dim_k, h.n_head_kv.get(il))?;
    let k = head_norm(g, w.head_norms.map(|n| n.1), "attn_k_norm.weight", "Kcur", il, k)?;
    let k = turn(g, "Kcur", k)?;
    let k = g.b.reshape(k, [h.n_embd_k_gqa(il), t, 1, 1])?;

    let (n_head_kv, shape) = (h.n_head_kv.get(il), g.shape.cache);
    let keys = Store { stem: "cache_k_l", id: k_cache_id(il), dtype: shape.type_k };
    let values = Store { stem: "cache_v_l", id: v_cache_id(il), dtype: shape.type_v };
    let keys = keys.write_and_view(g, il, k, h.head_dim_k, n_head_kv)?;
    let values = values.write_and_view(g, il, v, h.head_dim_v, n_head_kv)?;
    let Some(q) = q else { return Ok(None) };

    let mask = mask(g, il);
    let op = Op::FlashAttn { scale: h.attention_scale, softcap: h.attention_softcap };
    let heads = g.b.node(at("kqv_out"), op, &[q, keys, values, mask])?;
    let rows = g.b.reshape(heads, [h.head_dim_v * h.n_head.get(il), t, 1, 1])?;
    let out = g.mul_mat(at("attn_out"), "attn_output.weight", w.out.weight, rows)?;
    g.add_bias(at("attn_out"), "attn_output.bias", w.out.bias, out).map(Some)
}

/// Query, key and value rows. The three products stand next to each other, because a backend can
/// then prepare their common operand once. No query when nothing will look.
fn project(
    g: &mut ModelGraph<'_>,
    w: &Weights,
    il: usize,
    x: TensorId,
) -> Result<(Option<TensorId>, TensorId, TensorId), GraphError> {
    let at = |stem| Name::layer(stem, il);
    let dead_end = g.is_dead_end(il);
    match &w.qkv {
        Qkv::Split { q, k, v } => {
            let q_rows = if dead_end {
                None
            } else {
                Some(g.mul_mat(at("Qcur"), "attn_q.weight", q.weight, x)?)
            };
            let k_rows = g.mul_mat(at("Kcur"), "attn_k.weight", k.weight, x)?;
            let v_rows = g.mul_mat(at("Vcur"), "attn_v.weight", v.weight, x)?;
            let q_rows = match q_rows {
                Some(rows) => Some(g.add_bias(at("Qcur"), "attn_q.bias", q.bias, rows)?),
                None => None,
            };
            let k_rows = g.add_bias(at("Kcur"), "attn_k.bias", k.bias, k_rows)?;
            let v_rows = g.add_bias(at("Vcur"), "attn_v.bias", v.bias, v_rows)?;
            Ok((q_rows, k_rows, v_rows))
        }
        Qkv::Fused(qkv) => {
            let rows = g.mul_mat(at("wqkv"), "attn_qkv.weight", qkv.weight, x)?;
            let rows = g.add_bias(at("bqkv"), "attn_qkv.bias", qkv.bias, rows)?;
            let n_q = g.h.head_dim_k * g.h.n_head.get(il);
            let (n_k, n_v) = (g.h.n_embd_k_gqa(il), g.h.n_embd_v_gqa(il));
            let q = if dead_end { None } else { Some(g.b.columns(at("Qcur"), rows, 0, n_q)?) };
            let k = g.b.columns(at("Kcur"), rows, n_q, n_k)?;
            let v = g.b.columns(at("Vcur"), rows, n_q + n_k, n_v)?;
            Ok((q, k, v))
        }
    }
}

fn head_norm(
    g: &mut ModelGraph<'_>,
    norm: Option<WeightId>,
    weight_stem: &'static str,
    which: &'static str,
    il: usize,
    x: TensorId,
) -> Result<TensorId, GraphError> {
    let stem = if which == "Qcur" { "Qcur_normed" } else { "Kcur_normed" };
    match norm {
        Some(norm) => g.rms_norm(Name::layer(stem, il), weight_stem, norm, x),
        None => Ok(x),
    }
}

/// One tensor of the cache.
struct Store {
    stem: &'static str,
    id: CacheId,
    dtype: DType,
}

impl Store {
    /// Writes `rows (d · n_head_kv, t)` into their cells and returns the cells that queries may
    /// look at, `(d, n_kv, n_head_kv)`.
    fn write_and_view(
        self,
        g: &mut ModelGraph<'_>,
        il: usize,
        rows: TensorId,
        d: usize,
        n_head_kv: usize,
    ) -> Result<TensorId, GraphError> {
        let name = Name::layer(self.stem, il);
        let window = g.h.is_window_layer(il);
        let (cells, n_kv, kind) = if window {
            (g.shape.cache.n_cells_window, g.shape.n_kv_window, InputKind::CacheRowsWindow)
        } else {
            (g.shape.cache.n_cells, g.shape.n_kv, InputKind::CacheRows)
        };
        let (Some(head), Some(row)) =
            (self.dtype.row_bytes(d), self.dtype.row_bytes(d * n_head_kv))
        else {
            let problem = format!("heads of {d} elements cannot be stored as {}", self.dtype);
            return Err(GraphError { name: name.to_string(), op: "SET_ROWS", problem });
        };
        let cache = g.b.cache(name, self.id, self.dtype, [d * n_head_kv, cells, 1, 1]);
        let cell_ids = g.index_input(kind, g.shape.n_tokens);
        let written = g.b.node(name, Op::SetRows, &[rows, cell_ids, cache])?;
        let (ne, nb) =
            ([d, n_kv, n_head_kv, 1], [self.dtype.block_bytes(), row, head, head * n_head_kv]);
        g.b.view(name, written, ne, nb, 0)
    }
}

/// The mask of layer `il`: `(n_kv, t)`.
fn mask(g: &mut ModelGraph<'_>, il: usize) -> TensorId {
    let (kind, n_kv) = if g.h.is_window_layer(il) {
        (InputKind::MaskWindow, g.shape.n_kv_window)
    } else {
        (InputKind::Mask, g.shape.n_kv)
    };
    g.b.input(kind, DType::F16, [n_kv, g.shape.n_tokens, 1, 1])
}
