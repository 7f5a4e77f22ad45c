//! `gpuwhy model list`: the models that can be run by name. Looks only at this machine.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::cli::failure::Failure;
use crate::app::cli::flags::Format;
use crate::app::cli::output;
use crate::app::cli::source;
use crate::app::report::{Style, Table, count, model_facts};
use crate::base::units::Bytes;
use crate::engine::model::Model;
use crate::engine::model::store::{self, StoreOptions};

/// The mix that the list suggests for shapes: the one that most published files have.
const SUGGESTED: &str = "Q4_K_M";

/// Arguments of `gpuwhy model list`.
#[derive(Debug, Args)]
pub(in crate::app::cli) struct ListArgs {
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The document `gpuwhy.models/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct ModelList {
    /// Always `gpuwhy.models/1`.
    pub(in crate::app::cli) schema: String,
    /// What runs without a model argument.
    pub(in crate::app::cli) built_in: BuiltIn,
    /// Models of the local Ollama store.
    pub(in crate::app::cli) ollama: Vec<LocalModel>,
    /// Shapes for random weights.
    pub(in crate::app::cli) shapes: Vec<ShapeEntry>,
    /// Where models with random weights are kept.
    pub(in crate::app::cli) cache: Option<PathBuf>,
}

/// The model that is built into the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct BuiltIn {
    /// Its name.
    pub(in crate::app::cli) name: String,
    /// Architecture.
    pub(in crate::app::cli) architecture: String,
    /// Weights as numbers.
    pub(in crate::app::cli) parameters: u64,
    /// Mix of types.
    pub(in crate::app::cli) file_type: String,
}

/// A model of the local Ollama store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct LocalModel {
    /// The model argument that runs it.
    pub(in crate::app::cli) argument: String,
    /// Bytes of the file with the weights.
    pub(in crate::app::cli) bytes: u64,
    /// That file.
    pub(in crate::app::cli) path: PathBuf,
}

/// A shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct ShapeEntry {
    /// A model argument that runs it; other mixes of types work too.
    pub(in crate::app::cli) argument: String,
    /// The name of the published model.
    pub(in crate::app::cli) title: String,
    /// Architecture.
    pub(in crate::app::cli) architecture: String,
    /// Weights of the published model.
    pub(in crate::app::cli) parameters: u64,
    /// Layers.
    pub(in crate::app::cli) layers: usize,
    /// Experts per layer; 0 for a dense model.
    pub(in crate::app::cli) experts: usize,
}

/// Runs the command.
pub(super) fn run(args: &ListArgs) -> Result<(), Failure> {
    let list = collect()?;
    match args.format {
        Format::Json => output::json(&list),
        Format::Text => {
            let style = output::style(&std::io::stdout());
            output::stdout(print(&list, style, |t| t.text("  ", style)).as_bytes())
        }
        Format::Markdown => {
            let text = print(&list, Style::Plain, |t| format!("\n{}", t.markdown()));
            output::stdout(text.as_bytes())
        }
    }
}

fn collect() -> Result<ModelList, Failure> {
    let options = StoreOptions::from_env();
    let gguf = source::open(None, true)?;
    let model = Model::load(gguf).map_err(Failure::new)?;
    let facts = model_facts(model.gguf(), &model);
    let mut shapes = store::shapes(&options)?;
    shapes.sort_by_key(|s| s.parameter_count);
    let shape = |s: &store::Shape| ShapeEntry {
        argument: format!("synth:{}:{SUGGESTED}", s.name),
        title: s.title.clone(),
        architecture: s.arch.to_string(),
        parameters: s.parameter_count,
        layers: s.hparams().n_layer,
        experts: s.hparams().n_expert,
    };
    let local =
        |m: store::OllamaModel| LocalModel { argument: m.name, bytes: m.size_bytes, path: m.path };
    Ok(ModelList {
        schema: "gpuwhy.models/1".to_string(),
        built_in: BuiltIn {
            name: facts.name,
            architecture: facts.architecture,
            parameters: facts.parameters,
            file_type: facts.file_type,
        },
        ollama: store::ollama_models(&options.ollama_dirs)?.into_iter().map(local).collect(),
        shapes: shapes.iter().map(shape).collect(),
        cache: options.cache_dir,
    })
}

/// The document for people; `table` prints a table.
fn print(list: &ModelList, style: Style, table: impl Fn(&Table) -> String) -> String {
    let b = &list.built_in;
    let mut out = format!(
        "{}\n  {}: {}, {} parameters, {}; runs when no model is given\n",
        style.bold("Built in"),
        b.name,
        b.architecture,
        count(b.parameters),
        b.file_type
    );
    let _ = writeln!(out, "\n{}", style.bold("Local Ollama models"));
    let mut local = Table::new(&["model", ">size"]);
    for m in &list.ollama {
        local.row([m.argument.clone(), Bytes(m.bytes).to_string()]);
    }
    out.push_str(&if local.is_empty() { "  none\n".to_string() } else { table(&local) });
    let mut shapes = Table::new(&["model", ">parameters", "architecture", ">layers", "shape of"]);
    for s in &list.shapes {
        let experts =
            if s.experts > 0 { format!(" ({} experts)", s.experts) } else { String::new() };
        shapes.row([
            s.argument.clone(),
            count(s.parameters),
            s.architecture.clone(),
            s.layers.to_string(),
            format!("{}{experts}", s.title),
        ]);
    }
    let title = "Random weights in published shapes; other types than Q4_K_M work too";
    let _ = write!(out, "\n{}\n{}", style.bold(title), table(&shapes));
    out
}
