//! A tensor of the graph: name, type, extents, strides, and where its bytes come from.

use std::fmt;

use crate::engine::tensor::DType;

/// Index of a tensor in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

impl TensorId {
    /// The index as a `usize`, for the graph's tensor table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index of a weight in the model's weight table; the same in every graph of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub u32);

/// Index of a tensor of the KV cache; the same in every graph of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheId(pub u32);

/// What the host writes before a graph runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// Token ids, `I32 (n_tokens)`.
    Tokens,
    /// Position of each token in its sequence, `I32 (n_tokens)`.
    Positions,
    /// Cache row that each token's key and value go to, `I32 (n_tokens)`.
    CacheRows,
    /// As `CacheRows`, for the smaller cache of the layers with a sliding window.
    CacheRowsWindow,
    /// `0` where a query may look and `-inf` where not, `F16 (n_kv, n_tokens)`.
    Mask,
    /// As `Mask`, for the layers with a sliding window, `F16 (n_kv_window, n_tokens)`.
    MaskWindow,
    /// Rows of the last hidden state whose logits are wanted, `I32 (n_outputs)`.
    OutputRows,
}

impl InputKind {
    /// The name that llama.cpp gives to this input.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "inp_tokens",
            Self::Positions => "inp_pos",
            Self::CacheRows => "kv_idxs",
            Self::CacheRowsWindow => "kv_idxs_swa",
            Self::Mask => "KQ_mask",
            Self::MaskWindow => "KQ_mask_swa",
            Self::OutputRows => "inp_out_ids",
        }
    }
}

/// Where the bytes of a tensor live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A weight of the model, in a buffer of its own that outlives every graph.
    Weight(WeightId),
    /// A tensor of the KV cache, in a buffer that outlives every graph of the context.
    Cache(CacheId),
    /// Written by the host before each run.
    Input(InputKind),
    /// The result of a node, in memory that is planned per graph and reused.
    Result,
}

/// A stem and, within a layer, its number: `Qcur-12`. Formatted only when somebody looks, because
/// a graph of a thousand nodes is built for every new batch shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The part that all layers share.
    pub stem: &'static str,
    /// The layer, counted from 0.
    pub layer: Option<u16>,
}

impl Name {
    /// A name outside any layer.
    pub const fn global(stem: &'static str) -> Self {
        Self { stem, layer: None }
    }

    /// A name within layer `il`.
    pub const fn layer(stem: &'static str, il: usize) -> Self {
        Self { stem, layer: Some(il as u16) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(il) => write!(f, "{}-{il}", self.stem),
            None => f.write_str(self.stem),
        }
    }
}

/// A window onto another tensor's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The tensor that owns the bytes; never itself a view.
    pub of: TensorId,
    /// Bytes from the start of `of` to the first element of the view.
    pub offset: usize,
}

/// A tensor of the graph. Extents follow ggml: `ne[0]` is the fastest, unused ones are 1.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Name for people; weights carry the file's name in the model's table instead.
    pub name: Name,
    /// Element type.
    pub dtype: DType,
    /// Extents in elements.
    pub ne: [usize; 4],
    /// Strides in bytes; `nb[0]` is the bytes of a block.
    pub nb: [usize; 4],
    /// Where the bytes live. A view has the role of its owner.
    pub role: Role,
    /// Set when this tensor is a window onto another.
    pub view: Option<View>,
}

impl Tensor {
    /// A tensor of its own without gaps.
    pub fn new(name: Name, dtype: DType, ne: [usize; 4], role: Role) -> Self {
        Self { name, dtype, ne, nb: contiguous_strides(dtype, ne), role, view: None }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.ne.iter().product()
    }

    /// True when an extent is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows: everything but `ne[0]`.
    pub fn rows(&self) -> usize {
        self.ne[1] * self.ne[2] * self.ne[3]
    }

    /// Bytes from the first to one past the last element, gaps between rows of a view included.
    pub fn span_bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let row = self.ne[0] / self.dtype.block_len() * self.dtype.block_bytes();
        row + (1..4).map(|i| (self.ne[i] - 1) * self.nb[i]).sum::<usize>()
    }

    /// Bytes of the elements themselves.
    pub fn bytes(&self) -> usize {
        self.len() / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// True when elements follow each other without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.nb == contiguous_strides(self.dtype, self.ne)
    }
}

/// The strides of a tensor without gaps.
pub(super) fn contiguous_strides(dtype: DType, ne: [usize; 4]) -> [usize; 4] {
    let nb0 = dtype.block_bytes();
    let nb1 = ne[0] / dtype.block_len() * nb0;
    [nb0, nb1, nb1 * ne[1], nb1 * ne[1] * ne[2]]
}
