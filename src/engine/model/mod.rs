//! Models: the weights of a GGUF file bound to an architecture, and the compute graphs over them.
//!
//! A [`Blueprint`] follows from a file's header alone, so that a plan can be made without the
//! data; a [`Model`] is a blueprint with its file. Neither reads weights or knows a device.
//! Invariant: once bound, a graph of any valid [`GraphShape`] can be built; everything in the file
//! that could prevent it is an error of [`Model::load`].

mod arch;
mod cache;
mod error;
mod hparams;
mod keys;
mod layers;
pub mod memory;
pub mod store;
mod weights;
pub mod work;

#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::sync::Arc;

use crate::engine::gguf::{Gguf, Metadata, TensorInfo};
use crate::engine::graph::{Graph, GraphBuilder, GraphError, WeightId};
use crate::engine::tensor::DType;

pub use arch::Arch;
pub use cache::{
    CELL_PAD, CacheShape, CacheTensor, cache_tensors, context_cells, k_cache_id, v_cache_id,
    window_cells,
};
pub use error::{ModelError, Shape};
pub use hparams::{HParams, MAX_LAYERS, PerLayer, Rope, RopeScaling, window_pattern};
pub use weights::{LayerClass, WeightInfo, WeightKind};

use layers::ModelGraph;

/// What the host is to get of the logits of each output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// All of them.
    #[default]
    Logits,
    /// The tokens with the `k` largest, and with `k` above 1 these logits too.
    Top(usize),
}

/// The extents of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GraphShape {
    /// Tokens of the ubatch; at least 1.
    pub n_tokens: usize,
    /// Tokens whose logits are wanted; at most `n_tokens`. With 0 the graph ends at the last
    /// layer's keys and values.
    pub n_outputs: usize,
    /// What is wanted of them.
    pub wanted: Wanted,
    /// Cells that queries may look at, from cell 0 on; from 1 to `cache.n_cells`.
    pub n_kv: usize,
    /// As `n_kv`, for layers with a sliding window.
    pub n_kv_window: usize,
    /// The cache.
    pub cache: CacheShape,
    /// Context length of a sequence, which chooses among tables of frequency divisors.
    pub rope_ctx: usize,
}

/// An architecture with its numbers and its table of weights.
#[derive(Clone, Debug)]
pub struct Blueprint {
    arch: Arch,
    hparams: HParams,
    table: Vec<WeightInfo>,
    weights: layers::Weights,
    notes: Vec<String>,
}

impl Blueprint {
    /// Binds a header: reads the hyperparameters and checks every tensor that the architecture
    /// needs.
    ///
    /// # Errors
    /// When the architecture is not supported, a metadata value is missing or makes no sense, or a
    /// tensor is missing or has a wrong shape or type.
    pub fn bind(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Self, ModelError> {
        let arch = Arch::from_name(metadata.str("general.architecture")?)?;
        let (keys, family) = (keys::Keys::new(metadata, arch), arch.family());
        let mut binder = weights::Binder::new(tensors);
        let n_vocab_embd = binder.ne("token_embd.weight").map_or(0, |ne| ne[1]);
        let mut hparams = HParams::read(&keys, n_vocab_embd)?;
        let mut notes = Vec::new();
        family.hparams(&keys, &mut hparams, &mut notes)?;
        hparams.check(&keys)?;
        let weights = layers::bind(&mut binder, &hparams, |b, il| family.layer(b, &hparams, il))?;
        let (table, unused) = binder.finish();
        notes.extend(unused.iter().map(|name| format!("tensor {name:?} is not used")));
        Ok(Self { arch, hparams, table, weights, notes })
    }

    /// The architecture.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The hyperparameters.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }

    /// The table of weights; a [`WeightId`] is an index into it.
    pub fn weights(&self) -> &[WeightInfo] {
        &self.table
    }

    /// The first entry of the tensor with this name, and its id.
    pub fn weight(&self, name: &str) -> Option<(WeightId, &WeightInfo)> {
        let at = self.table.iter().position(|w| w.name == name)?;
        Some((WeightId(at as u32), &self.table[at]))
    }

    /// What a person should know about the file: tensors that are not used, metadata that is
    /// ignored.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The tensors of the KV cache; a [`crate::engine::graph::CacheId`] is an index into them.
    pub fn cache_tensors(&self, shape: &CacheShape) -> Vec<CacheTensor> {
        cache_tensors(&self.hparams, shape)
    }

    /// Checks that heads can be stored in these types.
    ///
    /// # Errors
    /// When the size of a head is no multiple of a type's block length.
    pub fn check_cache_types(&self, type_k: DType, type_v: DType) -> Result<(), ModelError> {
        let h = &self.hparams;
        for (key, dtype, d) in [
            ("attention.key_length", type_k, h.head_dim_k),
            ("attention.value_length", type_v, h.head_dim_v),
        ] {
            if !d.is_multiple_of(dtype.block_len()) {
                let key = format!("{}.{key}", self.arch);
                let problem = format!(
                    "heads of {d} elements do not fill whole blocks of a {dtype} cache, which \
                     hold {}",
                    dtype.block_len()
                );
                return Err(ModelError::Invalid { key, problem });
            }
        }
        Ok(())
    }

    /// Builds the graph for one ubatch. Its only output is `result_output`, logits F32
    /// `(n_vocab, n_outputs)`; with [`Wanted::Top`] it is `result_top_k`, I32 `(k, n_outputs)`, largest
    /// first and the lower token first among equals, and with `k` above 1 also `result_top_logits`,
    /// F32 of the same shape. With `n_outputs` 0 there is none.
    ///
    /// # Errors
    /// When `shape` contradicts itself or the model.
    pub fn build(&self, shape: &GraphShape) -> Result<Graph, GraphError> {
        check_shape(&self.hparams, shape)?;
        let mut graph = ModelGraph {
            b: GraphBuilder::new(),
            h: &self.hparams,
            weights: &self.weights,
            table: &self.table,
            shape,
        };
        self.arch.family().build(&mut graph)?;
        Ok(graph.b.finish())
    }
}

fn check_shape(h: &HParams, shape: &GraphShape) -> Result<(), GraphError> {
    let fault =
        |problem: String| Err(GraphError { name: "ubatch".to_owned(), op: "GRAPH", problem });
    let (t, cache) = (shape.n_tokens, &shape.cache);
    if t == 0 || shape.n_outputs > t {
        return fault(format!("{} outputs of {t} tokens", shape.n_outputs));
    }
    for il in [false, true] {
        let used = (0..h.n_layer).any(|layer| h.is_window_layer(layer) == il);
        let (n_kv, cells, which) = if il {
            (shape.n_kv_window, cache.n_cells_window, " with a sliding window")
        } else {
            (shape.n_kv, cache.n_cells, "")
        };
        if used && (n_kv == 0 || n_kv > cells) {
            return fault(format!("layers{which} cannot look at {n_kv} of {cells} cells"));
        }
    }
    Ok(())
}

/// A model file bound to its architecture. Everything but the file is in the [`Blueprint`], which
/// a model can be used as.
#[derive(Clone, Debug)]
pub struct Model {
    gguf: Arc<Gguf>,
    blueprint: Blueprint,
}

impl Model {
    /// Binds a file.
    ///
    /// # Errors
    /// As [`Blueprint::bind`].
    pub fn load(gguf: Arc<Gguf>) -> Result<Self, ModelError> {
        let blueprint = Blueprint::bind(gguf.metadata(), gguf.tensors())?;
        Ok(Self { gguf, blueprint })
    }

    /// The file, which holds the bytes of the weights.
    pub fn gguf(&self) -> &Arc<Gguf> {
        &self.gguf
    }

    /// What of the model follows from the header.
    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// The bytes of a weight, as the file holds them.
    pub fn data(&self, weight: &WeightInfo) -> &[u8] {
        self.gguf.data(&self.gguf.tensors()[weight.tensor])
    }
}

impl Deref for Model {
    type Target = Blueprint;

    fn deref(&self) -> &Blueprint {
        &self.blueprint
    }
}
