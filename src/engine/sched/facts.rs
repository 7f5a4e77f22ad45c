//! Tells how a graph was cut, in words that need no knowledge of the graph.

use crate::base::event::{DeviceIndex, InputFact, NodeFact, OutputFact, PlanFact, SplitFact};
use crate::engine::graph::{Graph, InputKind, Role, TensorId};

use super::assign::Residence;
use super::cause::{Cause, Names};
use super::compute::weight_bytes;
use super::cut::{Begins, Split, SplitInput, SplitPlan};

/// The fact about a plan; its id is 0 until the scheduler numbers it.
pub fn plan_fact(
    graph: &Graph,
    plan: &SplitPlan,
    residence: &Residence,
    devices: &[String],
) -> PlanFact {
    let names = Names { devices, residence };
    let tokens = graph.inputs().find(|(kind, _)| *kind == InputKind::Tokens);
    PlanFact {
        id: 0,
        n_tokens: tokens.map_or(0, |(_, id)| graph.tensor(id).ne[0] as u32),
        n_nodes: graph.nodes.len() as u32,
        splits: plan.splits.iter().map(|s| split_fact(graph, plan, s, &names)).collect(),
        outputs: foreign_outputs(graph, plan, devices.len())
            .map(|(id, from)| OutputFact { tensor: names.tensor(graph, id), from })
            .collect(),
    }
}

/// The outputs that are not on the CPU, with their devices.
pub(super) fn foreign_outputs<'a>(
    graph: &'a Graph,
    plan: &'a SplitPlan,
    n_devices: usize,
) -> impl Iterator<Item = (TensorId, DeviceIndex)> + 'a {
    let homes = graph.outputs.iter().map(|&id| (id, plan.assignment.tensors[id.index()]));
    homes.filter(move |(_, home)| home.0 as usize + 1 != n_devices)
}

fn split_fact(graph: &Graph, plan: &SplitPlan, split: &Split, names: &Names<'_>) -> SplitFact {
    let nodes = (split.start..split.end)
        .map(|i| {
            let node = &graph.nodes[i];
            let (device, cause) = &plan.assignment.nodes[i];
            NodeFact {
                name: graph.tensor(node.dst).name.to_string(),
                op: node.op.name().to_string(),
                tag: cause.tag(),
                cause: cause.text(graph, node, *device, names),
                ne: graph.tensor(node.dst).ne,
                weight_bytes: weight_bytes(graph, &node.src),
            }
        })
        .collect::<Vec<_>>();
    let inputs = split.inputs.iter().map(|&i| input_fact(graph, split, i, names)).collect();
    let why = origin(graph, plan, split.start, names);
    let first = nodes.first().map(|n| format!("{} ({}) {why}", n.name, n.op));
    let first = first.unwrap_or_default();
    let cause = match split.begins {
        Begins::Graph => format!("the graph begins: {first}"),
        Begins::OtherDevice => first,
        Begins::Gather => format!("other devices compute meanwhile: {first}"),
        Begins::AnotherWeight => {
            format!(
                "another host weight is brought over and may reuse the last one's memory: {first}"
            )
        }
    };
    SplitFact { device: split.device, nodes, cause, inputs }
}

/// Why a node is where it is, traced through the neighbours that it follows to the one that was
/// placed for a reason of its own.
fn origin(graph: &Graph, plan: &SplitPlan, node: usize, names: &Names<'_>) -> String {
    let text = |i: usize| {
        let (device, cause) = &plan.assignment.nodes[i];
        cause.text(graph, &graph.nodes[i], *device, names)
    };
    let mut at = node;
    // Each step leads to a node that was placed earlier, so the walk ends.
    while let Cause::Expanded { neighbour } = plan.assignment.nodes[at].1 {
        at = neighbour;
    }
    if at == node {
        return text(node);
    }
    format!("follows {}, which {}", names.tensor(graph, graph.nodes[at].dst), text(at))
}

fn input_fact(graph: &Graph, split: &Split, input: SplitInput, names: &Names<'_>) -> InputFact {
    let tensor = graph.tensor(input.tensor);
    let (from, to) = (names.device(input.from), names.device(split.device));
    let cause = match tensor.role {
        Role::Input(_) => format!("the host writes it, {to} needs it"),
        Role::Weight(_) => format!("a weight in {from} memory that {to} computes with"),
        Role::Cache(_) => format!("the KV cache is on {from}, attention runs on {to}"),
        Role::Result => format!("computed on {from}, needed on {to}"),
    };
    InputFact {
        tensor: names.tensor(graph, named(graph, input.tensor)),
        from: input.from,
        bytes: tensor.span_bytes() as u64,
        cause,
    }
}

/// A view without a role of its own is known by its owner's name.
fn named(graph: &Graph, id: TensorId) -> TensorId {
    match graph.tensor(id).role {
        Role::Cache(_) | Role::Weight(_) => graph.root(id),
        _ => id,
    }
}
