//! The model argument that every command takes.

use std::sync::Arc;

use clap::Args;

use crate::engine::gguf::Gguf;
use crate::engine::model::store::{self, StoreOptions};

use super::failure::Failure;
use super::progress::BytesBar;

/// Which model.
#[derive(Clone, Debug, Args)]
pub(super) struct ModelArgs {
    /// A .gguf file, a model of the local Ollama store (llama3.2:3b), or synth:SHAPE:QUANT (random
    /// weights of a published shape); the small built-in model if not given
    #[arg(value_name = "MODEL")]
    model: Option<String>,

    /// The same, as llama.cpp spells it
    #[arg(short = 'm', long = "model", value_name = "MODEL", conflicts_with = "model")]
    model_flag: Option<String>,
}

impl ModelArgs {
    /// What was typed.
    pub(super) fn name(&self) -> Option<&str> {
        self.model.as_deref().or(self.model_flag.as_deref())
    }

    /// Opens the model.
    pub(super) fn open(&self, quiet: bool) -> Result<Arc<Gguf>, Failure> {
        open(self.name(), quiet)
    }
}

/// Opens a model by its argument; one with random weights is made first.
pub(super) fn open(argument: Option<&str>, quiet: bool) -> Result<Arc<Gguf>, Failure> {
    let reference = store::parse(argument)?;
    let mut bar = BytesBar::new("making random weights", quiet);
    let options = StoreOptions::from_env();
    Ok(store::open(&reference, &options, &mut |p| bar.update(p.done_bytes, p.total_bytes))?)
}
