//! Passes 1 to 4: which device runs each node.
//!
//! The passes are those of ggml's `ggml_backend_sched_split_graph` (ggml/src/ggml-backend.cpp as of
//! ggml 0.26): pre-allocated, expanded, upgraded, sources. Devices stand in order of priority with
//! the CPU last, as there.

use std::ops::Range;
use std::sync::Arc;

use crate::base::event::DeviceIndex;
use crate::engine::graph::{Graph, Node, Op, Role, TensorId, WeightId};
use crate::engine::tensor::DType;

use super::cause::Cause;

/// What the devices can do. The CPU is the last device.
pub trait Capabilities {
    /// How many devices there are.
    fn n_devices(&self) -> usize;

    /// Whether a device has a kernel.
    ///
    /// # Errors
    /// The reason why not.
    fn supports(&self, device: DeviceIndex, op: &Op, src: &[DType]) -> Result<(), String>;

    /// Whether a device wants host weights brought to it for a batch of this size.
    fn offloads(&self, device: DeviceIndex, op: &Op, batch: usize) -> bool;

    /// Whether two devices can read each other's memory as their own.
    fn shares_memory(&self, a: DeviceIndex, b: DeviceIndex) -> bool {
        a == b
    }
}

/// Some rows of a weight that is spread over devices. Its own `WeightId` comes after those of the
/// model's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightPart {
    /// The weight, by the model's table.
    pub of: WeightId,
    /// Its rows.
    pub rows: Range<usize>,
    /// The device that holds them.
    pub device: DeviceIndex,
}

/// Where weights and caches live, decided before any graph is split.
#[derive(Clone, Debug, Default)]
pub struct Residence {
    /// Device of each weight, by `WeightId`: the model's table, then `parts`. Of a weight that is
    /// spread, the device that gathers its products, which does not hold it.
    pub weights: Vec<DeviceIndex>,
    /// The parts of weights that are spread (`-sm row`), two at least of each, in the order of rows.
    pub parts: Vec<WeightPart>,
    /// The device where the products of parts are put together.
    pub gather: Option<DeviceIndex>,
    /// The file's name of each weight.
    pub weight_names: Vec<Arc<str>>,
    /// Why each weight is where it is.
    pub weight_reasons: Vec<Arc<str>>,
    /// Device of each cache tensor, by `CacheId`.
    pub caches: Vec<DeviceIndex>,
    /// Name of each cache tensor.
    pub cache_names: Vec<Arc<str>>,
    /// Set with `-nkvo`: attention is pinned to the CPU, where the cache is.
    pub pin_attention: Option<Arc<str>>,
}

impl Residence {
    /// The id of part `i`.
    pub fn part_id(&self, i: usize) -> WeightId {
        WeightId((self.weights.len() - self.parts.len() + i) as u32)
    }

    /// What lies on devices: weights of the model's table, whole or some rows, and where.
    pub fn held(&self) -> impl Iterator<Item = (WeightId, Option<Range<usize>>, DeviceIndex)> + '_ {
        let n_table = self.weights.len() - self.parts.len();
        let whole = (0..n_table).map(|i| (WeightId(i as u32), None, self.weights[i]));
        let whole = whole.filter(|(id, ..)| !self.is_spread(*id));
        whole.chain(self.parts.iter().map(|p| (p.of, Some(p.rows.clone()), p.device)))
    }

    /// Whether a weight of the model's table is spread.
    pub fn is_spread(&self, id: WeightId) -> bool {
        self.parts.iter().any(|part| part.of == id)
    }
}

/// The device of every node and the home of every tensor.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// By node: its device and why.
    pub nodes: Vec<(DeviceIndex, Cause)>,
    /// By tensor: the device whose memory holds it.
    pub tensors: Vec<DeviceIndex>,
}

/// A node that no device can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device can run {name} ({op}): {reasons}")]
pub struct Unplaceable {
    /// Name of the node's result.
    pub name: String,
    /// ggml's name of the operation.
    pub op: &'static str,
    /// What each device answered.
    pub reasons: String,
}

/// The state of the passes.
struct Passes<'a> {
    graph: &'a Graph,
    residence: &'a Residence,
    devices: &'a dyn Capabilities,
    cpu: DeviceIndex,
    placed: Vec<Option<(DeviceIndex, Cause)>>,
    /// Home of the tensors that exist before the graph runs.
    leaves: Vec<Option<DeviceIndex>>,
}

/// Runs passes 1 to 4.
///
/// # Errors
/// When no device supports a node.
pub(super) fn assign(
    graph: &Graph,
    residence: &Residence,
    devices: &dyn Capabilities,
) -> Result<Assignment, Unplaceable> {
    let cpu = DeviceIndex(devices.n_devices() as u8 - 1);
    let leaves = graph
        .tensors
        .iter()
        .map(|t| match t.role {
            Role::Weight(w) => Some(residence.weights[w.0 as usize]),
            Role::Cache(c) => Some(residence.caches[c.0 as usize]),
            Role::Input(_) => Some(cpu),
            Role::Result => None,
        })
        .collect();
    let placed = vec![None; graph.nodes.len()];
    let mut passes = Passes { graph, residence, devices, cpu, placed, leaves };
    passes.preallocated();
    passes.expand();
    passes.place_leftovers();
    passes.finish()
}

impl Passes<'_> {
    fn operand_types(&self, node: &Node) -> Vec<DType> {
        node.src.iter().map(|&s| self.graph.tensor(s).dtype).collect()
    }

    fn supports(&self, device: DeviceIndex, node: &Node) -> Result<(), String> {
        self.devices.supports(device, &node.op, &self.operand_types(node))
    }

    fn all(&self) -> impl Iterator<Item = DeviceIndex> + use<> {
        (0..=self.cpu.0).map(DeviceIndex)
    }

    /// Pass 1: nodes whose memory or weights exist already.
    fn preallocated(&mut self) {
        for i in 0..self.graph.nodes.len() {
            self.placed[i] = self.of_memory(&self.graph.nodes[i]);
        }
    }

    fn of_memory(&self, node: &Node) -> Option<(DeviceIndex, Cause)> {
        if let Some(device) = self.leaves[node.dst.index()] {
            return Some((device, Cause::Memory));
        }
        if let (Op::Concat, Some(device)) = (&node.op, self.residence.gather)
            && self.supports(device, node).is_ok()
        {
            return Some((device, Cause::Gathered));
        }
        if let (Op::FlashAttn { .. }, Some(why)) = (&node.op, &self.residence.pin_attention) {
            return Some((self.cpu, Cause::User(why.to_string())));
        }
        // The weights of these are a few factors: too small to say where the work belongs.
        if matches!(node.op, Op::Rope(_) | Op::FlashAttn { .. }) {
            return None;
        }
        let is_weight =
            |&(_, &s): &(usize, &TensorId)| matches!(self.graph.tensor(s).role, Role::Weight(_));
        let (src, &weight) = node.src.iter().enumerate().find(is_weight)?;
        let home = self.leaves[weight.index()]?;
        if home == self.cpu
            && let Some(device) = self.offload_target(node)
        {
            return Some((device, Cause::Offload { src }));
        }
        self.supports(home, node).is_ok().then_some((home, Cause::Weight { src }))
    }

    /// The first device that wants this node's host weight brought to it.
    fn offload_target(&self, node: &Node) -> Option<DeviceIndex> {
        let batch = batch_size(self.graph, node);
        self.all()
            .filter(|&d| d != self.cpu)
            .find(|&d| self.supports(d, node).is_ok() && self.devices.offloads(d, &node.op, batch))
    }

    /// Pass 2: unassigned nodes join a neighbour, first GPUs only, then any device.
    fn expand(&mut self) {
        for gpus_only in [true, false] {
            for downwards in [true, false] {
                self.expand_once(gpus_only, downwards);
            }
        }
    }

    fn expand_once(&mut self, gpus_only: bool, downwards: bool) {
        let n = self.graph.nodes.len();
        let mut current: Option<(DeviceIndex, usize)> = None;
        for step in 0..n {
            let i = if downwards { step } else { n - 1 - step };
            if let Some((device, _)) = &self.placed[i] {
                // A node on the CPU ends a GPU's reach; GPUs have priority over it elsewhere.
                let blocks = gpus_only && *device == self.cpu;
                current = (!blocks).then_some((*device, i));
            } else if let Some((device, neighbour)) = current
                && self.supports(device, &self.graph.nodes[i]).is_ok()
            {
                self.placed[i] = Some((device, Cause::Expanded { neighbour }));
            }
        }
    }

    /// Pass 3: move nodes up to a device of higher priority on the same memory, and place what is
    /// left, which some neighbour's device refused, where most operands can be read.
    fn place_leftovers(&mut self) {
        for i in 0..self.graph.nodes.len() {
            let node = &self.graph.nodes[i];
            self.placed[i] = match self.placed[i].take() {
                Some((device, cause)) => {
                    Some(self.upgraded(node, device).unwrap_or((device, cause)))
                }
                None => self.best_for(node),
            };
        }
    }

    fn upgraded(&self, node: &Node, device: DeviceIndex) -> Option<(DeviceIndex, Cause)> {
        self.all().take_while(|&d| d < device).find_map(|better| {
            let same = self.devices.shares_memory(better, device);
            (same && self.supports(better, node).is_ok()).then_some((better, Cause::Upgraded))
        })
    }

    fn best_for(&self, node: &Node) -> Option<(DeviceIndex, Cause)> {
        let mut refused = Vec::new();
        let mut best: Option<(usize, DeviceIndex)> = None;
        for device in self.all() {
            if let Err(reason) = self.supports(device, node) {
                refused.push(reason);
                continue;
            }
            let readable = |&&s: &&TensorId| {
                let home = self.leaves[s.index()].or_else(|| self.home_of_result(s));
                home.is_some_and(|h| self.devices.shares_memory(h, device))
            };
            let score = node.src.iter().filter(readable).count();
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, device));
            }
        }
        let (_, device) = best?;
        let cause = if refused.is_empty() {
            Cause::First
        } else {
            Cause::Best { refused: refused.join("; ") }
        };
        Some((device, cause))
    }

    /// The device of the node that writes `id`, where that is known already.
    fn home_of_result(&self, id: TensorId) -> Option<DeviceIndex> {
        let root = self.graph.root(id);
        let writer = self.graph.nodes.iter().position(|n| n.dst == root)?;
        self.placed[writer].as_ref().map(|p| p.0)
    }

    /// Pass 4: every tensor gets a home, every node a device.
    fn finish(mut self) -> Result<Assignment, Unplaceable> {
        let mut nodes = Vec::with_capacity(self.graph.nodes.len());
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let Some((device, cause)) = self.placed[i].take() else {
                let reasons = self.all().filter_map(|d| self.supports(d, node).err());
                return Err(Unplaceable {
                    name: self.graph.tensor(node.dst).name.to_string(),
                    op: node.op.name(),
                    reasons: reasons.collect::<Vec<_>>().join("; "),
                });
            };
            self.leaves[node.dst.index()].get_or_insert(device);
            nodes.push((device, cause));
        }
        let tensors = (0..self.graph.tensors.len())
            .map(|t| {
                let root = self.graph.root(TensorId(t as u32));
                self.leaves[t].or(self.leaves[root.index()]).unwrap_or(self.cpu)
            })
            .collect();
        Ok(Assignment { nodes, tensors })
    }
}

/// The batch that ggml's CUDA backend compares with its offload threshold.
fn batch_size(graph: &Graph, node: &Node) -> usize {
    let ne = graph.tensor(node.dst).ne;
    match node.op {
        Op::GetRows => 0,
        Op::MulMat => ne[1],
        Op::MulMatId | Op::Rope(_) => ne[2],
        _ => ne[1] * ne[2] * ne[3],
    }
}
