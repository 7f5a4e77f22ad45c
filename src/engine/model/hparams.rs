//! Hyperparameters: the numbers of a model's shape, read from metadata and checked.
//!
//! Defaults for missing keys are llama.cpp's (`llama_model_base::load_hparams` and the loaders
//! under `src/models/`), so that a file means the same here as there. What passes
//! [`HParams::check`] can be multiplied and divided without overflow and without remainder; the
//! shapes of tensors are compared later, in [`super::weights`].

use crate::engine::graph::{RopeMode, RopeParams};

use super::error::ModelError;
use super::keys::Keys;

/// The most layers, as in llama.cpp; it also fits the layer number of a tensor's name.
pub const MAX_LAYERS: usize = 512;

/// The widest row: far above any model, and low enough that sizes of caches cannot overflow.
const MAX_WIDTH: usize = 1 << 24;

/// The most experts of one layer; llama.cpp allows 512.
const MAX_EXPERTS: usize = 512;

/// A number that may differ from layer to layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerLayer(Vec<usize>);

impl PerLayer {
    /// The same number in every layer.
    pub fn uniform(value: usize) -> Self {
        Self(vec![value])
    }

    /// One number per layer; of an empty list, 0 for every layer.
    pub fn each(values: Vec<usize>) -> Self {
        if values.is_empty() { Self::uniform(0) } else { Self(values) }
    }

    /// The number of layer `il`.
    pub fn get(&self, il: usize) -> usize {
        self.0[il.min(self.0.len() - 1)]
    }

    /// The largest of all layers.
    pub fn max(&self) -> usize {
        self.0.iter().copied().max().unwrap_or(0)
    }
}

/// How a model was stretched beyond the context of its training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All positions divided by one factor.
    Linear,
    /// YaRN: interpolation of low frequencies only.
    Yarn,
    /// A divisor per frequency, one table for short and one for long contexts.
    LongRope,
}

/// What rotary embedding needs besides the frequency tables among the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// How elements pair.
    pub mode: RopeMode,
    /// Elements of each head that turn.
    pub n_dims: usize,
    /// Base of the frequencies.
    pub freq_base: f32,
    /// Factor on positions.
    pub freq_scale: f32,
    /// Base of the frequencies in layers with a sliding window.
    pub freq_base_window: f32,
    /// Factor on positions in layers with a sliding window.
    pub freq_scale_window: f32,
    /// Context length before stretching.
    pub n_ctx_orig: usize,
    /// The kind of stretching.
    pub scaling: RopeScaling,
    /// YaRN's mix; 0 without YaRN.
    pub ext_factor: f32,
    /// Factor on the rotated values, before what YaRN adds in the operation itself.
    pub attn_factor: f32,
    /// YaRN's upper bound of rotations.
    pub beta_fast: f32,
    /// YaRN's lower bound of rotations.
    pub beta_slow: f32,
}

impl Rope {
    /// Rotation of all `n_dims` elements at base 10000, without stretching.
    pub fn plain(mode: RopeMode, n_dims: usize, n_ctx_orig: usize) -> Self {
        Self {
            mode,
            n_dims,
            freq_base: 10000.0,
            freq_scale: 1.0,
            freq_base_window: 10000.0,
            freq_scale_window: 1.0,
            n_ctx_orig,
            scaling: RopeScaling::None,
            ext_factor: 0.0,
            attn_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
        }
    }

    fn read(keys: &Keys<'_>, head_dim: usize, n_ctx_train: usize) -> Result<Self, ModelError> {
        let scaling = match keys.opt_str("rope.scaling.type")?.unwrap_or("linear") {
            "none" => RopeScaling::None,
            "linear" => RopeScaling::Linear,
            "yarn" => RopeScaling::Yarn,
            "longrope" => RopeScaling::LongRope,
            other => {
                let problem = format!("unknown kind of scaling {:?}", cut(other));
                return Err(keys.invalid("rope.scaling.type", problem));
            }
        };
        let factor = match keys.opt_f32("rope.scaling.factor")? {
            Some(factor) => factor,
            None => keys.opt_f32("rope.scale_linear")?.unwrap_or(0.0),
        };
        let freq_scale =
            if factor == 0.0 || scaling == RopeScaling::None { 1.0 } else { 1.0 / factor };
        let ext_factor = match keys.opt_f32("rope.scaling.yarn_ext_factor")? {
            Some(given) if given >= 0.0 => given,
            _ if scaling == RopeScaling::Yarn => 1.0,
            _ => 0.0,
        };
        let mut attn_factor = keys.opt_f32("rope.scaling.yarn_attn_factor")?.unwrap_or(1.0);
        if ext_factor != 0.0 {
            // The operation itself multiplies by 1 + 0.1 ln(factor); what stays is the ratio of
            // the model's own magnitude to that, which is 1 unless the factor shrinks.
            let stretch = 1.0 / freq_scale;
            let magnitude = if stretch <= 1.0 { 1.0 } else { 0.1 * stretch.ln() + 1.0 };
            attn_factor = magnitude / (1.0 + 0.1 * stretch.ln());
        }
        attn_factor *= keys.opt_f32("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let freq_base = keys.opt_f32("rope.freq_base")?.unwrap_or(10000.0);
        let rope = Self {
            // The architecture says which; this is the rarer one, so that forgetting shows.
            mode: RopeMode::Norm,
            n_dims: keys.opt_usize("rope.dimension_count")?.unwrap_or(head_dim),
            freq_base,
            freq_scale,
            freq_base_window: freq_base,
            freq_scale_window: freq_scale,
            n_ctx_orig: keys
                .opt_usize("rope.scaling.original_context_length")?
                .filter(|&n| n > 0)
                .unwrap_or(n_ctx_train),
            scaling,
            ext_factor,
            attn_factor,
            beta_fast: keys.opt_f32("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.opt_f32("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        };
        Ok(rope)
    }
}

/// The numbers of a model's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct HParams {
    /// Repeating layers.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Context length of the training, in tokens.
    pub n_ctx_train: usize,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// Query heads.
    pub n_head: PerLayer,
    /// Key and value heads.
    pub n_head_kv: PerLayer,
    /// Elements of one query or key head.
    pub head_dim_k: usize,
    /// Elements of one value head.
    pub head_dim_v: usize,
    /// Width of the dense feed-forward block.
    pub n_ff: PerLayer,
    /// Experts of a layer; 0 in dense models.
    pub n_expert: usize,
    /// Experts that each token uses.
    pub n_expert_used: usize,
    /// Width of one expert.
    pub n_ff_expert: usize,
    /// Whether the weights of the chosen experts are made to add up to 1.
    pub expert_weights_normalise: bool,
    /// Factor on the weights of the chosen experts.
    pub expert_weights_scale: f32,
    /// Added to the mean square in norms.
    pub rms_eps: f32,
    /// Rotary embedding.
    pub rope: Rope,
    /// Tokens that a layer with a sliding window sees; `None` when there are no such layers.
    pub sliding_window: Option<u32>,
    /// Which layers have the sliding window; empty when none has.
    pub window_layers: Vec<bool>,
    /// Factor on `q · k`.
    pub attention_scale: f32,
    /// `cap · tanh(score / cap)` on attention scores; 0 turns it off.
    pub attention_softcap: f32,
    /// Factor on token embeddings; 1 in most models.
    pub embedding_scale: f32,
}

impl HParams {
    /// Reads what all architectures share. `n_vocab` falls back to `n_vocab_embd`, the number of
    /// rows of the embedding, when the file has neither a vocabulary nor a size of one.
    pub(super) fn read(keys: &Keys<'_>, n_vocab_embd: usize) -> Result<Self, ModelError> {
        let n_layer = keys.usize("block_count")?;
        if n_layer == 0 || n_layer > MAX_LAYERS {
            let problem = format!("{n_layer} layers; from 1 to {MAX_LAYERS} are possible");
            return Err(keys.invalid("block_count", problem));
        }
        let n_embd = keys.usize("embedding_length")?;
        let n_ctx_train = keys.usize("context_length")?;
        let n_head = keys.per_layer("attention.head_count", n_layer)?;
        let n_head_kv = match keys.opt_per_layer("attention.head_count_kv", n_layer)? {
            Some(per_layer) => per_layer,
            None => n_head.clone(),
        };
        let shared = n_embd.checked_div(n_head.get(0)).unwrap_or(0);
        let head_dim_k = keys.opt_usize("attention.key_length")?.unwrap_or(shared);
        let head_dim_v = keys.opt_usize("attention.value_length")?.unwrap_or(shared);
        let n_ff = keys.opt_per_layer("feed_forward_length", n_layer)?;
        let n_vocab = match keys.n_tokens()? {
            Some(n) => n,
            None => keys.opt_usize("vocab_size")?.unwrap_or(n_vocab_embd),
        };
        let rope = Rope::read(keys, head_dim_k, n_ctx_train)?;
        Ok(Self {
            n_layer,
            n_embd,
            n_ctx_train,
            n_vocab,
            n_head,
            n_head_kv,
            head_dim_k,
            head_dim_v,
            n_ff: n_ff.unwrap_or_else(|| PerLayer::uniform(0)),
            n_expert: keys.opt_usize("expert_count")?.unwrap_or(0),
            n_expert_used: keys.opt_usize("expert_used_count")?.unwrap_or(0),
            n_ff_expert: keys.opt_usize("expert_feed_forward_length")?.unwrap_or(0),
            expert_weights_normalise: true,
            expert_weights_scale: match keys.opt_f32("expert_weights_scale")? {
                None | Some(0.0) => 1.0,
                Some(scale) => scale,
            },
            rms_eps: keys.f32("attention.layer_norm_rms_epsilon")?,
            rope,
            sliding_window: None,
            window_layers: Vec::new(),
            attention_scale: 1.0 / (head_dim_k.max(1) as f32).sqrt(),
            attention_softcap: 0.0,
            embedding_scale: 1.0,
        })
    }

    /// Checks that the numbers fit each other, so that graphs can be built without further doubt.
    pub(super) fn check(&self, keys: &Keys<'_>) -> Result<(), ModelError> {
        let width = |key: &str, n: usize| {
            if n == 0 || n > MAX_WIDTH {
                let problem = format!("{n} is not from 1 to {MAX_WIDTH}");
                return Err(keys.invalid(key, problem));
            }
            Ok(())
        };
        width("embedding_length", self.n_embd)?;
        width("attention.key_length", self.head_dim_k)?;
        width("attention.value_length", self.head_dim_v)?;
        width("vocab_size", self.n_vocab)?;
        if self.n_ctx_train == 0 {
            return Err(keys.invalid("context_length", "no context".to_owned()));
        }
        if self.head_dim_k != self.head_dim_v {
            let problem = format!(
                "heads of values have {} elements and heads of keys {}; they must be equal",
                self.head_dim_v, self.head_dim_k
            );
            return Err(keys.invalid("attention.value_length", problem));
        }
        for il in 0..self.n_layer {
            self.check_heads(keys, il)?;
            if self.n_expert == 0 {
                width("feed_forward_length", self.n_ff.get(il))?;
            }
        }
        self.check_experts(keys)?;
        self.check_rope(keys)?;
        if !(self.rms_eps.is_finite() && self.rms_eps >= 0.0) {
            let problem = format!("{} is no epsilon", self.rms_eps);
            return Err(keys.invalid("attention.layer_norm_rms_epsilon", problem));
        }
        Ok(())
    }

    fn check_heads(&self, keys: &Keys<'_>, il: usize) -> Result<(), ModelError> {
        let (n_head, n_head_kv) = (self.n_head.get(il), self.n_head_kv.get(il));
        if n_head == 0 || self.head_dim_k.saturating_mul(n_head) > MAX_WIDTH {
            let problem = format!("layer {il} has {n_head} heads of {}", self.head_dim_k);
            return Err(keys.invalid("attention.head_count", problem));
        }
        if n_head_kv == 0 || !n_head.is_multiple_of(n_head_kv) {
            let problem =
                format!("layer {il} has {n_head_kv} key heads, which do not divide {n_head}");
            return Err(keys.invalid("attention.head_count_kv", problem));
        }
        Ok(())
    }

    fn check_experts(&self, keys: &Keys<'_>) -> Result<(), ModelError> {
        if self.n_expert == 0 {
            return Ok(());
        }
        if self.n_expert > MAX_EXPERTS {
            let problem = format!("{} is more than {MAX_EXPERTS}", self.n_expert);
            return Err(keys.invalid("expert_count", problem));
        }
        if self.n_expert_used == 0 || self.n_expert_used > self.n_expert {
            let problem =
                format!("{} of {} experts cannot be used", self.n_expert_used, self.n_expert);
            return Err(keys.invalid("expert_used_count", problem));
        }
        if self.n_ff_expert == 0 || self.n_ff_expert > MAX_WIDTH {
            let problem = format!("{} is not from 1 to {MAX_WIDTH}", self.n_ff_expert);
            return Err(keys.invalid("expert_feed_forward_length", problem));
        }
        if !self.expert_weights_scale.is_finite() {
            let problem = format!("{} is no factor", self.expert_weights_scale);
            return Err(keys.invalid("expert_weights_scale", problem));
        }
        Ok(())
    }

    fn check_rope(&self, keys: &Keys<'_>) -> Result<(), ModelError> {
        let rope = &self.rope;
        if rope.n_dims == 0 || rope.n_dims > self.head_dim_k || !rope.n_dims.is_multiple_of(2) {
            let problem = format!("cannot rotate {} of {}", rope.n_dims, self.head_dim_k);
            return Err(keys.invalid("rope.dimension_count", problem));
        }
        let positive = |key: &str, x: f32| {
            if x.is_finite() && x > 0.0 {
                Ok(())
            } else {
                Err(keys.invalid(key, format!("gives {x}; a positive number is needed")))
            }
        };
        positive("rope.freq_base", rope.freq_base)?;
        positive("rope.freq_base_swa", rope.freq_base_window)?;
        positive("rope.scaling.factor", rope.freq_scale)?;
        positive("rope.scaling.attn_factor", rope.attn_factor)?;
        positive("rope.scaling.yarn_beta_fast", rope.beta_fast)?;
        positive("rope.scaling.yarn_beta_slow", rope.beta_slow)?;
        if !rope.ext_factor.is_finite() {
            let problem = format!("{} is no factor", rope.ext_factor);
            return Err(keys.invalid("rope.scaling.yarn_ext_factor", problem));
        }
        Ok(())
    }

    /// True when layer `il` attends through the sliding window.
    pub fn is_window_layer(&self, il: usize) -> bool {
        self.sliding_window.is_some() && self.window_layers.get(il).copied().unwrap_or(false)
    }

    /// Width of the keys of one token in layer `il`.
    pub fn n_embd_k_gqa(&self, il: usize) -> usize {
        self.head_dim_k * self.n_head_kv.get(il)
    }

    /// Width of the values of one token in layer `il`.
    pub fn n_embd_v_gqa(&self, il: usize) -> usize {
        self.head_dim_v * self.n_head_kv.get(il)
    }

    /// The parameters of rotation in layer `il`.
    pub fn rope_params(&self, il: usize) -> RopeParams {
        let rope = &self.rope;
        let (freq_base, freq_scale) = if self.is_window_layer(il) {
            (rope.freq_base_window, rope.freq_scale_window)
        } else {
            (rope.freq_base, rope.freq_scale)
        };
        RopeParams {
            mode: rope.mode,
            n_dims: rope.n_dims,
            freq_base,
            freq_scale,
            n_ctx_orig: rope.n_ctx_orig,
            ext_factor: rope.ext_factor,
            attn_factor: rope.attn_factor,
            beta_fast: rope.beta_fast,
            beta_slow: rope.beta_slow,
        }
    }
}

/// Layers with a window when every `period`th layer sees everything: llama.cpp's
/// `set_swa_pattern`. A period of 0 puts the window into every layer, of 1 into none.
pub fn window_pattern(n_layer: usize, period: usize) -> Vec<bool> {
    (0..n_layer).map(|il| period == 0 || il % period < period - 1).collect()
}

/// The beginning of a text from the file, short enough for a message.
pub(super) fn cut(text: &str) -> String {
    const MOST: usize = 40;
    text.chars().take(MOST).collect()
}
