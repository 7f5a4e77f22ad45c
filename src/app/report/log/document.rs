//! The report of a log: `gpuwhy.report/1` with the facts that a log can tell.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::report::attach::AttachReport;
use crate::app::report::doctor::DoctorReport;
use crate::app::report::document::{Finding, OpenQuestion, Report, Source, Verdict};

/// Every document with the schema `gpuwhy.report/1`; `source.kind` tells which one it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AnyReport {
    /// Of a run.
    Run(Box<Report>),
    /// Of a log.
    Log(Box<LogReport>),
    /// Of a server that was watched.
    Attach(Box<AttachReport>),
    /// Of a look at the machine.
    Doctor(Box<DoctorReport>),
}

/// What a log told, and what follows from it. Sizes are bytes, speeds tokens per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogReport {
    /// Always `gpuwhy.report/1`.
    pub schema: String,
    /// Where the observation came from.
    pub source: Source,
    /// Whether something is wrong.
    pub verdict: Verdict,
    /// Causes first, the one that explains most at the head; then what follows from them; then what
    /// looks wrong but is not.
    pub findings: Vec<Finding>,
    /// Questions that the log leaves open.
    pub open: Vec<OpenQuestion>,
    /// Rules that were asked and found nothing.
    pub clear: Vec<String>,
    /// What the machine, the settings and the loads were.
    pub facts: LogFacts,
    /// How the graphs of the loads were cut, one entry per load and phase that the log tells of.
    pub splits: Vec<LogSplits>,
    /// How long requests took.
    pub timings: LogTimings,
}

/// What the machine, the settings and the loads were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogFacts {
    /// `linux`, `windows` or `macos`, as far as the log tells.
    pub os: Option<String>,
    /// GPUs, in the order of the log.
    pub devices: Vec<LogDevice>,
    /// Backend libraries that runners loaded, with their files.
    pub backends: BTreeMap<String, String>,
    /// Settings that were set, by name.
    pub settings: BTreeMap<String, String>,
    /// Loads, the first and the last ones of a long log.
    pub loads: Vec<LogLoad>,
    /// Loads that were counted but are not listed.
    pub loads_left_out: u64,
    /// How much of the log was understood.
    pub lines: LogLines,
}

/// A GPU as the log tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogDevice {
    /// As ggml names it, `CUDA0`.
    pub name: Option<String>,
    /// The product.
    pub description: Option<String>,
    /// `CUDA`, `ROCm`, `Metal`, `Vulkan`, `SYCL`.
    pub library: Option<String>,
    /// Compute capability, or the gfx name.
    pub compute: Option<String>,
    /// Version of the driver.
    pub driver: Option<String>,
    /// All of its memory.
    pub total_bytes: Option<u64>,
    /// What was free.
    pub free_bytes: Option<u64>,
}

/// One load of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLoad {
    /// Its first line.
    pub line: u64,
    /// Name or file of the model.
    pub model: Option<String>,
    /// Architecture.
    pub arch: Option<String>,
    /// Layers on GPUs, the output counted as one.
    pub layers_offloaded: Option<u64>,
    /// All layers, the output counted as one.
    pub layers_total: Option<u64>,
    /// Context over all sequences, in tokens.
    pub n_ctx: Option<u64>,
    /// Sequences that can run at once.
    pub parallel: Option<u64>,
    /// Type of the keys.
    pub kv_type_k: Option<String>,
    /// Type of the values.
    pub kv_type_v: Option<String>,
    /// `on`, `off` or `auto`.
    pub flash_attention: Option<String>,
    /// Buffers in the order of the log.
    pub buffers: Vec<LogBuffer>,
    /// `ready`, `failed`, `unloaded`, or `unknown` when the log does not tell.
    pub outcome: String,
}

/// One buffer of a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogBuffer {
    /// `model`, `kv`, `compute`, `output`, `recurrent` or `adapter`.
    pub kind: String,
    /// The device or buffer type, as ggml names it.
    pub device: String,
    /// Its size.
    pub bytes: u64,
    /// The line that told it.
    pub line: u64,
}

/// How a graph was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogSplits {
    /// Index of the load in `facts.loads`.
    pub load: u64,
    /// `prompt` or `decode`.
    pub phase: String,
    /// Splits.
    pub splits: u64,
    /// Nodes of the graph.
    pub nodes: Option<u64>,
    /// Tokens of the batch, where told.
    pub batch: Option<u64>,
}

/// Smallest, mean and largest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogSpread {
    /// How many values.
    pub count: u64,
    /// The smallest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

/// How long requests took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogTimings {
    /// Requests that computed something.
    pub requests: u64,
    /// Those that failed in the server.
    pub failed: u64,
    /// Those whose prompt was cut.
    pub truncated: u64,
    /// Context shifts.
    pub shifts: u64,
    /// Seconds from arrival to the last byte.
    pub duration_s: Option<LogSpread>,
    /// Prompt tokens per second.
    pub prompt_tokens_per_s: Option<LogSpread>,
    /// Generated tokens per second.
    pub decode_tokens_per_s: Option<LogSpread>,
}

/// How much of the log was understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLines {
    /// All lines.
    pub all: u64,
    /// Lines that a pattern knows.
    pub known: u64,
    /// Lines that no pattern knows.
    pub unknown: u64,
}
