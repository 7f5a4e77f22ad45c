//! Pass 5: cuts the placed nodes into splits and finds what each split must be given.

use std::collections::HashSet;

use crate::base::event::DeviceIndex;
use crate::engine::graph::{Graph, Node, Op, Role, TensorId};

use super::assign::{Assignment, Capabilities, Residence, Unplaceable, assign};

/// A tensor that a split needs and another device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitInput {
    /// The tensor.
    pub tensor: TensorId,
    /// The device that has it.
    pub from: DeviceIndex,
}

/// Why a split begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// It is the first.
    Graph,
    /// Its first node is on another device than the node before.
    OtherDevice,
    /// Its first node needs another weight brought over; a new split lets its memory be reused.
    AnotherWeight,
    /// Its first node waits for other devices, which the nodes before it need not do.
    Gather,
}

/// Consecutive nodes that one device executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The device.
    pub device: DeviceIndex,
    /// Its first node.
    pub start: usize,
    /// One past its last node.
    pub end: usize,
    /// What is copied to the device first.
    pub inputs: Vec<SplitInput>,
    /// Why it begins where it does.
    pub begins: Begins,
}

/// A graph, cut.
#[derive(Clone, Debug)]
pub struct SplitPlan {
    /// Device and cause of every node, home of every tensor.
    pub assignment: Assignment,
    /// The splits in execution order.
    pub splits: Vec<Split>,
}

/// Cuts `graph` for these devices. Allocates nothing on any of them.
///
/// # Errors
/// When no device supports a node.
pub fn split(
    graph: &Graph,
    residence: &Residence,
    devices: &dyn Capabilities,
) -> Result<SplitPlan, Unplaceable> {
    let assignment = assign(graph, residence, devices)?;
    let mut splits: Vec<Split> = Vec::new();
    // A tensor that reached a device once stays there for the rest of the graph.
    let mut arrived: HashSet<(TensorId, DeviceIndex)> = HashSet::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let device = assignment.nodes[i].0;
        let begins = match splits.last() {
            None => Some(Begins::Graph),
            Some(current) if current.device != device => Some(Begins::OtherDevice),
            // What is copied to a split is copied before its first node.
            Some(current) if node.op == Op::Concat => {
                let gathers = graph.nodes[current.start..i].iter().all(|n| n.op == Op::Concat);
                let waits = foreign(graph, &assignment, devices, node, device)
                    .any(|t| !arrived.contains(&(t, device)));
                (waits && !gathers).then_some(Begins::Gather)
            }
            Some(current) if !current.inputs.is_empty() => {
                let needs_weight = foreign(graph, &assignment, devices, node, device).any(|t| {
                    matches!(graph.tensor(t).role, Role::Weight(_))
                        && !arrived.contains(&(t, device))
                });
                needs_weight.then_some(Begins::AnotherWeight)
            }
            Some(_) => None,
        };
        if let Some(begins) = begins {
            splits.push(Split { device, start: i, end: i, inputs: Vec::new(), begins });
        }
        let Some(current) = splits.last_mut() else { continue };
        current.end = i + 1;
        for tensor in foreign(graph, &assignment, devices, node, device) {
            if arrived.insert((tensor, device)) {
                let from = assignment.tensors[tensor.index()];
                current.inputs.push(SplitInput { tensor, from });
            }
        }
    }
    Ok(SplitPlan { assignment, splits })
}

/// The operands of `node` that `device` cannot read where they are.
fn foreign<'a>(
    graph: &'a Graph,
    assignment: &'a Assignment,
    devices: &'a dyn Capabilities,
    node: &'a Node,
    device: DeviceIndex,
) -> impl Iterator<Item = TensorId> + 'a {
    // The cache that a node writes is its result, not something to bring.
    let result = graph.root(node.dst);
    node.src.iter().copied().filter(move |&t| {
        let home = assignment.tensors[t.index()];
        graph.root(t) != result && !devices.shares_memory(home, device)
    })
}
