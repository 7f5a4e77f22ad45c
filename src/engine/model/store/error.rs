//! Why the model that a person named cannot be had, in words for that person.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::gguf::GgufError;
use crate::engine::model::ModelError;
use crate::engine::tensor::{ConvertError, FileType};

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The argument is neither a path nor a name.
    #[error("{arg:?} names no model: {problem}")]
    Argument {
        /// The argument, cut to a readable length.
        arg: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such file type.
    #[error("there is no quantisation {name:?}; there are {}", file_types())]
    UnknownFileType {
        /// What was asked for.
        name: String,
    },
    /// There is no such shape.
    #[error("there is no shape {name:?}")]
    UnknownShape {
        /// What was asked for.
        name: String,
        /// Names that look like it, the most similar first; all names when none does.
        close: Vec<String>,
    },
    /// A shape's file cannot be read or makes no sense.
    #[error("shape {origin}: {problem}")]
    Shape {
        /// The file, or the name of a shape that is built in.
        origin: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A shape whose numbers do not describe a model.
    #[error("shape {name:?}: {source}")]
    Unbindable {
        /// The shape.
        name: String,
        /// What the model loader says.
        #[source]
        source: ModelError,
    },
    /// The model would not fit on the disk.
    #[error(
        "{} needs {}, but only {} are free there",
        path.display(), gib(*needed), gib(*free)
    )]
    NoSpace {
        /// The file to be written.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
        /// Free bytes on its file system.
        free: u64,
    },
    /// No folder is known in which models could be kept.
    #[error("there is no folder for models: neither a cache folder nor a home folder is known")]
    NoCacheDir,
    /// No such model in the Ollama stores.
    #[error("there is no file {name:?} and no model {full:?} in {}", list_paths(searched))]
    NoOllamaModel {
        /// The name as given.
        name: String,
        /// The name with registry, namespace and tag.
        full: String,
        /// The stores that were searched; those that do not exist too.
        searched: Vec<PathBuf>,
        /// Names that look like it, the most similar first.
        close: Vec<String>,
    },
    /// A manifest of an Ollama store that cannot be used.
    #[error("manifest {}: {problem}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// The command that may help.
        pull: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The file is no model, or could not be written.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Random numbers could not be quantised.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

impl StoreError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// What the person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Argument { .. } => {
                "name a .gguf file, a model of the local Ollama store such as \
                 llama3.2:3b, or random weights such as synth:llama3.2-1b:Q4_K_M"
                    .to_owned()
            }
            Self::UnknownFileType { .. } => "Q4_K_M is what most published models have".to_owned(),
            Self::UnknownShape { close, .. } => {
                format!("there are {}; a TOML file in profiles/models adds one", close.join(", "))
            }
            Self::Shape { .. } | Self::Unbindable { .. } => {
                "profiles/models/README.md describes the fields of a shape".to_owned()
            }
            Self::NoSpace { .. } => {
                "delete old files there, choose a smaller quantisation, or set GPUWHY_CACHE to a \
                 folder on another disk"
                    .to_owned()
            }
            Self::NoCacheDir => "set GPUWHY_CACHE to a folder for models".to_owned(),
            Self::NoOllamaModel { close, .. } if close.is_empty() => {
                "`ollama list` shows what is there; set OLLAMA_MODELS when the store is elsewhere"
                    .to_owned()
            }
            Self::NoOllamaModel { close, .. } => format!("similar names: {}", close.join(", ")),
            Self::Manifest { pull, .. } => format!("fetch the model again: `{pull}`"),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as a user who may read it; a store of the Ollama service belongs to the user \
                 and group `ollama`"
                    .to_owned()
            }
            Self::Io { .. } | Self::Convert(_) => return None,
            Self::Gguf(error) => return error.hint().map(str::to_owned),
        })
    }
}

fn file_types() -> String {
    FileType::ALL.map(FileType::name).join(", ")
}

fn list_paths(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "any Ollama store, because no home folder is known".to_owned();
    }
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

/// Bytes in GiB, or in MiB when there are few.
fn gib(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}
