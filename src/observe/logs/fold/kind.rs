//! What a pattern can ask of the fold: the closed list behind `kind` in `profiles/engines/*.toml`.

use serde::Deserialize;

/// What the fold does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A known line without meaning.
    Ignore,
    /// A fact by itself, kept under its pattern's `notice` for the rules that ask.
    Notice,
    /// Ollama's estimate of what fits, `msg=offload`.
    Estimate,
    /// `offloaded N/M layers to GPU`.
    LayersOffloaded,
}
