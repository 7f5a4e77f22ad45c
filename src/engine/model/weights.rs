//! The table of weights: which tensors of the file a model uses, in which place, and how large.
//!
//! A [`Binder`] checks each tensor that an architecture expects for presence, shape and type, and
//! gives it a [`WeightId`]. It never reads the bytes. Invariant: every entry of the finished table
//! has a shape that the architecture asked for, so graphs built from it fit.

use std::collections::HashMap;

use crate::engine::gguf::TensorInfo;
use crate::engine::graph::WeightId;
use crate::engine::tensor::DType;

use super::error::{ModelError, Shape};

/// Which part of the model a weight belongs to; placement on devices goes by it, as in llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerClass {
    /// Before the layers: the token embedding.
    Input,
    /// In the repeating layer of this number.
    Repeating(usize),
    /// After the layers: the last norm and the output matrix.
    Output,
}

/// What a weight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightKind {
    /// The table of token embeddings.
    Embedding,
    /// Projections of attention, biases included.
    Attention,
    /// The dense feed-forward block, biases included.
    FeedForward,
    /// Matrices of all experts of a layer.
    Expert,
    /// Norms.
    Norm,
    /// The matrix that scores experts.
    Router,
    /// The matrix that yields logits, its bias included.
    Output,
    /// Frequency tables of rotary embedding.
    Rope,
}

impl WeightKind {
    /// Every kind.
    pub const ALL: [WeightKind; 8] = [
        WeightKind::Embedding,
        WeightKind::Attention,
        WeightKind::FeedForward,
        WeightKind::Expert,
        WeightKind::Norm,
        WeightKind::Router,
        WeightKind::Output,
        WeightKind::Rope,
    ];

    /// A short name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Attention => "attention",
            Self::FeedForward => "feed-forward",
            Self::Expert => "experts",
            Self::Norm => "norms",
            Self::Router => "router",
            Self::Output => "output",
            Self::Rope => "rope",
        }
    }
}

/// One use of a tensor of the file. A tensor that is used in several places has several entries;
/// all but the first name the first in `duplicate_of`, so that a device which holds the one need
/// not hold the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightInfo {
    /// The tensor's name in the file.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, `ne[0]` fastest.
    pub ne: [usize; 4],
    /// Bytes of data.
    pub bytes: usize,
    /// Where it belongs.
    pub class: LayerClass,
    /// Index in [`crate::engine::gguf::Gguf::tensors`].
    pub tensor: usize,
    /// The first entry with the same tensor, when this is not it.
    pub duplicate_of: Option<WeightId>,
    /// What it is for.
    pub kind: WeightKind,
}

/// Finds and checks the tensors that an architecture asks for.
pub(super) struct Binder<'a> {
    tensors: &'a [TensorInfo],
    index: HashMap<&'a str, usize>,
    /// By tensor: the first entry that uses it.
    first_use: Vec<Option<WeightId>>,
    weights: Vec<WeightInfo>,
}

impl<'a> Binder<'a> {
    pub(super) fn new(tensors: &'a [TensorInfo]) -> Self {
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        Self { tensors, index, first_use: vec![None; tensors.len()], weights: Vec::new() }
    }

    /// True when the file has this tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The extents of a tensor, when the file has it.
    pub(super) fn ne(&self, name: &str) -> Option<[usize; 4]> {
        self.index.get(name).map(|&i| self.tensors[i].ne)
    }

    /// The tensor `name` with extents `ne`; it must be there.
    pub(super) fn require(
        &mut self,
        name: &str,
        class: LayerClass,
        kind: WeightKind,
        ne: &[usize],
    ) -> Result<WeightId, ModelError> {
        self.optional(name, class, kind, ne)?.ok_or_else(|| ModelError::MissingTensor {
            name: name.to_owned(),
            expected: Shape(padded(ne)),
        })
    }

    /// The tensor `name`, when the file has it; then it must have extents `ne`.
    pub(super) fn optional(
        &mut self,
        name: &str,
        class: LayerClass,
        kind: WeightKind,
        ne: &[usize],
    ) -> Result<Option<WeightId>, ModelError> {
        let Some(&at) = self.index.get(name) else { return Ok(None) };
        let info = &self.tensors[at];
        let expected = padded(ne);
        if info.ne != expected {
            let (expected, found) = (Shape(expected), Shape(info.ne));
            return Err(ModelError::Shape { name: name.to_owned(), expected, found });
        }
        check_type(info, ne.len())?;
        let id = WeightId(self.weights.len() as u32);
        let duplicate_of = self.first_use[at];
        if duplicate_of.is_none() {
            self.first_use[at] = Some(id);
        }
        self.weights.push(WeightInfo {
            name: name.to_owned(),
            dtype: info.dtype,
            ne: info.ne,
            bytes: info.bytes as usize,
            class,
            tensor: at,
            duplicate_of,
            kind,
        });
        Ok(Some(id))
    }

    /// The tensor `blk.{il}.{suffix}`; it must be there.
    pub(super) fn layer(
        &mut self,
        il: usize,
        suffix: &str,
        kind: WeightKind,
        ne: &[usize],
    ) -> Result<WeightId, ModelError> {
        self.require(&layer_name(il, suffix), LayerClass::Repeating(il), kind, ne)
    }

    /// The tensor `blk.{il}.{suffix}`, when the file has it.
    pub(super) fn opt_layer(
        &mut self,
        il: usize,
        suffix: &str,
        kind: WeightKind,
        ne: &[usize],
    ) -> Result<Option<WeightId>, ModelError> {
        self.optional(&layer_name(il, suffix), LayerClass::Repeating(il), kind, ne)
    }

    /// The table, and the names of tensors that nobody asked for.
    pub(super) fn finish(self) -> (Vec<WeightInfo>, Vec<String>) {
        let unused = self.tensors.iter().zip(&self.first_use).filter(|(_, used)| used.is_none());
        let unused = unused.map(|(tensor, _)| tensor.name.clone()).collect();
        (self.weights, unused)
    }
}

/// `blk.{il}.{suffix}`.
pub(super) fn layer_name(il: usize, suffix: &str) -> String {
    format!("blk.{il}.{suffix}")
}

fn padded(ne: &[usize]) -> [usize; 4] {
    let mut out = [1; 4];
    out[..ne.len()].copy_from_slice(ne);
    out
}

/// Matrices may have any type of weights. Norms, biases and frequency tables enter element-wise
/// operations, which are defined on F32 only; converters keep them so.
fn check_type(info: &TensorInfo, n_dims: usize) -> Result<(), ModelError> {
    let expected = if n_dims == 1 {
        (info.dtype != DType::F32).then_some("type F32 (norms, biases and tables)")
    } else {
        (!DType::WEIGHTS.contains(&info.dtype)).then_some("a type of weights")
    };
    match expected {
        None => Ok(()),
        Some(expected) => {
            let (name, found) = (info.name.clone(), info.dtype);
            Err(ModelError::TensorType { name, expected, found })
        }
    }
}
