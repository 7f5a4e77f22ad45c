//! Plans the memory of a cut graph: one arena per device, shared by tensors that never live at the
//! same time. Pure arithmetic: it allocates nothing.

use std::collections::HashMap;

use crate::base::event::DeviceIndex;
use crate::engine::graph::{Graph, Lifetime, Node, Op, Role, TensorId, plan_arena};

use super::cut::SplitPlan;

/// The memory of one tensor on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the device's weights.
    Weight(u32),
    /// In the KV cache.
    Cache(u32),
    /// In the device's compute arena, this many bytes in.
    Arena(usize),
}

/// One copy of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyStep {
    /// What is copied.
    pub tensor: TensorId,
    /// The device that has it.
    pub from: DeviceIndex,
    /// Where it is there, and how far into it the copy starts.
    pub from_home: (Home, usize),
    /// Where it goes in the arena of the split's device.
    pub to_offset: usize,
    /// Bytes that travel.
    pub bytes: usize,
}

/// Where every tensor of a cut graph is.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// Bytes of each device's arena.
    pub arena_bytes: Vec<usize>,
    /// The copies of each split.
    pub copies: Vec<Vec<CopyStep>>,
    homes: HashMap<(TensorId, DeviceIndex), Home>,
}

impl Allocation {
    /// Where `tensor` is for a node on `device`: the memory and the bytes into it.
    pub fn place(
        &self,
        graph: &Graph,
        tensor: TensorId,
        device: DeviceIndex,
    ) -> Option<(Home, usize)> {
        // A view that was copied has a place of its own on the device it was copied to.
        if let Some(&home) = self.homes.get(&(tensor, device)) {
            return Some((home, 0));
        }
        let view = graph.tensor(tensor).view?;
        self.homes.get(&(view.of, device)).map(|&home| (home, view.offset))
    }
}

/// Plans arenas and copies.
pub fn allocate(graph: &Graph, plan: &SplitPlan, n_devices: usize) -> Allocation {
    let mut homes = HashMap::new();
    let mut wanted: Vec<Vec<(TensorId, Lifetime)>> = vec![Vec::new(); n_devices];
    let lives = lifetimes(graph, plan);
    for (i, tensor) in graph.tensors.iter().enumerate() {
        let id = TensorId(i as u32);
        let home = plan.assignment.tensors[i];
        match tensor.role {
            _ if tensor.view.is_some() => {}
            Role::Weight(w) => drop(homes.insert((id, home), Home::Weight(w.0))),
            Role::Cache(c) => drop(homes.insert((id, home), Home::Cache(c.0))),
            Role::Input(_) | Role::Result => {}
        }
    }
    for (&(id, device), &(first, last)) in &lives {
        let bytes = graph.tensor(id).span_bytes();
        wanted[device.0 as usize].push((id, Lifetime { bytes, first, last }));
    }
    let mut arena_bytes = Vec::with_capacity(n_devices);
    for (d, mut requests) in wanted.into_iter().enumerate() {
        // The map's order is random; the plan must not be.
        requests.sort_by_key(|&(id, _)| id);
        let arena = plan_arena(&requests.iter().map(|r| r.1).collect::<Vec<_>>());
        for (&(id, _), slot) in requests.iter().zip(&arena.slots) {
            homes.insert((id, DeviceIndex(d as u8)), Home::Arena(slot.offset));
        }
        arena_bytes.push(arena.bytes);
    }
    let mut allocation = Allocation { arena_bytes, copies: Vec::new(), homes };
    allocation.copies = plan.splits.iter().map(|s| copies(graph, &allocation, s)).collect();
    allocation
}

fn copies(graph: &Graph, allocation: &Allocation, split: &super::cut::Split) -> Vec<CopyStep> {
    let step = |input: &super::cut::SplitInput| {
        let tensor = input.tensor;
        let from_home = allocation.place(graph, tensor, input.from)?;
        let Home::Arena(to_offset) = *allocation.homes.get(&(tensor, split.device))? else {
            return None;
        };
        let bytes = graph.tensor(tensor).span_bytes();
        Some(CopyStep { tensor, from: input.from, from_home, to_offset, bytes })
    };
    split.inputs.iter().filter_map(step).collect()
}

/// Tokens up to which a device may run several nodes as one, for which their operands must live on. In
/// larger batches that would save little and cost memory.
const JOINED_TOKENS_MAX: usize = 8;

/// For each node of a split, the last one that a device may run together with it: products of the same
/// activations and what is done to each element of their results; the turning of queries and keys and
/// the way into the cache; a router's choice of experts.
fn run_ends(graph: &Graph, nodes: &[Node], first: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = (first..first + nodes.len()).collect();
    let mut at = 0;
    while at < nodes.len() {
        let rest = &nodes[at..];
        let length = run_length(graph, rest).max(1);
        ends[at..at + length].fill(first + at + length - 1);
        at += length;
    }
    ends
}

/// How many nodes from the first one on may run together.
fn run_length(graph: &Graph, nodes: &[Node]) -> usize {
    let Some(start) = nodes.first() else { return 0 };
    let tokens = |id: TensorId| graph.tensor(id).ne[2] * graph.tensor(id).ne[3];
    match start.op {
        Op::MulMat | Op::MulMatId => {
            let column = graph.root(start.src[1]);
            let columns = graph.tensor(start.src[1]).ne[1] * tokens(start.src[1]);
            let mut results: Vec<TensorId> = Vec::new();
            let belongs = |node: &&Node| {
                let joins = match node.op {
                    Op::Add | Op::Glu(_) => results.contains(&graph.root(node.src[0])),
                    op => op == start.op && graph.root(node.src[1]) == column,
                };
                results.push(graph.root(node.dst));
                joins
            };
            if columns > JOINED_TOKENS_MAX { 1 } else { nodes.iter().take_while(belongs).count() }
        }
        Op::Rope(_) if tokens(start.dst) <= JOINED_TOKENS_MAX => {
            let belongs = |n: &&Node| matches!(n.op, Op::Rope(_) | Op::SetRows);
            nodes.iter().take_while(belongs).count()
        }
        Op::SoftMax if tokens(start.dst) * graph.tensor(start.dst).ne[1] <= JOINED_TOKENS_MAX => {
            let belongs = |n: &&Node| {
                matches!(n.op, Op::SoftMax | Op::TopK { .. } | Op::ExpertWeights { .. })
            };
            nodes.iter().take_while(belongs).count()
        }
        _ => 1,
    }
}

/// First and last step at which each tensor of an arena is alive on each device. Steps are node
/// numbers; a copy happens at its split's first node. What a node reads lives until the last node
/// that may run together with it.
fn lifetimes(graph: &Graph, plan: &SplitPlan) -> HashMap<(TensorId, DeviceIndex), (usize, usize)> {
    let mut lives: HashMap<(TensorId, DeviceIndex), (usize, usize)> = HashMap::new();
    let end = graph.nodes.len();
    let in_arena = |id: TensorId| matches!(graph.tensor(id).role, Role::Input(_) | Role::Result);
    let home = |id: TensorId| plan.assignment.tensors[id.index()];
    for (_, id) in graph.inputs() {
        // The host writes inputs before the graph runs and may rewrite them only after it.
        lives.insert((id, home(id)), (0, end));
    }
    for split in &plan.splits {
        for input in &split.inputs {
            lives.insert((input.tensor, split.device), (split.start, split.start));
            let root = graph.root(input.tensor);
            if let Some(life) = lives.get_mut(&(root, input.from)) {
                life.1 = life.1.max(split.start);
            }
        }
        let nodes = &graph.nodes[split.start..split.end];
        for (i, &end) in (split.start..).zip(&run_ends(graph, nodes, split.start)) {
            let node = &graph.nodes[i];
            if in_arena(node.dst) {
                lives.entry((graph.root(node.dst), split.device)).or_insert((i, end));
            }
            for &src in &node.src {
                // A copied view lives as itself; everything else lives as its owner.
                for key in [(src, split.device), (graph.root(src), split.device)] {
                    if let Some(life) = lives.get_mut(&key) {
                        life.1 = life.1.max(end);
                    }
                }
            }
        }
    }
    for &id in &graph.outputs {
        if let Some(life) = lives.get_mut(&(graph.root(id), home(id))) {
            life.1 = end;
        }
    }
    lives
}
