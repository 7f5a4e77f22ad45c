//! What a workload runs on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::sample::Sample;
use super::workload::Test;

/// Facts of a target that do not vary from run to run, by a path such as `decode.splits` or
/// `memory.CUDA0.kv_bytes`. Two structures are equal or they are not: no statistics.
pub type Structure = BTreeMap<String, serde_json::Value>;

/// What a target is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TargetFacts {
    /// `gpuwhy`, `ollama`, `llama.cpp`, `vllm`, or what an unknown one calls itself.
    pub engine: String,
    /// Its version; empty where it does not tell.
    pub engine_version: String,
    /// The model, as the engine names it.
    pub model: String,
    /// Settings that decide about speed, by name: `-ngl`, `num_ctx`, `flash_attn`.
    pub settings: BTreeMap<String, String>,
    /// What it runs on, by name: `cpu`, `gpu`, `memory`, `driver`. Timings from machines that differ in
    /// it are not compared.
    pub machine: BTreeMap<String, String>,
}

/// Why a target could not be measured.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct MeasureError {
    /// What went wrong, with the name of the target.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether asking once more may help: a server that is busy or starts again.
    pub transient: bool,
}

impl MeasureError {
    /// An error that asking again does not help.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, transient: false }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Asking again may help.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
}

/// Anything that makes tokens and can be measured.
pub trait Target {
    /// How it is told apart in messages: `baseline`, `http://localhost:8080`.
    fn name(&self) -> &str;

    /// What it is. Asks the target; costs no tokens.
    fn facts(&mut self) -> Result<TargetFacts, MeasureError>;

    /// Its structure for the given test; empty where it does not tell. A target may have to run the
    /// test once for this.
    fn structure(&mut self, test: &Test) -> Result<Structure, MeasureError>;

    /// Runs the test once.
    fn sample(&mut self, test: &Test) -> Result<Sample, MeasureError>;

    /// Runs the test once in the engine's most detailed mode, which may slow it down, for
    /// [`Sample::parts`] alone. By default an ordinary sample.
    fn detail(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        self.sample(test)
    }
}
