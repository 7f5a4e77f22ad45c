//! Sums up events as they come, in memory that depends on the graph and not on the length of the
//! run.
//!
//! A ubatch's own span comes after those of its splits, so these wait until it tells by which plan
//! and for which phase they ran. A *step* reaches from the start of a ubatch, or of building its
//! graph, to the start of the next: what happens in between (sampling, text) belongs to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::event::{DeviceFact, Event, LoadStage, Phase, PlanFact, Span, SpanKind};

use super::cuts::Cut;
use super::stalls::Stalls;

/// Warnings that are kept.
const WARNINGS_MAX: usize = 256;

/// Spans that wait for their ubatch, at most; more than any graph makes.
const PENDING_MAX: usize = 1 << 18;

/// Loading, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadTimings {
    /// Opening the file, reading and checking its header.
    pub header_ns: u64,
    /// Building the tokenizer.
    pub tokenizer_ns: u64,
    /// Putting weights into the devices' buffers.
    pub weights_ns: u64,
    /// Bytes of these weights.
    pub weight_bytes: u64,
    /// Allocating the KV cache and the compute buffers.
    pub reserve_ns: u64,
    /// Compiling kernels for these very devices, which drivers do once and then remember.
    #[serde(default)]
    pub kernels_ns: u64,
    /// Everything together, but for what goes on in the background.
    pub total_ns: u64,
    /// Reading mapped weights into memory in the background; 0 while that goes on, or where nothing
    /// is read ahead.
    #[serde(default)]
    pub read_ahead_ns: u64,
    /// Bytes that were in memory at its end.
    #[serde(default)]
    pub read_ahead_bytes: u64,
}

/// The parts of a phase's time, over all its ubatches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseParts {
    /// Building, cutting and allocating graphs that were not cached.
    pub graph_ns: u64,
    /// Writing the graph's inputs.
    pub inputs_ns: u64,
    /// Splits waiting.
    pub wait_ns: u64,
    /// Copies between devices.
    pub copy_ns: u64,
    /// Splits computing.
    pub compute_ns: u64,
    /// Reading the logits.
    pub logits_ns: u64,
    /// Choosing tokens.
    pub sampling_ns: u64,
    /// Tokens to text.
    pub detokenise_ns: u64,
    /// What no span covers: batching, printing, waiting for the terminal.
    pub unaccounted_ns: u64,
}

/// Sums of one phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhaseSums {
    /// Tokens computed.
    pub tokens: u64,
    /// Tokens that would have fitted.
    pub capacity: u64,
    /// Sequences, summed over ubatches.
    pub sequences: u64,
    /// Ubatches.
    pub ubatches: u64,
    /// Wall time, of all steps.
    pub total_ns: u64,
    /// Where that went; `unaccounted_ns` stays 0.
    pub parts: PhaseParts,
}

/// What happened up to the first token.
#[allow(clippy::struct_field_names, reason = "units last in a name")]
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstToken {
    /// When loading began.
    pub start_ns: Option<u64>,
    /// Building graphs until then.
    pub graph_ns: u64,
    /// Computing ubatches until then.
    pub prompt_ns: u64,
    /// Choosing it.
    pub sample_ns: u64,
    /// When the token was there; nothing is added after that.
    pub end_ns: Option<u64>,
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
pub struct Sums {
    /// The devices, in the order in which they were told.
    pub devices: Vec<DeviceFact>,
    /// Ways in which graphs were cut, in the order in which they came.
    pub cuts: Vec<Cut>,
    /// Loading.
    pub load: LoadTimings,
    /// Text to tokens.
    pub tokenise_ns: u64,
    /// What makes the figures worse; the first ones of very many.
    pub warnings: Vec<String>,
    /// The way to the first token.
    pub first: FirstToken,
    /// Sums by phase.
    pub phases: BTreeMap<Phase, PhaseSums>,
    /// Whether nodes were timed one by one.
    pub per_node: bool,
    /// What devices waited for.
    pub stalls: Stalls,
    /// Index into `cuts` by plan id.
    cut_of_plan: BTreeMap<u32, usize>,
    pending: Vec<Span>,
    step: Option<Step>,
    /// Start of building the next ubatch's graph, and how long that took.
    building: Option<(u64, u64)>,
}

impl Sums {
    /// Takes what an event tells.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Device(device) => self.devices.push(device.clone()),
            Event::Plan(plan) => self.plan(Arc::clone(plan)),
            Event::Span(span) => self.span(span),
            Event::Warning(warning) if self.warnings.len() < WARNINGS_MAX => {
                self.warnings.push(warning.text.clone());
            }
            // Sums are of spans.
            _ => {}
        }
    }

    /// As if the session ended now: a step that has not ended counts up to its last span.
    pub fn close(&mut self) {
        self.close_step(u64::MAX);
    }

    fn plan(&mut self, plan: Arc<PlanFact>) {
        let known = self.cuts.iter().position(|c| c.is_like(&plan));
        let at = known.unwrap_or(self.cuts.len());
        self.cut_of_plan.insert(plan.id, at);
        if known.is_none() {
            self.cuts.push(Cut::new(plan));
        }
    }

    fn span(&mut self, span: &Span) {
        let ns = span.duration_ns();
        self.first.span(span);
        match span.kind {
            SpanKind::Load { stage } => self.load(stage, ns, span.bytes),
            SpanKind::Tokenise => self.tokenise_ns += ns,
            SpanKind::GraphBuild => {
                self.close_step(span.start_ns);
                let (start_ns, before) = self.building.unwrap_or((span.start_ns, 0));
                self.building = Some((start_ns, before + ns));
            }
            SpanKind::Ubatch { .. } => self.ubatch(span),
            SpanKind::Sampling => self.host(span, |parts| parts.sampling_ns += ns),
            SpanKind::Detokenise => self.host(span, |parts| parts.detokenise_ns += ns),
            SpanKind::Node { .. }
            | SpanKind::Wait { .. }
            | SpanKind::Copy { .. }
            | SpanKind::Output { .. }
            | SpanKind::Compute { .. } => {
                self.per_node |= matches!(span.kind, SpanKind::Node { .. });
                // Beyond the limit a span is dropped, and its time shows as unaccounted.
                if self.pending.len() < PENDING_MAX {
                    self.pending.push(span.clone());
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
