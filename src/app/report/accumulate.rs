//! Sums up events as they come, in memory that depends on the graph and not on the length of the
//! run.
//!
//! A ubatch's own span comes after those of its splits, so these wait until it tells by which plan
//! and for which phase they ran. A *step* reaches from the start of a ubatch, or of building its
//! graph, to the start of the next: what happens in between (sampling, text) belongs to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::event::{DeviceFact, Event, LoadStage, PlanFact, Span, SpanKind};
use crate::base::sink::Sink;

use super::cuts::Cut;
use super::document::{LoadTimings, Phase, PhaseParts};
use super::stalls::Stalls;

/// Spans that wait for their ubatch, at most; more than any graph makes.
const PENDING_MAX: usize = 1 << 18;

/// Sums of one phase.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PhaseSums {
    pub(super) tokens: u64,
    pub(super) capacity: u64,
    pub(super) sequences: u64,
    pub(super) ubatches: u64,
    pub(super) total_ns: u64,
    pub(super) parts: PhaseParts,
}

/// What happened up to the first token.
#[allow(clippy::struct_field_names, reason = "units last in a name")]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FirstToken {
    /// When loading began.
    pub(super) start_ns: Option<u64>,
    pub(super) graph_ns: u64,
    pub(super) prompt_ns: u64,
    pub(super) sample_ns: u64,
    /// When the token was there; nothing is added after that.
    pub(super) end_ns: Option<u64>,
}

impl FirstToken {
    fn span(&mut self, span: &Span) {
        if self.end_ns.is_some() {
            return;
        }
        let ns = span.duration_ns();
        match span.kind {
            SpanKind::Load { stage } if stage != LoadStage::ReadAhead => {
                self.start_ns.get_or_insert(span.start_ns);
            }
            SpanKind::GraphBuild => self.graph_ns += ns,
            SpanKind::Ubatch { .. } => self.prompt_ns += ns,
            SpanKind::Sampling => {
                self.sample_ns = ns;
                self.end_ns = Some(span.end_ns);
            }
            _ => {}
        }
    }
}

/// A step that has not ended yet.
#[derive(Clone, Copy, Debug)]
struct Step {
    phase: Phase,
    start_ns: u64,
    last_ns: u64,
}

/// Everything that was summed up.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) devices: Vec<DeviceFact>,
    pub(super) cuts: Vec<Cut>,
    pub(super) load: LoadTimings,
    pub(super) tokenise_ns: u64,
    pub(super) warnings: Vec<String>,
    pub(super) first: FirstToken,
    pub(super) phases: BTreeMap<Phase, PhaseSums>,
    pub(super) per_node: bool,
    pub(super) stalls: Stalls,
    /// Index into `cuts` by plan id.
    cut_of_plan: BTreeMap<u32, usize>,
    pending: Vec<Span>,
    step: Option<Step>,
    /// Start of building the next ubatch's graph, and how long that took.
    building: Option<(u64, u64)>,
}

/// A sink that sums up.
#[derive(Debug, Default)]
pub struct Accumulator {
    sums: Mutex<Sums>,
}

impl Accumulator {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sums so far; a step that has not ended counts up to its last span.
    pub(super) fn snapshot(&self) -> Sums {
        let mut sums = self.lock().clone();
        sums.close_step(u64::MAX);
        sums
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Accumulator {
    fn record(&self, event: Event) {
        let mut sums = self.lock();
        match event {
            Event::Device(device) => sums.devices.push(device),
            Event::Plan(plan) => sums.plan(plan),
            Event::Span(span) => sums.span(span),
            Event::Warning(warning) => sums.warnings.push(warning.text),
            // A report is of spans; what counters tell is the dashboard's and the rules'.
            Event::Subject(_) | Event::Sample(_) | Event::Absent(_) => {}
        }
    }
}

impl Sums {
    fn plan(&mut self, plan: Arc<PlanFact>) {
        let known = self.cuts.iter().position(|c| c.is_like(&plan));
        let at = known.unwrap_or(self.cuts.len());
        self.cut_of_plan.insert(plan.id, at);
        if known.is_none() {
            self.cuts.push(Cut::new(plan));
        }
    }

    fn span(&mut self, span: Span) {
        let ns = span.duration_ns();
        self.first.span(&span);
        match span.kind {
            SpanKind::Load { stage } => self.load(stage, ns, span.bytes),
            SpanKind::Tokenise => self.tokenise_ns += ns,
            SpanKind::GraphBuild => {
                self.close_step(span.start_ns);
                let (start_ns, before) = self.building.unwrap_or((span.start_ns, 0));
                self.building = Some((start_ns, before + ns));
            }
            SpanKind::Ubatch { .. } => self.ubatch(&span),
            SpanKind::Sampling => self.host(&span, |parts| parts.sampling_ns += ns),
            SpanKind::Detokenise => self.host(&span, |parts| parts.detokenise_ns += ns),
            SpanKind::Node { .. }
            | SpanKind::Wait { .. }
            | SpanKind::Copy { .. }
            | SpanKind::Output { .. }
            | SpanKind::Compute { .. } => {
                self.per_node |= matches!(span.kind, SpanKind::Node { .. });
                // Beyond the limit a span is dropped, and its time shows as unaccounted.
                if self.pending.len() < PENDING_MAX {
                    self.pending.push(span);
                }
            }
        }
    }

    fn load(&mut self, stage: LoadStage, ns: u64, bytes: u64) {
        let load = &mut self.load;
        match stage {
            LoadStage::Header => load.header_ns += ns,
            LoadStage::Tokenizer => load.tokenizer_ns += ns,
            LoadStage::Weights => {
                load.weights_ns += ns;
                load.weight_bytes += bytes;
            }
            LoadStage::Reserve => load.reserve_ns += ns,
            LoadStage::Kernels => load.kernels_ns += ns,
            LoadStage::ReadAhead => {
                load.read_ahead_ns += ns;
                load.read_ahead_bytes += bytes;
                return; // beside the others, not after them
            }
        }
        load.total_ns += ns;
    }

    fn ubatch(&mut self, span: &Span) {
        let SpanKind::Ubatch { ubatch, plan, capacity, sequences, prompt } = span.kind else {
            return;
        };
        let phase = if prompt { Phase::Prompt } else { Phase::Decode };
        let (start_ns, graph_ns) = self.building.take().unwrap_or((span.start_ns, 0));
        self.close_step(start_ns);
        self.step = Some(Step { phase, start_ns, last_ns: span.end_ns });
        let mut spans = std::mem::take(&mut self.pending);
        spans.retain(|s| ubatch_of(s) == Some(ubatch));
        let first_ns = spans.iter().map(|s| s.start_ns).min();
        // What the host reads at the end is its time for logits.
        let of_splits = spans.iter().filter(|s| !matches!(s.kind, SpanKind::Output { .. }));
        let last_ns = of_splits.map(|s| s.end_ns).max();
        let number = self.cut_of_plan.get(&plan).copied().unwrap_or(usize::MAX);
        let cut = self.cuts.get_mut(number);
        let splits = cut.map(|c| c.add(phase, span, &spans)).unwrap_or_default();
        if let Some(cut) = self.cuts.get(number) {
            self.stalls.add(phase, (number, cut), span, &spans, &self.devices);
        }
        let sums = self.phases.entry(phase).or_default();
        sums.tokens += u64::from(span.tokens);
        sums.capacity += u64::from(capacity);
        sums.sequences += u64::from(sequences);
        sums.ubatches += 1;
        sums.parts.graph_ns += graph_ns;
        sums.parts.inputs_ns += first_ns.map_or(0, |ns| ns.saturating_sub(span.start_ns));
        sums.parts.logits_ns += last_ns.map_or(0, |ns| span.end_ns.saturating_sub(ns));
        sums.parts.wait_ns += splits.wait_ns;
        sums.parts.copy_ns += splits.copy_ns;
        sums.parts.compute_ns += splits.compute_ns;
    }

    /// Adds host work after a ubatch to the ubatch's phase.
    fn host(&mut self, span: &Span, add: impl FnOnce(&mut PhaseParts)) {
        let Some(step) = &mut self.step else { return };
        step.last_ns = step.last_ns.max(span.end_ns);
        add(&mut self.phases.entry(step.phase).or_default().parts);
    }

    /// Ends the step that runs, at `end_ns` or at its last span, whichever is earlier known.
    fn close_step(&mut self, end_ns: u64) {
        let Some(step) = self.step.take() else { return };
        let end_ns = if end_ns == u64::MAX { step.last_ns } else { end_ns };
        let sums = self.phases.entry(step.phase).or_default();
        sums.total_ns += end_ns.saturating_sub(step.start_ns);
    }
}

fn ubatch_of(span: &Span) -> Option<u64> {
    match span.kind {
        SpanKind::Wait { ubatch, .. }
        | SpanKind::Copy { ubatch, .. }
        | SpanKind::Output { ubatch, .. }
        | SpanKind::Compute { ubatch, .. }
        | SpanKind::Node { ubatch, .. } => Some(ubatch),
        _ => None,
    }
}
