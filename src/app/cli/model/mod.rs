//! `gpuwhy model`: looks at, makes and lists models.

mod info;
mod list;
mod synth;

use clap::Subcommand;

use super::failure::Failure;

#[cfg(test)]
pub(in crate::app::cli) use {info::ModelInfo, list::ModelList};

/// The commands about models.
#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// What is in a model file, and what it would need in memory
    Info(info::InfoArgs),
    /// Make a model with random weights in the shape of a published one
    Synth(synth::SynthArgs),
    /// The models that can be run by name
    List(list::ListArgs),
}

/// Runs one of them.
pub(super) fn run(command: &ModelCommand) -> Result<(), Failure> {
    match command {
        ModelCommand::Info(args) => info::run(args),
        ModelCommand::Synth(args) => synth::run(args),
        ModelCommand::List(args) => list::run(args),
    }
}
