//! The report of a watched server: `gpuwhy.report/1` with the facts that a server tells.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::report::document::{Finding, OpenQuestion, Source, SplitReport, Verdict};
use crate::base::event::ServerState;

/// What a server told while it was watched, and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttachReport {
    /// Always `gpuwhy.report/1`.
    pub schema: String,
    /// Where the observation came from.
    pub source: Source,
    /// Whether something is wrong.
    pub verdict: Verdict,
    /// What is wrong, or looks wrong but is not; the first is the primary cause.
    pub findings: Vec<Finding>,
    /// Questions that the session leaves open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenQuestion>,
    /// What makes the figures worse, or doubtful.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the server is and what it has loaded.
    pub facts: AttachFacts,
    /// A foreign server tells no splits; its log does, as numbers.
    pub splits: Vec<SplitReport>,
    /// How fast it was, and how busy.
    pub timings: AttachTimings,
}

/// What the server is and what it has loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttachFacts {
    /// The server.
    pub server: ServerFacts,
    /// The models that it has loaded.
    pub models: Vec<ServedModelFacts>,
    /// What its slots did at the end.
    pub slots: Vec<SlotFacts>,
    /// The processes that compute for it, with their threads.
    pub processes: Vec<ProcessFacts>,
    /// The GPUs of this machine.
    pub gpus: Vec<GpuFacts>,
    /// What could not be read, why, and what would help.
    pub absent: Vec<AbsentFacts>,
    /// What watching cost.
    pub observer: Vec<ObserverFacts>,
}

/// A server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerFacts {
    /// Where it answers.
    pub url: String,
    /// `up`, `loading` or `down`.
    pub state: String,
    /// How often it was gone and found again.
    pub restarts: u64,
    /// Its process, where the system tells.
    pub pid: Option<u32>,
    /// The processes that compute for it.
    pub working_pids: Vec<u32>,
    /// Requests that it works on at once.
    pub slots: Option<u64>,
    /// Where its log is, or why it has none that can be followed.
    pub log: Option<String>,
    /// Lines of it that were read.
    pub log_lines: u64,
    /// What its command line says, and more of it, by name.
    pub details: BTreeMap<String, String>,
}

/// A model that a server has loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServedModelFacts {
    /// Its name there.
    pub name: String,
    /// Its file.
    pub file: Option<String>,
    /// Like `Q4_K_M`.
    pub quantization: Option<String>,
    /// Like `qwen2`.
    pub architecture: Option<String>,
    /// Weights as numbers.
    pub parameters: Option<u64>,
    /// Its layers, the output not counted.
    pub layers: Option<u64>,
    /// Bytes that it takes everywhere together.
    pub bytes: Option<u64>,
    /// Of these, the ones on GPUs.
    pub vram_bytes: Option<u64>,
    /// Tokens of context of one slot.
    pub context_tokens: Option<u64>,
    /// The context that it was trained with.
    pub context_trained: Option<u64>,
}

/// One slot at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlotFacts {
    /// Its number.
    pub slot: u16,
    /// Whether it worked.
    pub busy: bool,
    /// Tokens of context that it has.
    pub context_tokens: Option<u64>,
    /// Tokens of its request's prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens that it has written.
    pub decoded_tokens: Option<u64>,
    /// How fast, while it wrote.
    pub decode_tokens_per_s: Option<Figure>,
}

/// A process that computes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessFacts {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Processors that it kept busy.
    pub cpus: Option<Figure>,
    /// Its memory.
    pub resident_bytes: Option<u64>,
    /// Its memory on GPUs, by the GPU's number.
    pub vram_bytes: BTreeMap<u8, u64>,
    /// How many threads it has.
    pub threads_count: Option<u64>,
    /// The busiest of them, the busiest first.
    pub threads: Vec<ThreadFacts>,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadFacts {
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Processors that it kept busy: at most 1.
    pub cpus: Figure,
}

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuFacts {
    /// NVML's index, which need not be CUDA's.
    pub index: u8,
    /// The product.
    pub name: String,
    /// Share of time in which some kernel ran.
    pub busy_share: Option<Figure>,
    /// What is used of its memory.
    pub vram_bytes_used: Option<u64>,
    /// All of its memory.
    pub vram_bytes_total: Option<u64>,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AbsentFacts {
    /// Who would have told.
    pub source: String,
    /// Why not.
    pub text: String,
    /// What would help; empty when nothing does.
    pub hint: String,
}

/// What one source of counters cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObserverFacts {
    /// Which one.
    pub source: String,
    /// Processor time of one reading, in nanoseconds.
    pub reading_cpu_ns: Option<Figure>,
    /// Time from a reading's begin to its end, in nanoseconds.
    pub reading_ns: Option<Figure>,
}

/// Values of a counter over the time of watching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// How many there were.
    pub count: u64,
    /// The latest.
    pub last: f64,
    /// The smallest.
    pub min: f64,
    /// The mean of the latest, of which a minute at four a second is kept.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

/// How fast a server was, and how busy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttachTimings {
    /// How long it was watched, in seconds.
    pub watched_s: f64,
    /// Slots that worked.
    pub slots_busy: Option<Figure>,
    /// Requests that waited.
    pub requests_queued: Option<Figure>,
    /// Share of its KV cache that was in use.
    pub kv_used_share: Option<Figure>,
    /// Tokens of prompts for each second that it read them; its first figure may reach back to its start.
    pub prompt_tokens_per_s: Option<Figure>,
    /// Tokens for each second that a request wrote them; its first figure may reach back to its start.
    pub decode_tokens_per_s: Option<Figure>,
    /// Tokens of prompts that it read while it was watched.
    pub prompt_tokens: Option<u64>,
    /// Tokens that it wrote while it was watched; servers may count a request only at its end.
    pub decoded_tokens: Option<u64>,
    /// The request that was sent to measure it, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeFacts>,
}

/// One request that was sent to measure a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeFacts {
    /// The model that answered; empty where the server has one alone.
    pub model: String,
    /// Tokens of the prompt, by the server's count.
    pub prompt_tokens: Option<u64>,
    /// Tokens written, by the server's count.
    pub generated_tokens: Option<u64>,
    /// From sending it to the first token, in milliseconds.
    pub first_token_ms: Option<f64>,
    /// Tokens of the prompt per second, by the server's clock.
    pub prompt_tokens_per_s: Option<f64>,
    /// Tokens per second after the first, by the server's clock where it tells, else by ours.
    pub decode_tokens_per_s: Option<f64>,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// The name of a state in reports.
pub(super) fn state_name(state: ServerState) -> &'static str {
    match state {
        ServerState::Up => "up",
        ServerState::Loading => "loading",
        ServerState::Down => "down",
    }
}
