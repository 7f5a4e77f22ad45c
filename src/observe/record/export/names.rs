//! What events are called outside: names of devices, tensors and subjects, found by number.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::counter::Subject;
use crate::base::event::{
    DeviceIndex, Event, InputFact, PlanFact, ServerState, Span, SpanKind, SplitFact, Step,
    SubjectFact,
};

/// What stands for the whole session, by number.
#[derive(Debug, Default)]
pub(super) struct Names {
    devices: BTreeMap<u8, String>,
    plans: BTreeMap<u32, Arc<PlanFact>>,
    /// The plan that each ubatch ran by. A ubatch's own span comes after those of its parts.
    plan_of: BTreeMap<u64, u32>,
    subjects: BTreeMap<Subject, Arc<SubjectFact>>,
}

impl Names {
    /// Takes what an event tells.
    pub(super) fn learn(&mut self, event: &Event) {
        match event {
            Event::Device(fact) => {
                self.devices.insert(fact.index.0, fact.name.clone());
            }
            Event::Plan(plan) => {
                self.plans.insert(plan.id, Arc::clone(plan));
            }
            Event::Subject(fact) => {
                self.subjects.insert(fact.subject, Arc::clone(fact));
            }
            Event::Span(Span { kind: SpanKind::Ubatch { ubatch, plan, .. }, .. }) => {
                self.plan_of.insert(*ubatch, *plan);
            }
            _ => {}
        }
    }

    pub(super) fn device(&self, index: DeviceIndex) -> String {
        let name = self.devices.get(&index.0);
        name.cloned().unwrap_or_else(|| format!("device {}", index.0))
    }

    pub(super) fn plan(&self, ubatch: u64) -> Option<&PlanFact> {
        self.plans.get(self.plan_of.get(&ubatch)?).map(Arc::as_ref)
    }

    pub(super) fn split(&self, ubatch: u64, split: u16) -> Option<&SplitFact> {
        self.plan(ubatch)?.splits.get(usize::from(split))
    }

    pub(super) fn input(&self, ubatch: u64, split: u16, input: u16) -> Option<&InputFact> {
        self.split(ubatch, split)?.inputs.get(usize::from(input))
    }

    /// A subject as a person knows it, with its number: `GPU 0 (Example)`.
    pub(super) fn subject(&self, subject: Subject) -> String {
        let plain = match subject {
            Subject::Host => "host".to_string(),
            Subject::Core(number) => format!("core {number}"),
            Subject::Process(id) => format!("process {id}"),
            Subject::Thread(id) => format!("thread {id}"),
            Subject::Gpu(number) => format!("GPU {number}"),
            Subject::GpuProcess { gpu, pid } => format!("process {pid} on GPU {gpu}"),
            Subject::Observer(source) => format!("observing: {}", source.name()),
            Subject::Server => "server".to_string(),
            Subject::Slot(number) => format!("slot {number}"),
        };
        match self.subjects.get(&subject).map(|s| s.name.as_str()).filter(|n| !n.is_empty()) {
            Some(name) => format!("{plain} ({name})"),
            None => plain,
        }
    }

    /// The name alone, if it is known.
    pub(super) fn name(&self, subject: Subject) -> Option<&str> {
        self.subjects.get(&subject).map(|s| s.name.as_str())
    }

    /// What a span is about, in few words.
    pub(super) fn span(&self, kind: &SpanKind) -> String {
        match kind {
            SpanKind::Load { stage } => format!("load: {stage:?}").to_lowercase(),
            SpanKind::Tokenise => "tokenise".to_string(),
            SpanKind::GraphBuild => "build graph".to_string(),
            SpanKind::Ubatch { prompt: true, .. } => "prompt ubatch".to_string(),
            SpanKind::Ubatch { .. } => "decode ubatch".to_string(),
            SpanKind::Wait { split, .. } => format!("wait before split {split}"),
            SpanKind::Copy { ubatch, split, input, .. } => {
                let tensor = self.input(*ubatch, *split, *input).map(|i| i.tensor.as_str());
                format!("copy {}", tensor.unwrap_or("tensor"))
            }
            SpanKind::Output { ubatch, output, .. } => {
                let outputs = self.plan(*ubatch).map(|p| &p.outputs);
                let fact = outputs.and_then(|o| o.get(usize::from(*output)));
                format!("read {}", fact.map_or("output", |f| f.tensor.as_str()))
            }
            SpanKind::Compute { split, .. } => format!("split {split}"),
            SpanKind::Node { ubatch, split, node } => {
                let nodes = self.split(*ubatch, *split).map(|s| &s.nodes);
                let fact = nodes.and_then(|n| n.get(usize::from(*node)));
                fact.map_or_else(|| format!("node {node}"), |f| format!("{} {}", f.op, f.name))
            }
            SpanKind::Sampling => "sampling".to_string(),
            SpanKind::Detokenise => "detokenise".to_string(),
        }
    }
}

/// What happened to a request, in few words; nothing for its tokens, of which there are many.
pub(super) fn step(step: &Step) -> Option<String> {
    match step {
        Step::Queued { prompt_tokens } => Some(format!("came with {prompt_tokens} tokens")),
        Step::Started { slot } => Some(format!("started in slot {slot}")),
        Step::Token | Step::Text(_) => None,
        Step::Ended { generated_tokens, .. } => {
            Some(format!("ended after {generated_tokens} tokens"))
        }
    }
}

/// How a server is.
pub(super) fn state(state: ServerState) -> &'static str {
    match state {
        ServerState::Up => "answers",
        ServerState::Loading => "is loading",
        ServerState::Down => "does not answer",
    }
}
