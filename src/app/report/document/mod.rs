//! The document `gpuwhy.report/1`. Its JSON Schema is `docs/schemas/report-1.json`, made from these
//! types; times are nanoseconds and sizes bytes unless a name says otherwise.

mod splits;
mod timings;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::base::event::{Finish, Phase};
pub use crate::base::setup::*;
pub use splits::*;
pub use timings::*;

/// The `schema` of a report.
pub const REPORT_SCHEMA: &str = "gpuwhy.report/1";

/// What was observed, what follows from it, and the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
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
    /// What makes the figures worse, or doubtful: too many threads, other load.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the model, the devices and the settings were.
    pub facts: SetupFact,
    /// Each split of each way the graph was cut, decode first.
    pub splits: Vec<SplitReport>,
    /// What the host reads from other devices after the last split: logits, or the tokens that were
    /// chosen from them on the device.
    #[serde(default)]
    pub reads: Vec<ReadReport>,
    /// For each device that computed in a phase, the time in which it did not, and why.
    #[serde(default)]
    pub stalls: Vec<StallReport>,
    /// How long everything took.
    pub timings: Timings,
    /// The generated texts.
    pub output: Vec<Output>,
}

/// Where an observation came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// How it was made.
    pub kind: SourceKind,
    /// `ollama`, `llama.cpp`, `vllm` or `gpuwhy`.
    pub engine: String,
    /// The engine's version.
    pub engine_version: String,
    /// Which form of log was read; absent for a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
}

/// How an observation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// From a log file.
    Log,
    /// By running a model here.
    Run,
    /// By watching a running engine.
    Attach,
    /// By looking at the machine.
    Doctor,
    /// From a recorded session.
    Replay,
}

/// Whether something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// At least one finding is a problem.
    Problem,
    /// It was checked, and nothing is wrong.
    Benign,
    /// Nobody checked, or the evidence does not tell.
    Unknown,
}

/// What a rule concludes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The rule's id, like `context-kv-too-large`.
    pub rule: String,
    /// Whether it is a problem or only looks like one.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// From 0 to 1.
    pub confidence: f64,
    /// One line.
    pub title: String,
    /// What happens and why.
    pub explanation: String,
    /// What it is concluded from.
    pub evidence: Vec<Evidence>,
    /// What would change it.
    pub fixes: Vec<Fix>,
    /// The finding that this one follows from, by its rule; absent for a cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows_from: Option<String>,
}

/// Whether a finding is a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    /// It is.
    Problem,
    /// It only looks like one.
    Benign,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work.
    Error,
    /// It works badly.
    Warning,
    /// Good to know.
    Info,
}

/// What a finding is concluded from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// `log`, `sample`, `span`, `setup`, `server` or `machine`.
    pub source: String,
    /// The line of the log, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The line, or the measurement in words.
    pub text: String,
}

/// A concrete change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fix {
    /// `env`, `flag`, `option`, `modelfile` or `system`.
    pub target: String,
    /// What to set.
    pub name: String,
    /// To what.
    pub value: String,
    /// Why that helps.
    pub reason: String,
    /// What should change.
    pub expected: String,
    /// The same change as it is written in the places where people make it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forms: Vec<FixForm>,
}

/// A change as it is written in one place: a systemd override, a line for PowerShell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FixForm {
    /// Where: `systemd`, `docker compose`.
    pub label: String,
    /// What to type or paste there.
    pub text: String,
}

/// A question that a rule could not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenQuestion {
    /// The rule.
    pub rule: String,
    /// What is not known.
    pub missing: String,
    /// The command or setting that would tell.
    pub settle_by: String,
}

/// One generated text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The request's number, from 0.
    pub id: u64,
    /// The text.
    pub text: String,
    /// Tokens of the prompt.
    pub tokens_prompt: u64,
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Why it ended.
    pub finish: Finish,
    /// From the request's first ubatch to its first token.
    pub first_token_ns: u64,
    /// From the request's first ubatch to its end.
    pub total_ns: u64,
}
