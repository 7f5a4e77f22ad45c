//! What one repetition of a test yields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A quantity that a repetition measures.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Prompt tokens per second, of one request.
    PromptTokensPerS,
    /// Generated tokens per second after the first, of one request.
    DecodeTokensPerS,
    /// Generated tokens per second of all concurrent requests together.
    ThroughputTokensPerS,
    /// From sending a request to its first token, in milliseconds; of concurrent ones the median.
    FirstTokenMs,
    /// From one token to the next, the median, in milliseconds.
    InterTokenMs,
    /// The same, the 99th percentile.
    InterTokenP99Ms,
    /// From asking for a model that is not loaded to its being ready, in milliseconds.
    LoadMs,
}

impl Metric {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::PromptTokensPerS,
        Self::DecodeTokensPerS,
        Self::ThroughputTokensPerS,
        Self::FirstTokenMs,
        Self::InterTokenMs,
        Self::InterTokenP99Ms,
        Self::LoadMs,
    ];

    /// As JSON spells it.
    pub fn id(self) -> &'static str {
        match self {
            Self::PromptTokensPerS => "prompt_tokens_per_s",
            Self::DecodeTokensPerS => "decode_tokens_per_s",
            Self::ThroughputTokensPerS => "throughput_tokens_per_s",
            Self::FirstTokenMs => "first_token_ms",
            Self::InterTokenMs => "inter_token_ms",
            Self::InterTokenP99Ms => "inter_token_p99_ms",
            Self::LoadMs => "load_ms",
        }
    }

    /// What a person reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::PromptTokensPerS => "prompt speed",
            Self::DecodeTokensPerS => "decode speed",
            Self::ThroughputTokensPerS => "throughput",
            Self::FirstTokenMs => "time to first token",
            Self::InterTokenMs => "inter-token latency",
            Self::InterTokenP99Ms => "inter-token latency, 99th percentile",
            Self::LoadMs => "load time",
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        if self.higher_is_better() { "tokens/s" } else { "ms" }
    }

    /// Whether more is better; of times, less is.
    pub fn higher_is_better(self) -> bool {
        matches!(self, Self::PromptTokensPerS | Self::DecodeTokensPerS | Self::ThroughputTokensPerS)
    }
}

/// A part of the time of one token, as the engine told it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Part {
    /// `decode` or `prompt`.
    pub phase: String,
    /// What: `split 1 on CUDA0: copy of l_out-11`, `split 0 on CPU: MUL_MAT`, `sampling`.
    pub what: String,
    /// Nanoseconds per token.
    pub ns_per_token: f64,
}

/// What else went on while a sample was taken. Absent is what nothing told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Conditions {
    /// Share of the processors' time that a hypervisor gave to other machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stolen_share: Option<f64>,
    /// Share of the processors' time that processes other than the target used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_share: Option<f64>,
    /// Reasons for which a GPU lowered its clocks, or a processor was throttled by its quota.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub throttled: Vec<String>,
    /// Processes beside the target that computed on one of its GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_gpu_processes: Vec<String>,
}

/// One repetition of one test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sample {
    /// What was measured; every value is finite and above 0.
    pub metrics: BTreeMap<Metric, f64>,
    /// Where the time went, if the engine tells; empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What else went on.
    #[serde(default)]
    pub conditions: Conditions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_json_has() {
        for metric in Metric::ALL {
            let json = serde_json::to_value(metric).unwrap();
            assert_eq!(json, metric.id());
        }
    }
}
