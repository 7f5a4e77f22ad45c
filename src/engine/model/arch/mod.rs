//! The architectures: one file each, which says how a model of that family differs from the
//! common decoder of [`super::layers`].

mod gemma3;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3moe;

use std::fmt;

use crate::engine::graph::GraphError;

use super::error::ModelError;
use super::hparams::{HParams, cut};
use super::keys::Keys;
use super::layers::{self, Layer, ModelGraph};
use super::weights::Binder;

/// A supported architecture, named by `general.architecture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the model families")]
pub enum Arch {
    Llama,
    Qwen2,
    Qwen3,
    Qwen3Moe,
    Gemma3,
    Phi3,
}

impl Arch {
    /// Every supported architecture.
    pub const ALL: [Arch; 6] =
        [Arch::Llama, Arch::Qwen2, Arch::Qwen3, Arch::Qwen3Moe, Arch::Gemma3, Arch::Phi3];

    /// The name in `general.architecture`, which is also the prefix of the metadata keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3moe",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
        }
    }

    /// The architecture of this name.
    ///
    /// # Errors
    /// When it is not supported; the message lists those that are.
    pub fn from_name(name: &str) -> Result<Self, ModelError> {
        let known = Self::ALL.into_iter().find(|arch| arch.name() == name);
        known.ok_or_else(|| ModelError::UnknownArch { found: cut(name) })
    }

    /// The names of all, for messages.
    pub(super) fn list() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// What is particular to this architecture.
    pub(super) fn family(self) -> &'static dyn Family {
        match self {
            Self::Llama => &llama::Llama,
            Self::Qwen2 => &qwen2::Qwen2,
            Self::Qwen3 => &qwen3::Qwen3,
            Self::Qwen3Moe => &qwen3moe::Qwen3Moe,
            Self::Gemma3 => &gemma3::Gemma3,
            Self::Phi3 => &phi3::Phi3,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a family of models differs from the common decoder.
pub(super) trait Family {
    /// Adjusts the hyperparameters that were read alike for all families; what a person should
    /// know about the file goes into `notes`.
    fn hparams(
        &self,
        keys: &Keys<'_>,
        h: &mut HParams,
        notes: &mut Vec<String>,
    ) -> Result<(), ModelError>;

    /// Binds the weights of layer `il`.
    fn layer(&self, b: &mut Binder<'_>, h: &HParams, il: usize) -> Result<Layer, ModelError>;

    /// Builds the graph; the common decoder unless the family overrides it.
    fn build(&self, g: &mut ModelGraph<'_>) -> Result<(), GraphError> {
        layers::decoder(g)
    }
}

/// For families whose experts nobody has computed yet: an error that says so.
fn no_experts(keys: &Keys<'_>, h: &HParams) -> Result<(), ModelError> {
    if h.n_expert == 0 {
        return Ok(());
    }
    let feature = format!("{} experts", h.n_expert);
    Err(ModelError::Unsupported { arch: keys.arch, feature })
}
