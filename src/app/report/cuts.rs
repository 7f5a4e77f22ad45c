//! Sums per way of cutting a graph. Plans that cut alike (same devices, nodes and copies in each
//! split) are one cut, however many tokens they are for, so that memory stays bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::event::{DeviceFact, DeviceIndex, PlanFact, Span, SpanKind, SplitFact, SyncKind};

use super::document::{
    InputReport, NodeReport, OpCount, PerToken, Phase, ReadReport, SplitReport, SyncCount,
};

/// Sums of one input of a split.
#[derive(Clone, Copy, Debug, Default)]
struct InputSums {
    copies: u64,
    blocking: u64,
    bytes: u64,
    copy_ns: u64,
}

/// Sums of one split in one phase.
#[derive(Clone, Debug, Default)]
struct SplitSums {
    count: u64,
    wait_ns: u64,
    compute_ns: u64,
    inputs: Vec<InputSums>,
    nodes_ns: Vec<u64>,
    sync: Vec<SyncCount>,
}

/// Sums of one output.
#[derive(Clone, Copy, Debug, Default)]
struct OutputSums {
    copies: u64,
    bytes: u64,
    copy_ns: u64,
}

/// Sums of one phase.
#[derive(Clone, Debug, Default)]
struct CutPhase {
    tokens: u64,
    total_ns: u64,
    splits: Vec<SplitSums>,
    outputs: Vec<OutputSums>,
}

/// What the split spans of one ubatch add up to.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_field_names, reason = "units stand last in a name")]
pub(super) struct SplitTotals {
    pub(super) wait_ns: u64,
    pub(super) copy_ns: u64,
    pub(super) compute_ns: u64,
}

/// One way of cutting.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    fact: Arc<PlanFact>,
    phases: BTreeMap<Phase, CutPhase>,
}

impl Cut {
    pub(super) fn new(fact: Arc<PlanFact>) -> Self {
        Self { fact, phases: BTreeMap::new() }
    }

    /// The plan that stands for all that cut this way.
    pub(super) fn fact(&self) -> &PlanFact {
        &self.fact
    }

    /// Whether a plan cuts the same way.
    pub(super) fn is_like(&self, other: &PlanFact) -> bool {
        let alike = |(a, b): (&SplitFact, &SplitFact)| {
            a.device == b.device
                && a.nodes.len() == b.nodes.len()
                && a.inputs.len() == b.inputs.len()
                && a.inputs.iter().zip(&b.inputs).all(|(x, y)| x.tensor == y.tensor)
        };
        self.fact.splits.len() == other.splits.len()
            && self.fact.outputs == other.outputs
            && self.fact.splits.iter().zip(&other.splits).all(alike)
    }

    /// Adds the spans of one ubatch.
    pub(super) fn add(&mut self, phase: Phase, ubatch: &Span, spans: &[Span]) -> SplitTotals {
        let sums = self.phases.entry(phase).or_default();
        if sums.splits.is_empty() {
            sums.splits = self.fact.splits.iter().map(empty_sums).collect();
            sums.outputs = vec![OutputSums::default(); self.fact.outputs.len()];
        }
        sums.tokens += u64::from(ubatch.tokens);
        sums.total_ns += ubatch.duration_ns();
        let mut totals = SplitTotals::default();
        for span in spans {
            match span.kind {
                SpanKind::Output { output, .. } => {
                    let Some(sums) = sums.outputs.get_mut(output as usize) else { continue };
                    sums.copies += 1;
                    sums.bytes += span.bytes;
                    sums.copy_ns += span.duration_ns();
                }
                _ => add_span(&mut sums.splits, span, &mut totals),
            }
        }
        totals
    }

    /// Time of all ubatches of a phase, 0 when there was none.
    pub(super) fn total_ns(&self, phase: Phase) -> u64 {
        self.phases.get(&phase).map_or(0, |p| p.total_ns)
    }

    /// What the host read in one phase.
    pub(super) fn outputs(
        &self,
        phase: Phase,
        cut: u32,
        devices: &[DeviceFact],
    ) -> Vec<ReadReport> {
        let Some(sums) = self.phases.get(&phase) else { return Vec::new() };
        let outputs = self.fact.outputs.iter().zip(&sums.outputs);
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
    pub(super) fn plan_reports(&self, phase: Phase, devices: &[DeviceFact]) -> Vec<SplitReport> {
        let splits = self.fact.splits.iter().enumerate();
        splits
            .map(|(index, fact)| {
                split_report((phase, 0, index as u32), fact, &empty_sums(fact), 0, devices)
            })
            .collect()
    }

    /// The splits of one phase; none when no ubatch of it ran by this cut.
    pub(super) fn reports(
        &self,
        phase: Phase,
        cut: u32,
        devices: &[DeviceFact],
    ) -> Vec<SplitReport> {
        let Some(sums) = self.phases.get(&phase) else { return Vec::new() };
        let splits = self.fact.splits.iter().zip(&sums.splits).enumerate();
        splits
            .map(|(index, (fact, split))| {
                let place = (phase, cut, index as u32);
                split_report(place, fact, split, sums.tokens, devices)
            })
            .collect()
    }
}

fn empty_sums(fact: &SplitFact) -> SplitSums {
    SplitSums { inputs: vec![InputSums::default(); fact.inputs.len()], ..SplitSums::default() }
}

fn add_span(splits: &mut [SplitSums], span: &Span, totals: &mut SplitTotals) {
    let ns = span.duration_ns();
    match span.kind {
        SpanKind::Wait { split, sync, .. } => {
            let Some(sums) = splits.get_mut(split as usize) else { return };
            sums.wait_ns += ns;
            totals.wait_ns += ns;
            count_sync(&mut sums.sync, sync);
        }
        SpanKind::Copy { split, input, blocking, .. } => {
            let sums = splits.get_mut(split as usize);
            let Some(sums) = sums.and_then(|s| s.inputs.get_mut(input as usize)) else { return };
            sums.copies += 1;
            sums.blocking += u64::from(blocking);
            sums.bytes += span.bytes;
            sums.copy_ns += ns;
            totals.copy_ns += ns;
        }
        SpanKind::Compute { split, .. } => {
            let Some(sums) = splits.get_mut(split as usize) else { return };
            sums.count += 1;
            sums.compute_ns += ns;
            totals.compute_ns += ns;
        }
        SpanKind::Node { split, node, .. } => {
            let Some(sums) = splits.get_mut(split as usize) else { return };
            let node = node as usize;
            if sums.nodes_ns.len() <= node {
                sums.nodes_ns.resize(node + 1, 0);
            }
            sums.nodes_ns[node] += ns;
        }
        _ => {}
    }
}

fn count_sync(counts: &mut Vec<SyncCount>, sync: SyncKind) {
    match counts.iter_mut().find(|c| c.sync == sync) {
        Some(found) => found.count += 1,
        None => counts.push(SyncCount { sync, count: 1 }),
    }
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
    let node_name =
        |n: Option<&crate::base::event::NodeFact>| n.map_or_else(String::new, |n| n.name.clone());
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
        sync: sums.sync.clone(),
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
    let one = |(i, node): (usize, &crate::base::event::NodeFact)| NodeReport {
        name: node.name.clone(),
        op: node.op.clone(),
        tag: node.tag.clone(),
        cause: node.cause.clone(),
        compute_ns: sums.nodes_ns.get(i).copied(),
    };
    fact.nodes.iter().enumerate().map(one).collect()
}
