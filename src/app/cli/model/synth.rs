//! `gpuwhy model synth`: a model with random weights, in the cache or in a file of its own.

use std::path::PathBuf;

use clap::Args;

use crate::app::cli::failure::Failure;
use crate::app::cli::output;
use crate::app::cli::progress::BytesBar;
use crate::engine::model::store::{self, ModelRef, StoreOptions};

/// Arguments of `gpuwhy model synth`.
#[derive(Debug, Args)]
pub(in crate::app::cli) struct SynthArgs {
    /// Shape and mix of types, like qwen2.5-0.5b:Q4_K_M; `gpuwhy model list` has the shapes
    #[arg(value_name = "SHAPE:QUANT")]
    spec: String,

    /// The file to write; without it the model goes to the cache, where synth:SHAPE:QUANT finds it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

/// Makes the model and prints where it is.
pub(super) fn run(args: &SynthArgs) -> Result<(), Failure> {
    let prefixed = format!("synth:{}", args.spec.trim_start_matches("synth:"));
    let reference = store::parse(Some(&prefixed))?;
    let ModelRef::Synth(spec) = &reference else {
        return Err(Failure::new(format!("'{}' is no SHAPE:QUANT", args.spec)));
    };
    let options = StoreOptions::from_env();
    let mut bar = BytesBar::new("making random weights", args.quiet);
    let mut progress = |p: store::StoreProgress<'_>| bar.update(p.done_bytes, p.total_bytes);
    let path = if let Some(path) = &args.output {
        let shape = store::shape(&spec.shape, &options)?;
        store::synthesize(&shape, spec.file_type, path, &mut progress)?;
        path.clone()
    } else {
        store::open(&reference, &options, &mut progress)?;
        store::synth_path(spec, &options)?
    };
    output::stdout(format!("{}\n", path.display()).as_bytes())
}
