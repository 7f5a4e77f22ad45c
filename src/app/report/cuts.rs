//! From the sums of a way of cutting to the report's splits and reads.

use crate::base::event::{DeviceFact, DeviceIndex, NodeFact, SplitFact};
use crate::observe::session::{Cut, SplitSums, empty_sums};

use super::document::{
    InputReport, NodeReport, OpCount, PerToken, Phase, ReadReport, SplitReport, SyncCount,
};

/// What the host read in one phase.
pub(super) fn outputs(
    cut_sums: &Cut,
    phase: Phase,
    cut: u32,
    devices: &[DeviceFact],
) -> Vec<ReadReport> {
    let Some(sums) = cut_sums.phase(phase) else { return Vec::new() };
    let outputs = cut_sums.fact().outputs.iter().zip(&sums.outputs);
    let read = outputs.map(|(fact, o)| ReadReport {
        phase,
        cut,
        tensor: fact.tensor.clone(),
        from: device_name(devices, fact.from),
        copies: o.copies,
        copy_bytes: o.bytes,
        copy_ns: o.copy_ns,
        copy_bytes_per_token: o.bytes as f64 / sums.tokens.max(1) as f64,
    });
    read.collect()
}

/// The splits as planned, without times.
pub(super) fn plan_reports(
    cut_sums: &Cut,
    phase: Phase,
    devices: &[DeviceFact],
) -> Vec<SplitReport> {
    let splits = cut_sums.fact().splits.iter().enumerate();
    splits
        .map(|(index, fact)| {
            split_report((phase, 0, index as u32), fact, &empty_sums(fact), 0, devices)
        })
        .collect()
}

/// The splits of one phase; none when no ubatch of it ran by this cut.
pub(super) fn reports(
    cut_sums: &Cut,
    phase: Phase,
    cut: u32,
    devices: &[DeviceFact],
) -> Vec<SplitReport> {
    let Some(sums) = cut_sums.phase(phase) else { return Vec::new() };
    let splits = cut_sums.fact().splits.iter().zip(&sums.splits).enumerate();
    splits
        .map(|(index, (fact, split))| {
            let place = (phase, cut, index as u32);
            split_report(place, fact, split, sums.tokens, devices)
        })
        .collect()
}

/// A device's name; its number when the session never told it.
pub(super) fn device_name(devices: &[DeviceFact], index: DeviceIndex) -> String {
    let found = devices.iter().find(|d| d.index == index);
    found.map_or_else(|| format!("device {}", index.0), |d| d.name.clone())
}

fn split_report(
    (phase, cut, index): (Phase, u32, u32),
    fact: &SplitFact,
    sums: &SplitSums,
    tokens: u64,
    devices: &[DeviceFact],
) -> SplitReport {
    let inputs: Vec<InputReport> = fact
        .inputs
        .iter()
        .zip(&sums.inputs)
        .map(|(input, s)| InputReport {
            tensor: input.tensor.clone(),
            from: device_name(devices, input.from),
            bytes: s.bytes.checked_div(s.copies).unwrap_or(input.bytes),
            cause: input.cause.clone(),
            copies: s.copies,
            blocking: s.blocking,
            copy_ns: s.copy_ns,
        })
        .collect();
    let copy_ns = inputs.iter().map(|i| i.copy_ns).sum();
    let copy_bytes = sums.inputs.iter().map(|i| i.bytes).sum();
    let each = |total: u64| total as f64 / tokens.max(1) as f64;
    let node_name = |n: Option<&NodeFact>| n.map_or_else(String::new, |n| n.name.clone());
    SplitReport {
        phase,
        cut,
        index,
        device: device_name(devices, fact.device),
        is_virtual: devices.iter().any(|d| d.index == fact.device && d.is_virtual),
        nodes: fact.nodes.len() as u64,
        range: [node_name(fact.nodes.first()), node_name(fact.nodes.last())],
        cause: fact.cause.clone(),
        ops: op_counts(fact),
        weight_bytes: fact.nodes.iter().map(|n| n.weight_bytes).sum(),
        count: sums.count,
        wait_ns: sums.wait_ns,
        copy_ns,
        copy_bytes,
        compute_ns: sums.compute_ns,
        per_token: PerToken {
            wait_ns: each(sums.wait_ns),
            copy_ns: each(copy_ns),
            copy_bytes: each(copy_bytes),
            compute_ns: each(sums.compute_ns),
        },
        sync: sums.sync.iter().map(|(&sync, &count)| SyncCount { sync, count }).collect(),
        inputs,
        node_list: nodes(fact, sums),
    }
}

fn op_counts(fact: &SplitFact) -> Vec<OpCount> {
    let mut counts: Vec<OpCount> = Vec::new();
    for node in &fact.nodes {
        match counts.iter_mut().find(|c| c.op == node.op) {
            Some(found) => found.count += 1,
            None => counts.push(OpCount { op: node.op.clone(), count: 1 }),
        }
    }
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.op.cmp(&b.op)));
    counts
}

fn nodes(fact: &SplitFact, sums: &SplitSums) -> Vec<NodeReport> {
    let one = |(i, node): (usize, &NodeFact)| NodeReport {
        name: node.name.clone(),
        op: node.op.clone(),
        tag: node.tag.clone(),
        cause: node.cause.clone(),
        compute_ns: sums.nodes_ns.get(i).copied(),
    };
    fact.nodes.iter().enumerate().map(one).collect()
}
