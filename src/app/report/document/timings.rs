//! How long everything took.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::observe::session::{LoadTimings, PhaseParts};

/// How long everything took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// Loading.
    pub load: LoadTimings,
    /// Text to tokens.
    pub tokenise_ns: u64,
    /// Prompts.
    pub prompt: PhaseTimings,
    /// Generation.
    pub decode: PhaseTimings,
    /// From a request's first ubatch to its first token, the median over requests.
    pub first_token_ns: f64,
    /// From opening the file to the first token of all, in its parts.
    #[serde(default)]
    pub first_token: FirstTokenTimings,
    /// From one token to the next of the same request, the median.
    pub inter_token_median_ns: f64,
    /// The same, the 99th percentile.
    pub inter_token_p99_ns: f64,
    /// True when nodes were timed one by one, which costs a barrier for each.
    pub per_node: bool,
}

/// The way to the first token, from opening the file on. The parts add up to `total_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirstTokenTimings {
    /// Opening the file, reading and checking its header. A model with random weights that is not
    /// cached yet is made here.
    pub open_ns: u64,
    /// Building the tokenizer.
    pub tokenizer_ns: u64,
    /// Putting weights in place: mapped for the CPU, copied for other devices.
    pub weights_ns: u64,
    /// Allocating the KV cache and the compute buffers.
    pub reserve_ns: u64,
    /// Compiling kernels for these very devices.
    #[serde(default)]
    pub kernels_ns: u64,
    /// The prompts to tokens.
    pub tokenise_ns: u64,
    /// Building and placing graphs.
    pub graph_ns: u64,
    /// Computing the ubatches up to the first token. Weights that are not in memory yet are waited
    /// for here.
    pub prompt_ns: u64,
    /// Choosing the token from its logits.
    pub sample_ns: u64,
    /// Between the others.
    pub unaccounted_ns: u64,
    /// Everything together; 0 when no token came.
    pub total_ns: u64,
    /// Everything but `prompt_ns`.
    pub beyond_prompt_ns: u64,
}

/// Where the time of one phase went. The parts add up to `total_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTimings {
    /// Tokens computed.
    pub tokens: u64,
    /// Ubatches.
    pub ubatches: u64,
    /// Tokens of the ubatches over what would have fitted.
    pub occupancy: f64,
    /// Sequences in a ubatch, on average.
    pub sequences: f64,
    /// Wall time: from the start of each ubatch, or of building its graph, to the start of the next.
    pub total_ns: u64,
    /// Tokens per second of `total_ns`.
    pub tokens_per_s: f64,
    /// The parts of `total_ns`.
    pub parts: PhaseParts,
    /// `total_ns` for one token.
    pub token_ns: f64,
    /// The parts for one token.
    pub per_token: PhasePartsPerToken,
    /// The share of `total_ns` that the parts but `unaccounted_ns` cover, from 0 to 1.
    pub accounted_share: f64,
}

/// The parts of a phase's time for one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhasePartsPerToken {
    /// See [`PhaseParts::graph_ns`].
    pub graph_ns: f64,
    /// See [`PhaseParts::inputs_ns`].
    pub inputs_ns: f64,
    /// Waiting, copying and computing of all splits.
    pub splits_ns: f64,
    /// See [`PhaseParts::logits_ns`].
    pub logits_ns: f64,
    /// See [`PhaseParts::sampling_ns`].
    pub sampling_ns: f64,
    /// See [`PhaseParts::detokenise_ns`].
    pub detokenise_ns: f64,
    /// See [`PhaseParts::unaccounted_ns`].
    pub unaccounted_ns: f64,
}
