//! Builds a graph node by node; each shape is inferred and checked as its node is added.

use crate::engine::tensor::DType;

use super::op::Op;
use super::tensor::{
    CacheId, InputKind, Name, Role, Tensor, TensorId, View, WeightId, contiguous_strides,
};

/// One operation and the tensors it reads and writes.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Operands, in the order that [`Op`] documents.
    pub src: Vec<TensorId>,
    /// The tensor it writes.
    pub dst: TensorId,
}

/// Tensors and nodes, in execution order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Every tensor, views included; a [`TensorId`] is an index into this.
    pub tensors: Vec<Tensor>,
    /// The nodes in the order in which they run.
    pub nodes: Vec<Node>,
    /// Tensors that the host reads after the run; their memory is not reused.
    pub outputs: Vec<TensorId>,
}

impl Graph {
    /// The tensor with this id.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.index()]
    }

    /// The tensor that owns the bytes of `id`: itself, or what it is a view of.
    pub fn root(&self, id: TensorId) -> TensorId {
        self.tensor(id).view.map_or(id, |v| v.of)
    }

    /// The graph inputs with the tensors that hold them.
    pub fn inputs(&self) -> impl Iterator<Item = (InputKind, TensorId)> + '_ {
        self.tensors.iter().enumerate().filter_map(|(i, t)| match t.role {
            Role::Input(kind) if t.view.is_none() => Some((kind, TensorId(i as u32))),
            _ => None,
        })
    }
}

/// Operands that do not fit an operation: a fault of the architecture's code or of the model file.
#[derive(Debug, thiserror::Error)]
#[error("graph node {name} ({op}): {problem}")]
pub struct GraphError {
    /// Name of the node's result.
    pub name: String,
    /// ggml's name of the operation.
    pub op: &'static str,
    /// What does not fit.
    pub problem: String,
}

/// Adds tensors and nodes to a graph.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// The tensor with this id.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        self.graph.tensor(id)
    }

    fn push(&mut self, tensor: Tensor) -> TensorId {
        let id = TensorId(self.graph.tensors.len() as u32);
        self.graph.tensors.push(tensor);
        id
    }

    fn leaf(&mut self, name: Name, dtype: DType, ne: [usize; 4], role: Role) -> TensorId {
        self.push(Tensor::new(name, dtype, ne, role))
    }

    /// A weight of the model.
    pub fn weight(&mut self, name: Name, id: WeightId, dtype: DType, ne: [usize; 4]) -> TensorId {
        self.leaf(name, dtype, ne, Role::Weight(id))
    }

    /// A tensor of the KV cache.
    pub fn cache(&mut self, name: Name, id: CacheId, dtype: DType, ne: [usize; 4]) -> TensorId {
        self.leaf(name, dtype, ne, Role::Cache(id))
    }

    /// A tensor that the host fills before each run; asked for twice, the same tensor.
    pub fn input(&mut self, kind: InputKind, dtype: DType, ne: [usize; 4]) -> TensorId {
        let known = self.graph.inputs().find(|(k, _)| *k == kind).map(|(_, id)| id);
        known.unwrap_or_else(|| self.leaf(Name::global(kind.name()), dtype, ne, Role::Input(kind)))
    }

    /// A window of extents `ne` and strides `nb` onto `of`, starting `offset` bytes in.
    ///
    /// # Errors
    /// When the window leaves the bytes of `of`.
    pub fn view(
        &mut self,
        name: Name,
        of: TensorId,
        ne: [usize; 4],
        nb: [usize; 4],
        offset: usize,
    ) -> Result<TensorId, GraphError> {
        let base = self.tensor(of);
        let (root, base_offset) = base.view.map_or((of, 0), |v| (v.of, v.offset));
        let tensor = Tensor {
            name,
            dtype: base.dtype,
            ne,
            nb,
            role: base.role,
            view: Some(View { of: root, offset: base_offset + offset }),
        };
        let end = base_offset + offset + tensor.span_bytes();
        let available = self.tensor(root).span_bytes();
        if end > available {
            let problem = format!("a view ends at byte {end} of {available}");
            return Err(GraphError { name: name.to_string(), op: "VIEW", problem });
        }
        Ok(self.push(tensor))
    }

    /// The same bytes, gapless, with other extents.
    ///
    /// # Errors
    /// When `src` has gaps or another number of elements.
    pub fn reshape(&mut self, src: TensorId, ne: [usize; 4]) -> Result<TensorId, GraphError> {
        let t = self.tensor(src);
        let (name, dtype) = (t.name, t.dtype);
        if !t.is_contiguous() || t.len() != ne.iter().product::<usize>() {
            let problem = format!("cannot reshape {:?} (strides {:?}) to {ne:?}", t.ne, t.nb);
            return Err(GraphError { name: name.to_string(), op: "RESHAPE", problem });
        }
        self.view(name, src, ne, contiguous_strides(dtype, ne), 0)
    }

    /// `n` elements of each row of `src` from element `first` on: the part of a fused projection.
    ///
    /// # Errors
    /// When the part leaves the row.
    pub fn columns(
        &mut self,
        name: Name,
        src: TensorId,
        first: usize,
        n: usize,
    ) -> Result<TensorId, GraphError> {
        let t = self.tensor(src);
        if first + n > t.ne[0] {
            let problem = format!("columns {first}..{} of {}", first + n, t.ne[0]);
            return Err(GraphError { name: name.to_string(), op: "VIEW", problem });
        }
        let (ne, nb) = ([n, t.ne[1], t.ne[2], t.ne[3]], t.nb);
        let offset = first / t.dtype.block_len() * t.dtype.block_bytes();
        self.view(name, src, ne, nb, offset)
    }

    /// Splits the rows of `src (d · n_head, t)` into heads: `(d, n_head, t)`; gaps between rows
    /// stay.
    ///
    /// # Errors
    /// When `d · n_head` is not the row length.
    pub fn heads(
        &mut self,
        src: TensorId,
        d: usize,
        n_head: usize,
    ) -> Result<TensorId, GraphError> {
        let t = self.tensor(src);
        let name = t.name;
        if d * n_head != t.ne[0] {
            let problem = format!("{n_head} heads of {d} from rows of {}", t.ne[0]);
            return Err(GraphError { name: name.to_string(), op: "RESHAPE", problem });
        }
        let head = d / t.dtype.block_len() * t.dtype.block_bytes();
        let (ne, nb) = ([d, n_head, t.ne[1], 1], [t.nb[0], head, t.nb[1], t.nb[1] * t.ne[1]]);
        self.view(name, src, ne, nb, 0)
    }

    /// Adds a node and returns its result.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    pub fn node(&mut self, name: Name, op: Op, src: &[TensorId]) -> Result<TensorId, GraphError> {
        let operands: Vec<&Tensor> = src.iter().map(|&id| self.tensor(id)).collect();
        let (dtype, ne) = op.infer(&operands).map_err(|problem| GraphError {
            name: name.to_string(),
            op: op.name(),
            problem,
        })?;
        let dst = if op == Op::SetRows {
            // The result is the cache itself, so that readers come after the write.
            let nb = operands[2].nb;
            self.view(name, src[2], ne, nb, 0)?
        } else {
            self.leaf(name, dtype, ne, Role::Result)
        };
        self.graph.nodes.push(Node { op, src: src.to_vec(), dst });
        Ok(dst)
    }

    /// Marks a tensor that the host reads after the run.
    pub fn output(&mut self, id: TensorId) {
        self.graph.outputs.push(id);
    }
}
