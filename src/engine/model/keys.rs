//! Metadata keys under an architecture's prefix.
//!
//! Knows how to read numbers, and nothing of what they mean.

use crate::engine::gguf::{Array, Metadata, Value};

use super::Arch;
use super::error::ModelError;
use super::hparams::PerLayer;

/// Reads `{architecture}.{suffix}`.
pub(super) struct Keys<'a> {
    metadata: &'a Metadata,
    pub(super) arch: Arch,
}

impl<'a> Keys<'a> {
    pub(super) fn new(metadata: &'a Metadata, arch: Arch) -> Self {
        Self { metadata, arch }
    }

    fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.arch.name())
    }

    /// An error about the value under `suffix`.
    pub(super) fn invalid(&self, suffix: &str, problem: String) -> ModelError {
        ModelError::Invalid { key: self.key(suffix), problem }
    }

    pub(super) fn usize(&self, suffix: &str) -> Result<usize, ModelError> {
        Ok(self.metadata.u32(&self.key(suffix))? as usize)
    }

    pub(super) fn opt_usize(&self, suffix: &str) -> Result<Option<usize>, ModelError> {
        Ok(self.metadata.opt_u32(&self.key(suffix))?.map(|n| n as usize))
    }

    pub(super) fn f32(&self, suffix: &str) -> Result<f32, ModelError> {
        Ok(self.metadata.f32(&self.key(suffix))?)
    }

    pub(super) fn opt_f32(&self, suffix: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.metadata.opt_f32(&self.key(suffix))?)
    }

    pub(super) fn opt_str(&self, suffix: &str) -> Result<Option<&'a str>, ModelError> {
        Ok(self.metadata.opt_str(&self.key(suffix))?)
    }

    /// A number for all layers, or an array with one number for each of `n_layer` layers.
    pub(super) fn opt_per_layer(
        &self,
        suffix: &str,
        n_layer: usize,
    ) -> Result<Option<PerLayer>, ModelError> {
        let key = self.key(suffix);
        if !matches!(self.metadata.get(&key), Some(Value::Array(_))) {
            return Ok(self.opt_usize(suffix)?.map(PerLayer::uniform));
        }
        let values = self.metadata.u32s(&key)?;
        if values.len() != n_layer {
            let problem = format!("{} values for {n_layer} layers", values.len());
            return Err(self.invalid(suffix, problem));
        }
        Ok(Some(PerLayer::each(values.iter().map(|&n| n as usize).collect())))
    }

    /// As [`Keys::opt_per_layer`]; the key must be there.
    pub(super) fn per_layer(&self, suffix: &str, n_layer: usize) -> Result<PerLayer, ModelError> {
        match self.opt_per_layer(suffix, n_layer)? {
            Some(per_layer) => Ok(per_layer),
            // The getter knows how to word a missing key.
            None => self.usize(suffix).map(PerLayer::uniform),
        }
    }

    /// A truth value for each of `n_layer` layers, when the key holds an array.
    pub(super) fn opt_flags(
        &self,
        suffix: &str,
        n_layer: usize,
    ) -> Result<Option<Vec<bool>>, ModelError> {
        match self.metadata.get(&self.key(suffix)) {
            Some(Value::Array(Array::Bool(flags))) if flags.len() == n_layer => {
                Ok(Some(flags.clone()))
            }
            Some(Value::Array(Array::Bool(flags))) => {
                let problem = format!("{} values for {n_layer} layers", flags.len());
                Err(self.invalid(suffix, problem))
            }
            _ => Ok(None),
        }
    }

    /// Entries of the vocabulary, when the file has one.
    pub(super) fn n_tokens(&self) -> Result<Option<usize>, ModelError> {
        Ok(self.metadata.opt_strings("tokenizer.ggml.tokens")?.map(<[String]>::len))
    }
}
