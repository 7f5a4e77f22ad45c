//! A graph interpreter for tests: element by element in `f64`, slow and plain.
//!
//! It exists so that the graphs themselves are checked against published implementations, apart
//! from any backend. Plain element types only; YaRN is not computed.

use std::collections::HashMap;

use crate::engine::graph::{
    GluKind, Graph, InputKind, Node, Op, Role, RopeMode, RopeParams, Tensor, TensorId,
};
use crate::engine::model::Model;
use crate::engine::tensor::DType;

/// A model with a cache that lives from graph to graph. All values are kept as `f32`, whatever
/// their type: indices are small and masks are `0` or `-inf`.
pub(super) struct Interpreter<'a> {
    model: &'a Model,
    cache: HashMap<u32, Vec<f32>>,
    inputs: HashMap<InputKind, Vec<f32>>,
}

/// The elements of one tensor with its strides, both counted in elements.
struct View<'a> {
    data: &'a [f32],
    offset: usize,
    stride: [usize; 4],
    ne: [usize; 4],
}

impl View<'_> {
    fn at(&self, i: [usize; 3]) -> f64 {
        let at = self.offset + (0..3).map(|axis| i[axis] * self.stride[axis]).sum::<usize>();
        f64::from(self.data[at])
    }

    /// Element `i` in ggml's order.
    fn flat(&self, i: usize) -> f64 {
        let [n0, n1, ..] = self.ne;
        self.at([i % n0, i / n0 % n1, i / n0 / n1])
    }
}

impl<'a> Interpreter<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self { model, cache: HashMap::new(), inputs: HashMap::new() }
    }

    pub(super) fn set(&mut self, kind: InputKind, values: Vec<f32>) {
        self.inputs.insert(kind, values);
    }

    /// Runs the graph and returns its output, rows of logits.
    pub(super) fn run(&mut self, graph: &Graph) -> Vec<f32> {
        let mut data: Vec<Vec<f32>> = graph.tensors.iter().map(|t| self.fill(t)).collect();
        for node in &graph.nodes {
            if node.op == Op::SetRows {
                set_rows(graph, &mut data, node);
            } else {
                data[node.dst.index()] = compute(graph, &data, node);
            }
        }
        for (i, tensor) in graph.tensors.iter().enumerate() {
            if let (Role::Cache(id), None) = (tensor.role, tensor.view) {
                self.cache.insert(id.0, std::mem::take(&mut data[i]));
            }
        }
        graph.outputs.first().map_or_else(Vec::new, |id| data[id.index()].clone())
    }

    /// The elements that a tensor holds before the run.
    fn fill(&self, tensor: &Tensor) -> Vec<f32> {
        if tensor.view.is_some() {
            return Vec::new();
        }
        match tensor.role {
            Role::Weight(id) => {
                let info = &self.model.weights()[id.0 as usize];
                assert_eq!(info.dtype, DType::F32, "{}", info.name);
                let (words, _) = self.model.data(info).as_chunks::<4>();
                words.iter().map(|&w| f32::from_le_bytes(w)).collect()
            }
            Role::Cache(id) => match self.cache.get(&id.0) {
                Some(kept) => kept.clone(),
                None => vec![0.0; tensor.len()],
            },
            Role::Input(kind) => {
                let given = self.inputs[&kind].clone();
                assert_eq!(given.len(), tensor.len(), "{kind:?}");
                given
            }
            Role::Result => Vec::new(),
        }
    }
}

fn view<'d>(graph: &Graph, data: &'d [Vec<f32>], id: TensorId) -> View<'d> {
    let tensor = graph.tensor(id);
    let size = tensor.dtype.block_bytes();
    View {
        data: &data[graph.root(id).index()],
        offset: tensor.view.map_or(0, |v| v.offset / size),
        stride: tensor.nb.map(|nb| nb / size),
        ne: tensor.ne,
    }
}

fn set_rows(graph: &Graph, data: &mut [Vec<f32>], node: &Node) {
    let rows = view(graph, data, node.src[0]);
    let cells = view(graph, data, node.src[1]);
    let [n, t, ..] = rows.ne;
    let mut writes = Vec::new();
    for j in 0..t {
        let cell = cells.flat(j) as usize;
        writes.extend((0..n).map(|i| (cell * n + i, rows.at([i, j, 0]) as f32)));
    }
    let cache = &mut data[graph.root(node.src[2]).index()];
    for (at, value) in writes {
        cache[at] = value;
    }
}

fn compute(graph: &Graph, data: &[Vec<f32>], node: &Node) -> Vec<f32> {
    let src: Vec<View<'_>> = node.src.iter().map(|&id| view(graph, data, id)).collect();
    let ne = graph.tensor(node.dst).ne;
    let len: usize = ne.iter().product();
    let each = |f: &dyn Fn(usize) -> f64| (0..len).map(|i| f(i) as f32).collect();
    match node.op {
        Op::GetRows => each(&|i| {
            let row = src[1].flat(i / ne[0]) as usize;
            src[0].at([i % ne[0], row, 0])
        }),
        Op::MulMat => each(&|i| {
            let (row, col) = (i % ne[0], i / ne[0]);
            (0..src[0].ne[0]).map(|k| src[0].at([k, row, 0]) * src[1].at([k, col, 0])).sum()
        }),
        Op::MulMatId => each(&|i| {
            let (row, slot, t) = (i % ne[0], i / ne[0] % ne[1], i / ne[0] / ne[1]);
            let expert = src[2].at([slot, t, 0]) as usize;
            let slot = if src[1].ne[1] == 1 { 0 } else { slot };
            (0..src[0].ne[0]).map(|k| src[0].at([k, row, expert]) * src[1].at([k, slot, t])).sum()
        }),
        Op::RmsNorm { eps } => rms_norm(&src, ne, f64::from(eps)),
        Op::Rope(p) => rope(&src, ne, &p),
        Op::FlashAttn { scale, softcap } => {
            assert_eq!(softcap, 0.0);
            attention(&src, ne, f64::from(scale))
        }
        Op::Add => each(&|i| src[0].flat(i) + src[1].flat(broadcast(&src[1], ne, i))),
        Op::Mul => each(&|i| src[0].flat(i) * src[1].flat(broadcast(&src[1], ne, i))),
        Op::Scale { factor } => each(&|i| src[0].flat(i) * f64::from(factor)),
        Op::Glu(kind) => each(&|i| activate(kind, src[0].flat(i)) * src[1].flat(i)),
        Op::SoftMax => each(&|i| {
            let row = i / ne[0] * ne[0];
            let sum: f64 = (0..ne[0]).map(|k| src[0].flat(row + k).exp()).sum();
            src[0].flat(i).exp() / sum
        }),
        Op::TopK { k } => each(&|i| {
            let row = |e: usize| src[0].at([e, i / k, 0]);
            let mut order: Vec<usize> = (0..src[0].ne[0]).collect();
            order.sort_by(|&a, &b| row(b).total_cmp(&row(a)));
            order[i % k] as f64
        }),
        Op::ExpertWeights { normalise } => each(&|i| {
            let t = i / ne[0];
            let weight = |slot| src[0].at([src[1].at([slot, t, 0]) as usize, t, 0]);
            let sum: f64 = if normalise { (0..ne[0]).map(weight).sum() } else { 1.0 };
            weight(i % ne[0]) / sum
        }),
        Op::ExpertSum => each(&|i| {
            let (row, t) = (i % ne[0], i / ne[0]);
            let slots = 0..src[0].ne[1];
            slots.map(|s| src[0].at([row, s, t]) * src[1].at([s, t, 0])).sum()
        }),
        Op::SetRows => unreachable!("handled by the caller"),
        Op::Concat => unreachable!("no model has it"),
    }
}

/// Element of a row that serves all rows, or of an operand of the same shape.
fn broadcast(operand: &View<'_>, ne: [usize; 4], i: usize) -> usize {
    if operand.ne[1..].iter().all(|&n| n == 1) { i % ne[0] } else { i }
}

fn activate(kind: GluKind, x: f64) -> f64 {
    match kind {
        GluKind::Silu => x / (1.0 + (-x).exp()),
        GluKind::Gelu => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

fn rms_norm(src: &[View<'_>], ne: [usize; 4], eps: f64) -> Vec<f32> {
    let rows = ne[1] * ne[2] * ne[3];
    let mut out = Vec::with_capacity(rows * ne[0]);
    for row in 0..rows {
        let x = |k: usize| src[0].flat(row * ne[0] + k);
        let mean = (0..ne[0]).map(|k| x(k) * x(k)).sum::<f64>() / ne[0] as f64;
        let factor = 1.0 / (mean + eps).sqrt();
        out.extend((0..ne[0]).map(|k| (x(k) * factor * src[1].flat(k)) as f32));
    }
    out
}

fn rope(src: &[View<'_>], ne: [usize; 4], p: &RopeParams) -> Vec<f32> {
    assert_eq!(p.ext_factor, 0.0);
    let mut out: Vec<f32> = (0..ne.iter().product()).map(|i| src[0].flat(i) as f32).collect();
    let half = p.n_dims / 2;
    for t in 0..ne[2] {
        for head in 0..ne[1] {
            for pair in 0..half {
                let (a, b) = match p.mode {
                    RopeMode::Norm => (2 * pair, 2 * pair + 1),
                    RopeMode::Neox => (pair, pair + half),
                };
                let exponent = -2.0 * pair as f64 / p.n_dims as f64;
                let divisor = src.get(2).map_or(1.0, |f| f.flat(pair));
                let angle = src[1].flat(t) * f64::from(p.freq_base).powf(exponent) / divisor
                    * f64::from(p.freq_scale);
                let (sin, cos) = angle.sin_cos();
                let factor = f64::from(p.attn_factor);
                let (x, y) = (src[0].at([a, head, t]), src[0].at([b, head, t]));
                let row = (t * ne[1] + head) * ne[0];
                out[row + a] = ((x * cos - y * sin) * factor) as f32;
                out[row + b] = ((x * sin + y * cos) * factor) as f32;
            }
        }
    }
    out
}

fn attention(src: &[View<'_>], ne: [usize; 4], scale: f64) -> Vec<f32> {
    let [q, k, v, mask] = src else { panic!("four operands") };
    let group = q.ne[1] / k.ne[2];
    let mut out = Vec::new();
    for t in 0..ne[2] {
        for head in 0..ne[1] {
            let kv_head = head / group;
            let score = |cell: usize| {
                let dot: f64 =
                    (0..q.ne[0]).map(|i| q.at([i, head, t]) * k.at([i, cell, kv_head])).sum();
                dot * scale + mask.at([cell, t, 0])
            };
            let scores: Vec<f64> = (0..k.ne[1]).map(score).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let sum: f64 = weights.iter().sum();
            out.extend((0..ne[0]).map(|i| {
                let of = |(cell, w): (usize, &f64)| w * v.at([i, cell, kv_head]);
                (weights.iter().enumerate().map(of).sum::<f64>() / sum) as f32
            }));
        }
    }
    out
}
