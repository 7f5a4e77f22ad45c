//! Layers that architectures share: weights grouped by layer, and the graph pieces over them.
//!
//! An architecture's file says which weights a layer has and in which order the pieces follow;
//! the pieces themselves are here, one file each. Node names are those that llama.cpp gives in its
//! graph callbacks, because logs and `-ot` patterns of users speak them.

pub(super) mod attention;
pub(super) mod ffn;
pub(super) mod moe;
pub(super) mod rope;

use crate::engine::graph::{GraphBuilder, GraphError, InputKind, Name, Op, TensorId, WeightId};
use crate::engine::tensor::DType;

use super::error::ModelError;
use super::hparams::HParams;
use super::weights::{Binder, LayerClass, WeightInfo, WeightKind};
use super::{GraphShape, Wanted};

/// The weights of a whole model.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    /// `(n_embd, n_vocab)`
    token_embd: WeightId,
    pub(super) layers: Vec<Layer>,
    /// `(n_embd)`
    output_norm: WeightId,
    /// `(n_embd, n_vocab)`; a second use of the embedding when the file has no matrix of its own.
    output: WeightId,
    /// `(n_vocab)`
    output_bias: Option<WeightId>,
}

/// The weights of one repeating layer.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// `(n_embd)`
    pub(super) attn_norm: WeightId,
    pub(super) attention: attention::Weights,
    /// `(n_embd)`, after attention and before the residual.
    pub(super) post_attention_norm: Option<WeightId>,
    /// `(n_embd)`
    pub(super) ffn_norm: WeightId,
    pub(super) feed_forward: FeedForward,
    /// `(n_embd)`, after the feed-forward block and before the residual.
    pub(super) post_ffn_norm: Option<WeightId>,
}

/// The second half of a layer.
#[derive(Clone, Debug)]
pub(super) enum FeedForward {
    Dense(ffn::Weights),
    Moe(moe::Weights),
}

/// Binds everything but the layers, which `layer` binds one by one.
pub(super) fn bind(
    b: &mut Binder<'_>,
    h: &HParams,
    mut layer: impl FnMut(&mut Binder<'_>, usize) -> Result<Layer, ModelError>,
) -> Result<Weights, ModelError> {
    const EMBD: &str = "token_embd.weight";
    let table = [h.n_embd, h.n_vocab];
    let token_embd = b.require(EMBD, LayerClass::Input, WeightKind::Embedding, &table)?;
    let layers = (0..h.n_layer).map(|il| layer(b, il)).collect::<Result<_, _>>()?;
    let (class, kind) = (LayerClass::Output, WeightKind::Output);
    let output_norm = b.require("output_norm.weight", class, WeightKind::Norm, &[h.n_embd])?;
    let output = match b.optional("output.weight", class, kind, &table)? {
        Some(own) => own,
        None => b.require(EMBD, class, kind, &table)?,
    };
    let output_bias = b.optional("output.bias", class, kind, &[h.n_vocab])?;
    Ok(Weights { token_embd, layers, output_norm, output, output_bias })
}

/// A graph under construction, with what every piece looks up.
pub(super) struct ModelGraph<'a> {
    pub(super) b: GraphBuilder,
    pub(super) h: &'a HParams,
    pub(super) weights: &'a Weights,
    pub(super) table: &'a [WeightInfo],
    pub(super) shape: &'a GraphShape,
}

impl ModelGraph<'_> {
    /// The graph tensor of a weight. `stem` is for people who read the graph without the table.
    pub(super) fn weight(&mut self, name: Name, id: WeightId) -> TensorId {
        let info = &self.table[id.0 as usize];
        self.b.weight(name, id, info.dtype, info.ne)
    }

    /// `name = weight · x`, the weight named `stem` within the layer of `name`.
    pub(super) fn mul_mat(
        &mut self,
        name: Name,
        stem: &'static str,
        weight: WeightId,
        x: TensorId,
    ) -> Result<TensorId, GraphError> {
        let w = self.weight(Name { stem, ..name }, weight);
        self.b.node(name, Op::MulMat, &[w, x])
    }

    /// `name = x + bias`, when there is a bias.
    pub(super) fn add_bias(
        &mut self,
        name: Name,
        stem: &'static str,
        bias: Option<WeightId>,
        x: TensorId,
    ) -> Result<TensorId, GraphError> {
        let Some(bias) = bias else { return Ok(x) };
        let bias = self.weight(Name { stem, ..name }, bias);
        self.b.node(name, Op::Add, &[x, bias])
    }

    /// `name = rms_norm(x) * weight`.
    pub(super) fn rms_norm(
        &mut self,
        name: Name,
        stem: &'static str,
        weight: WeightId,
        x: TensorId,
    ) -> Result<TensorId, GraphError> {
        let w = self.weight(Name { stem, ..name }, weight);
        self.b.node(name, Op::RmsNorm { eps: self.h.rms_eps }, &[x, w])
    }

    /// An I32 input of `n` elements.
    pub(super) fn index_input(&mut self, kind: InputKind, n: usize) -> TensorId {
        self.b.input(kind, DType::I32, [n, 1, 1, 1])
    }

    /// Embeds the tokens: `(n_embd, n_tokens)`.
    pub(super) fn embedding(&mut self) -> Result<TensorId, GraphError> {
        let table = self.weight(Name::global("token_embd.weight"), self.weights.token_embd);
        let tokens = self.index_input(InputKind::Tokens, self.shape.n_tokens);
        let x = self.b.node(Name::global("inp_embd"), Op::GetRows, &[table, tokens])?;
        let factor = self.h.embedding_scale;
        if factor == 1.0 {
            return Ok(x);
        }
        self.b.node(Name::global("inp_scaled"), Op::Scale { factor }, &[x])
    }

    /// True in the last layer of a graph without outputs, where only keys and values count.
    pub(super) fn is_dead_end(&self, il: usize) -> bool {
        self.is_last(il) && self.shape.n_outputs == 0
    }

    fn is_last(&self, il: usize) -> bool {
        il + 1 == self.h.n_layer
    }

    /// In the last layer keeps only the rows whose logits are wanted; elsewhere returns `x`.
    pub(super) fn keep_outputs(
        &mut self,
        stem: &'static str,
        il: usize,
        x: TensorId,
    ) -> Result<TensorId, GraphError> {
        if !self.is_last(il) || self.shape.n_outputs == self.shape.n_tokens {
            return Ok(x);
        }
        let rows = self.index_input(InputKind::OutputRows, self.shape.n_outputs);
        self.b.node(Name::layer(stem, il), Op::GetRows, &[x, rows])
    }

    /// The feed-forward block of layer `il`.
    pub(super) fn feed_forward(&mut self, il: usize, x: TensorId) -> Result<TensorId, GraphError> {
        let weights = self.weights;
        match &weights.layers[il].feed_forward {
            FeedForward::Dense(w) => ffn::build(self, w, il, x),
            FeedForward::Moe(w) => moe::build(self, w, il, x),
        }
    }

    /// Norm and output matrix: from `(n_embd, n_outputs)` to logits `(n_vocab, n_outputs)`, and to
    /// the largest of them where no more is wanted.
    pub(super) fn head(&mut self, x: TensorId) -> Result<(), GraphError> {
        let w = self.weights;
        let x =
            self.rms_norm(Name::global("result_norm"), "output_norm.weight", w.output_norm, x)?;
        let stem = if w.output_bias.is_some() { "result_output_no_bias" } else { "result_output" };
        let x = self.mul_mat(Name::global(stem), "output.weight", w.output, x)?;
        let x = self.add_bias(Name::global("result_output"), "output.bias", w.output_bias, x)?;
        let Wanted::Top(k) = self.shape.wanted else {
            self.b.output(x);
            return Ok(());
        };
        let tokens = self.b.node(Name::global("result_top_k"), Op::TopK { k }, &[x])?;
        self.b.output(tokens);
        if k > 1 {
            // What gathers the weights of experts gathers any values.
            let op = Op::ExpertWeights { normalise: false };
            let logits = self.b.node(Name::global("result_top_logits"), op, &[x, tokens])?;
            self.b.output(logits);
        }
        Ok(())
    }
}

/// The graph of a decoder whose layers are `x + attention(norm(x))`, then `x + ffn(norm(x))`, with
/// norms after the two blocks where the layer has them.
pub(super) fn decoder(g: &mut ModelGraph<'_>) -> Result<(), GraphError> {
    let mut x = g.embedding()?;
    for il in 0..g.h.n_layer {
        match decoder_layer(g, il, x)? {
            Some(next) => x = next,
            None => return Ok(()),
        }
    }
    g.head(x)
}

/// One layer; `None` when nothing after its keys and values is wanted.
fn decoder_layer(
    g: &mut ModelGraph<'_>,
    il: usize,
    x: TensorId,
) -> Result<Option<TensorId>, GraphError> {
    let layer = &g.weights.layers[il];
    let at = |stem| Name::layer(stem, il);
    let normed = g.rms_norm(at("attn_norm"), "attn_norm.weight", layer.attn_norm, x)?;
    let Some(mut cur) = attention::build(g, &layer.attention, il, normed)? else {
        return Ok(None);
    };
    cur = g.keep_outputs("attn_out", il, cur)?;
    let residual = g.keep_outputs("l_inp", il, x)?;
    if let Some(norm) = layer.post_attention_norm {
        cur = g.rms_norm(at("attn_post_norm"), "post_attention_norm.weight", norm, cur)?;
    }
    let ffn_inp = g.b.node(at("ffn_inp"), Op::Add, &[cur, residual])?;
    cur = g.rms_norm(at("ffn_norm"), "ffn_norm.weight", layer.ffn_norm, ffn_inp)?;
    cur = g.feed_forward(il, cur)?;
    if let Some(norm) = layer.post_ffn_norm {
        cur = g.rms_norm(at("ffn_post_norm"), "post_ffw_norm.weight", norm, cur)?;
    }
    g.b.node(at("l_out"), Op::Add, &[cur, ffn_inp]).map(Some)
}
