//! Shapes of published models: the numbers of a model without its weights.
//!
//! The files under `profiles/models` are built in, and a user's own files are read from the folders
//! of [`StoreOptions`]; `profiles/models/README.md` describes the fields. A shape that is returned
//! from here can be bound: its architecture is known and its numbers fit each other.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::StoreOptions;
use super::close::close_names;
use super::error::StoreError;
use crate::engine::gguf::{Array, Metadata, Value};
use crate::engine::model::hparams::{HParams, cut};
use crate::engine::model::keys::Keys;
use crate::engine::model::{Arch, ModelError};

/// The shapes that are built in: name and content of each file.
macro_rules! embedded {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../../profiles/models/", $name, ".toml")))),*]
    };
}

const EMBEDDED: &[(&str, &str)] = embedded! {
    "gemma3-12b" "gemma3-1b" "gemma3-27b" "gemma3-4b"
    "llama2-13b" "llama2-7b" "llama3.1-8b" "llama3.2-1b" "llama3.2-3b" "llama3.3-70b"
    "mistral-7b" "phi3-mini" "phi4"
    "qwen2.5-0.5b" "qwen2.5-14b" "qwen2.5-32b" "qwen2.5-3b" "qwen2.5-72b" "qwen2.5-7b"
    "qwen3-0.6b" "qwen3-30b-a3b" "qwen3-4b" "qwen3-8b"
    "smollm2-135m" "stories15m" "tinyllama-1.1b"
};

/// The shape of a model: everything but its weights and its vocabulary.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The name to ask for: that of the file, without `.toml`.
    pub name: String,
    /// The published name of the model.
    pub title: String,
    /// Weights of the published model, a tied embedding counted once; 0 when the file does not say.
    pub parameter_count: u64,
    /// The architecture.
    pub arch: Arch,
    /// There is no `output.weight`; the embedding serves twice.
    pub tied_embeddings: bool,
    /// Query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Heads of queries and keys are normed.
    pub qk_norm: bool,
    /// The table of frequency divisors, for shapes that have one.
    pub rope_freqs: Option<RopeFreqs>,
    /// The keys of the architecture, with its prefix.
    pub(super) metadata: Metadata,
    pub(super) hparams: HParams,
}

/// Llama 3's stretched rotation: parameters of the tensor `rope_freqs.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeFreqs {
    /// Divisor of low frequencies.
    pub factor: f64,
    /// Wavelengths above `original_context_length / low_freq_factor` are stretched in full.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context_length / high_freq_factor` are not stretched.
    pub high_freq_factor: f64,
    /// Context before stretching, in tokens.
    pub original_context_length: f64,
}

#[derive(Deserialize)]
struct File {
    general: General,
    #[serde(default)]
    weights: Weights,
    #[serde(flatten)]
    rest: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct General {
    architecture: String,
    name: Option<String>,
    #[serde(default)]
    parameter_count: u64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Weights {
    tied_embeddings: bool,
    qkv_bias: bool,
    qk_norm: bool,
    rope_freqs: Option<RopeFreqs>,
}

impl Shape {
    /// Reads a shape file. `origin` stands for it in errors.
    fn parse(name: &str, text: &str, origin: &str) -> Result<Self, StoreError> {
        let fault = |problem: String| StoreError::Shape { origin: origin.to_owned(), problem };
        let file: File = toml::from_str(text).map_err(|e| fault(e.to_string()))?;
        let wrong = |error: ModelError| fault(error.to_string());
        let arch = Arch::from_name(&file.general.architecture).map_err(wrong)?;
        let mut metadata = Metadata::new();
        for (key, value) in &file.rest {
            if key != arch.name() {
                return Err(fault(format!("unknown table [{key}]; there is [{arch}]")));
            }
            flatten(&mut metadata, key, value).map_err(fault)?;
        }
        let keys = Keys::new(&metadata, arch);
        let mut hparams = HParams::read(&keys, 0).map_err(wrong)?;
        arch.family().hparams(&keys, &mut hparams, &mut Vec::new()).map_err(wrong)?;
        hparams.check(&keys).map_err(wrong)?;
        let Weights { tied_embeddings, qkv_bias, qk_norm, rope_freqs } = file.weights;
        Ok(Self {
            name: name.to_owned(),
            title: file.general.name.unwrap_or_else(|| name.to_owned()),
            parameter_count: file.general.parameter_count,
            arch,
            tied_embeddings,
            qkv_bias,
            qk_norm,
            rope_freqs,
            metadata,
            hparams,
        })
    }

    /// The hyperparameters.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }

    /// The keys that the architecture adds to a file's metadata, with its prefix.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Sets `key`, or for a table the keys below it, in GGUF's types: whole numbers as `u32`, the type
/// in which converters write every count.
fn flatten(metadata: &mut Metadata, key: &str, value: &toml::Value) -> Result<(), String> {
    let value = match value {
        toml::Value::Table(table) => {
            return table.iter().try_for_each(|(k, v)| flatten(metadata, &format!("{key}.{k}"), v));
        }
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(n) => Value::U32(whole(key, *n)?),
        toml::Value::Float(x) => Value::F32(*x as f32),
        toml::Value::Boolean(flag) => Value::Bool(*flag),
        toml::Value::Array(items) => Value::Array(array(key, items)?),
        toml::Value::Datetime(_) => return Err(format!("{key} is a date")),
    };
    metadata.set(key, value);
    Ok(())
}

fn array(key: &str, items: &[toml::Value]) -> Result<Array, String> {
    let flags: Option<Vec<bool>> = items.iter().map(toml::Value::as_bool).collect();
    let floats: Option<Vec<f64>> = items.iter().map(toml::Value::as_float).collect();
    let numbers: Option<Vec<i64>> = items.iter().map(toml::Value::as_integer).collect();
    if let Some(numbers) = numbers {
        let numbers: Result<_, _> = numbers.into_iter().map(|n| whole(key, n)).collect();
        return Ok(Array::U32(numbers?));
    }
    let floats = floats.map(|xs| Array::F32(xs.into_iter().map(|x| x as f32).collect()));
    floats
        .or_else(|| flags.map(Array::Bool))
        .ok_or_else(|| format!("{key} is not a list of numbers or of truth values"))
}

fn whole(key: &str, n: i64) -> Result<u32, String> {
    u32::try_from(n).map_err(|_| format!("{key} is {n}; it must be from 0 to {}", u32::MAX))
}

/// Every shape, by name: those that are built in, and the user's own, which win.
///
/// # Errors
/// When a user's file cannot be read or describes no model.
pub fn shapes(options: &StoreOptions) -> Result<Vec<Shape>, StoreError> {
    let mut shapes = Vec::with_capacity(EMBEDDED.len());
    for (name, text) in EMBEDDED {
        shapes.push(Shape::parse(name, text, name)?);
    }
    for dir in &options.shape_dirs {
        for own in shapes_in(dir)? {
            shapes.retain(|shape| shape.name != own.name);
            shapes.push(own);
        }
    }
    shapes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(shapes)
}

/// The shape of this name; case does not matter.
///
/// # Errors
/// When there is none; the error has the names that look like it.
pub fn shape(name: &str, options: &StoreOptions) -> Result<Shape, StoreError> {
    let mut shapes = shapes(options)?;
    if let Some(at) = shapes.iter().position(|shape| shape.name.eq_ignore_ascii_case(name)) {
        return Ok(shapes.swap_remove(at));
    }
    let mut close = close_names(name, shapes.iter().map(|shape| shape.name.as_str()));
    if close.is_empty() {
        close = shapes.into_iter().map(|shape| shape.name).collect();
    }
    Err(StoreError::UnknownShape { name: cut(name), close })
}

/// The shapes of a user's folder; none when there is no such folder.
fn shapes_in(dir: &Path) -> Result<Vec<Shape>, StoreError> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io(dir, e)),
    };
    let mut shapes = Vec::new();
    for entry in listing {
        let path = entry.map_err(|e| StoreError::io(dir, e))?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let text = fs::read_to_string(&path).map_err(|e| StoreError::io(&path, e))?;
        shapes.push(Shape::parse(name, &text, &path.display().to_string())?);
    }
    Ok(shapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/models");
        let mut files: Vec<String> = entries(&dir);
        files.sort();
        let built_in: Vec<String> = EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files, built_in);
    }

    fn entries(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string());
        let names = names.map(Result::unwrap);
        names.filter_map(|name| name.strip_suffix(".toml").map(str::to_owned)).collect()
    }

    #[test]
    fn a_shape_has_the_numbers_of_its_file() {
        let shape = shape("LLAMA3.2-1B", &StoreOptions::default()).unwrap();
        assert_eq!((shape.name.as_str(), shape.arch), ("llama3.2-1b", Arch::Llama));
        assert_eq!(shape.metadata.u32("llama.attention.head_count_kv").unwrap(), 8);
        assert_eq!(shape.metadata.f32("llama.rope.freq_base").unwrap(), 500000.0);
        assert_eq!(shape.hparams.n_vocab, 128256);
        assert_eq!(shape.rope_freqs.unwrap().factor, 32.0);
        assert!(shape.tied_embeddings);
    }

    #[test]
    fn faults_in_a_file_are_named() {
        let (name, good) = EMBEDDED.iter().find(|(name, _)| *name == "stories15m").unwrap();
        assert!(Shape::parse(name, good, "x").is_ok());
        for (from, to, expected) in [
            ("[general]", "[general", "expected `]`"),
            ("architecture = \"llama\"", "architecture = \"gpt2\"", "\"gpt2\" is not supported"),
            ("block_count = 6", "", "llama.block_count"),
            ("block_count = 6", "block_count = -6", "llama.block_count is -6"),
            ("block_count = 6", "block_count = 0", "0 layers"),
            ("head_count_kv = 6", "head_count_kv = 4", "do not divide 6"),
            ("block_count = 6", "block_count = 1979-05-27", "llama.block_count is a date"),
            ("qkv_bias", "qvk_bias", "unknown field `qvk_bias`"),
            ("[llama]", "[lama]", "unknown table [lama]"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, *good);
            let error = Shape::parse(name, &bad, "my.toml").unwrap_err();
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains("my.toml"), "{text}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn unknown_shapes_name_those_that_look_like_it() {
        let error = |name| shape(name, &StoreOptions::default()).unwrap_err();
        let StoreError::UnknownShape { close, .. } = error("llama3.2") else { panic!() };
        assert_eq!(close[..2], ["llama3.2-1b", "llama3.2-3b"]);
        assert!(error("zzz").hint().unwrap().contains("tinyllama-1.1b"));
    }
}
