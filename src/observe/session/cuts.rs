//! Sums per way of cutting a graph. Plans that cut alike (same devices, nodes and copies in each
//! split) are one cut, however many tokens they are for, so that memory stays bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::event::{Phase, PlanFact, Span, SpanKind, SplitFact, SyncKind};

/// Sums of one input of a split.
#[derive(Clone, Copy, Debug, Default)]
pub struct InputSums {
    /// Copies.
    pub copies: u64,
    /// Of these, those for which the host waited.
    pub blocking: u64,
    /// Bytes of all copies.
    pub bytes: u64,
    /// Time of all copies.
    pub copy_ns: u64,
}

/// Sums of one split in one phase.
#[derive(Clone, Debug, Default)]
pub struct SplitSums {
    /// How often it ran.
    pub count: u64,
    /// Waiting before it could start.
    pub wait_ns: u64,
    /// Computing.
    pub compute_ns: u64,
    /// Its inputs, in the plan's order.
    pub inputs: Vec<InputSums>,
    /// Its nodes, where these were timed one by one.
    pub nodes_ns: Vec<u64>,
    /// What ended its waits, and how often.
    pub sync: BTreeMap<SyncKind, u64>,
}

/// Sums of one output.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputSums {
    /// Reads.
    pub copies: u64,
    /// Bytes of all reads.
    pub bytes: u64,
    /// Time of all reads.
    pub copy_ns: u64,
}

/// Sums of one phase.
#[derive(Clone, Debug, Default)]
pub struct CutPhase {
    /// Tokens computed.
    pub tokens: u64,
    /// Time of all ubatches.
    pub total_ns: u64,
    /// The splits, in the plan's order.
    pub splits: Vec<SplitSums>,
    /// What the host reads, in the plan's order.
    pub outputs: Vec<OutputSums>,
}

/// What the split spans of one ubatch add up to.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_field_names, reason = "units stand last in a name")]
pub struct SplitTotals {
    /// Waiting.
    pub wait_ns: u64,
    /// Copying.
    pub copy_ns: u64,
    /// Computing.
    pub compute_ns: u64,
}

/// One way of cutting.
#[derive(Clone, Debug)]
pub struct Cut {
    fact: Arc<PlanFact>,
    phases: BTreeMap<Phase, CutPhase>,
}

impl Cut {
    /// A cut that nothing has run by yet.
    pub fn new(fact: Arc<PlanFact>) -> Self {
        Self { fact, phases: BTreeMap::new() }
    }

    /// The plan that stands for all that cut this way.
    pub fn fact(&self) -> &PlanFact {
        &self.fact
    }

    /// Whether a plan cuts the same way.
    pub fn is_like(&self, other: &PlanFact) -> bool {
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
    pub fn add(&mut self, phase: Phase, ubatch: &Span, spans: &[Span]) -> SplitTotals {
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
    pub fn total_ns(&self, phase: Phase) -> u64 {
        self.phases.get(&phase).map_or(0, |p| p.total_ns)
    }

    /// Sums of one phase; none when no ubatch of it ran by this cut.
    pub fn phase(&self, phase: Phase) -> Option<&CutPhase> {
        self.phases.get(&phase)
    }
}

/// A split that has not run.
pub fn empty_sums(fact: &SplitFact) -> SplitSums {
    SplitSums { inputs: vec![InputSums::default(); fact.inputs.len()], ..SplitSums::default() }
}

fn add_span(splits: &mut [SplitSums], span: &Span, totals: &mut SplitTotals) {
    let ns = span.duration_ns();
    match span.kind {
        SpanKind::Wait { split, sync, .. } => {
            let Some(sums) = splits.get_mut(split as usize) else { return };
            sums.wait_ns += ns;
            totals.wait_ns += ns;
            *sums.sync.entry(sync).or_default() += 1;
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
