//! Finds or makes the model file that a command's model argument names.
//!
//! The argument is a path, a name in the local Ollama store, `synth:SHAPE:QUANT` for random weights
//! in the shape of a published model, or nothing for the small model that is built in. Nothing is
//! ever downloaded. The environment is read in one place, [`StoreOptions::from_env`]; what is not
//! in the options does not count. Invariant: what [`open`] returns is a file whose header was
//! checked; whether a model can be bound to it is for [`super::Model::load`] to say.

mod builtin;
mod close;
mod error;
mod ollama;
mod options;
mod shapes;
mod synth;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::gguf::Gguf;
use crate::engine::model::hparams::cut;
use crate::engine::tensor::FileType;

pub use builtin::{builtin, builtin_prompt};
pub use error::StoreError;
pub use ollama::{OllamaModel, ollama_models};
pub use options::StoreOptions;
pub use shapes::{RopeFreqs, Shape, shape, shapes};
pub use synth::{SynthSpec, synth_path, synthesize};

use ollama::OllamaName;

/// The prefix of models with random weights.
const SYNTH: &str = "synth:";

/// What a model argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRef {
    /// A file; of a split model, its first part.
    Path(PathBuf),
    /// A model of the local Ollama store, as the person wrote it.
    Ollama {
        /// `[[REGISTRY/]NAMESPACE/]MODEL[:TAG]`
        name: String,
    },
    /// Random weights in a published shape.
    Synth(SynthSpec),
    /// The model that is built in.
    BuiltIn,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Ollama { name } => f.write_str(name),
            Self::Synth(spec) => spec.fmt(f),
            Self::BuiltIn => f.write_str("built-in model"),
        }
    }
}

/// How far the making of a model has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreProgress<'a> {
    /// The model that is being made.
    pub what: &'a str,
    /// Bytes written.
    pub done_bytes: u64,
    /// Bytes that it will have.
    pub total_bytes: u64,
}

/// Reads a model argument. An existing file is that file, whatever its name looks like; else what
/// looks like a path is one; everything else must be a possible name of an Ollama model.
///
/// # Errors
/// When the argument is none of these. Whether the model exists is for [`open`] to say.
pub fn parse(arg: Option<&str>) -> Result<ModelRef, StoreError> {
    let Some(arg) = arg else { return Ok(ModelRef::BuiltIn) };
    let prefix = arg.get(..SYNTH.len()).filter(|p| p.eq_ignore_ascii_case(SYNTH));
    if prefix.is_some() {
        return SynthSpec::parse(&arg[SYNTH.len()..]).map(ModelRef::Synth);
    }
    let path = Path::new(arg);
    if looks_like_path(arg) || path.is_file() {
        return Ok(ModelRef::Path(path.to_owned()));
    }
    OllamaName::parse(arg)?;
    Ok(ModelRef::Ollama { name: arg.to_owned() })
}

/// True for what can only be meant as a path: `model.gguf`, `./model`, `/models/model`, `~/model`.
fn looks_like_path(arg: &str) -> bool {
    let extension = Path::new(arg).extension();
    extension.is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
        || arg.starts_with(['.', '/', '~'])
        || arg.contains('\\')
}

/// Opens the model; random weights are made first unless an earlier call has made them.
/// `progress` is told about the making, from 0 bytes to all.
///
/// # Errors
/// When there is no such model, when it is no GGUF file, and when it cannot be made.
pub fn open(
    reference: &ModelRef,
    options: &StoreOptions,
    progress: &mut dyn FnMut(StoreProgress<'_>),
) -> Result<Arc<Gguf>, StoreError> {
    let gguf = match reference {
        ModelRef::Path(path) => Gguf::open(path)?,
        ModelRef::Ollama { name } => Gguf::open(&ollama::find(name, &options.ollama_dirs)?)?,
        ModelRef::Synth(spec) => synth::open(spec, options, progress)?,
        ModelRef::BuiltIn => Gguf::from_static(builtin())?,
    };
    Ok(Arc::new(gguf))
}

/// The file type of this name.
fn file_type(name: &str) -> Result<FileType, StoreError> {
    FileType::from_name(name).ok_or_else(|| StoreError::UnknownFileType { name: cut(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synth(shape: &str, file_type: FileType) -> ModelRef {
        ModelRef::Synth(SynthSpec { shape: shape.to_owned(), file_type })
    }

    #[test]
    fn arguments_are_told_apart() {
        let parsed = |arg| parse(Some(arg)).unwrap();
        assert_eq!(parse(None).unwrap(), ModelRef::BuiltIn);
        assert_eq!(parsed("synth:phi4:q4_k_m"), synth("phi4", FileType::Q4_K_M));
        assert_eq!(parsed("Synth:phi4:F16"), synth("phi4", FileType::F16));
        for path in
            ["x.gguf", "X.GGUF", "a/b.gguf", "./x", "../x", "/x", "~/x", "C:\\x", "Cargo.toml"]
        {
            assert_eq!(parsed(path), ModelRef::Path(path.into()), "{path}");
        }
        for name in ["llama3.2", "llama3.2:3b", "user/x", "hf.co/user/repo:Q4_K_M", "src"] {
            assert_eq!(parsed(name), ModelRef::Ollama { name: name.to_owned() }, "{name}");
        }
    }

    #[test]
    fn arguments_that_name_nothing_are_explained() {
        let error = |arg| parse(Some(arg)).unwrap_err();
        assert!(matches!(error("synth:phi4"), StoreError::Argument { .. }));
        assert!(matches!(error("synth:phi4:Q9"), StoreError::UnknownFileType { .. }));
        assert!(error("synth:phi4:Q9").to_string().contains("Q4_K_M"));
        for arg in ["", "a b", "x:", "a//b", "a/b/c/d", "a/../b", ":x", "é", "synth:"] {
            let error = error(arg);
            assert!(matches!(error, StoreError::Argument { .. }), "{arg}: {error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn references_print_as_they_are_written() {
        for arg in ["x.gguf", "llama3.2:3b", "synth:phi4:Q4_K_M"] {
            assert_eq!(parse(Some(arg)).unwrap().to_string(), arg);
        }
    }
}
