//! Watched sessions for tests of rules: built from the events that observers emit.

use std::sync::Arc;

use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{
    Absent, AbsentReason, DeviceFact, DeviceIndex, Event, InputFact, NodeFact, OutputFact,
    PlanFact, Sample, ServerFact, Span, SpanKind, SplitFact, SubjectFact, SyncKind, Track,
};
use crate::observe::session::Session;

use super::facts::Facts;

/// A session in the making.
pub(crate) struct Scene {
    pub session: Session,
    pub at_ns: u64,
    ubatch: u64,
}

/// What one split does in each ubatch, in microseconds.
#[derive(Clone, Copy)]
#[allow(clippy::struct_field_names, reason = "units stand last in a name")]
pub(crate) struct Work {
    pub wait_us: u64,
    pub copy_us: u64,
    pub compute_us: u64,
}

/// A split that only computes.
pub(crate) fn computes(us: u64) -> Work {
    Work { wait_us: 0, copy_us: 0, compute_us: us }
}

/// A split of whole layers.
pub(crate) fn split_of(
    device: u8,
    layers: std::ops::Range<u64>,
    inputs: &[(&str, u8, u64)],
) -> SplitFact {
    let node = |name: String, weight_bytes| NodeFact {
        name,
        op: "MUL_MAT".to_string(),
        tag: String::new(),
        cause: String::new(),
        ne: [1; 4],
        weight_bytes,
    };
    let mut nodes: Vec<NodeFact> = layers.map(|l| node(format!("ffn_out-{l}"), 1000)).collect();
    if nodes.is_empty() {
        nodes.push(node("inp_embd".to_string(), 0));
    }
    let input = |(tensor, from, bytes): &(&str, u8, u64)| InputFact {
        tensor: (*tensor).to_string(),
        from: DeviceIndex(*from),
        bytes: *bytes,
        cause: "the layer before it is there".to_string(),
    };
    let inputs = inputs.iter().map(input).collect();
    SplitFact { device: DeviceIndex(device), nodes, cause: "another device".to_string(), inputs }
}

impl Scene {
    pub(super) fn new() -> Self {
        Self { session: Session::new(), at_ns: 1_000_000_000, ubatch: 0 }
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts::of_session(&self.session)
    }

    /// A quarter of a second goes by.
    pub(super) fn tick(&mut self) -> &mut Self {
        self.at_ns += 250_000_000;
        self
    }

    pub(super) fn wait(&mut self, seconds: u64) -> &mut Self {
        self.at_ns += seconds * 1_000_000_000;
        self
    }

    pub(super) fn sample(&mut self, subject: Subject, counter: Counter, value: f64) -> &mut Self {
        self.session.take(&Event::Sample(Sample { at_ns: self.at_ns, subject, counter, value }));
        self
    }

    pub(super) fn name(&mut self, subject: Subject, name: &str) -> &mut Self {
        let fact = SubjectFact { subject, name: name.to_string(), details: Vec::new() };
        self.session.take(&Event::Subject(Arc::new(fact)));
        self
    }

    pub(super) fn absent(
        &mut self,
        source: Source,
        subject: Option<Subject>,
        reason: AbsentReason,
    ) -> &mut Self {
        let (text, hint) = ("it is not there".to_string(), "do something".to_string());
        let at_ns = self.at_ns;
        self.session.take(&Event::Absent(Absent {
            at_ns,
            source,
            subject,
            counter: None,
            reason,
            text,
            hint,
        }));
        self
    }

    pub(super) fn server(&mut self, server: ServerFact) -> &mut Self {
        self.session.take(&Event::Server(Arc::new(ServerFact { at_ns: self.at_ns, ..server })));
        self
    }

    /// Devices in the order of their indices; the last one is the CPU.
    pub(super) fn devices(&mut self, names: &[&str]) -> &mut Self {
        for (index, name) in names.iter().enumerate() {
            self.session.take(&Event::Device(DeviceFact {
                index: DeviceIndex(index as u8),
                name: (*name).to_string(),
                description: String::new(),
                is_virtual: name.starts_with("Virtual"),
                memory_bytes_total: 1 << 30,
                memory_bytes_free: 1 << 30,
            }));
        }
        self
    }

    pub(super) fn plan(&mut self, splits: Vec<SplitFact>) -> &mut Self {
        let n_nodes = splits.iter().map(|s| s.nodes.len() as u32).sum();
        let outputs: Vec<OutputFact> = Vec::new();
        let plan = PlanFact { id: 0, n_tokens: 1, n_nodes, splits, outputs };
        self.session.take(&Event::Plan(Arc::new(plan)));
        self
    }

    /// Ubatches of one token each by the plan, the splits one after the other.
    pub(super) fn ubatches(&mut self, count: u64, prompt: bool, work: &[Work]) -> &mut Self {
        for _ in 0..count {
            self.one_ubatch(prompt, work);
        }
        self
    }

    fn one_ubatch(&mut self, prompt: bool, work: &[Work]) {
        let (ubatch, start_ns) = (self.ubatch, self.at_ns);
        let plan = self.session.plans.get(&0).cloned();
        for (i, work) in work.iter().enumerate() {
            let split = i as u16;
            let fact = plan
                .as_ref()
                .and_then(|p| p.splits.get(i))
                .cloned()
                .unwrap_or_else(|| split_of(0, 0..0, &[]));
            let sync = SyncKind::BlockingCopy;
            self.part(SpanKind::Wait { ubatch, split, sync }, work.wait_us, 0);
            for (input, of) in fact.inputs.iter().enumerate() {
                let kind = SpanKind::Copy {
                    ubatch,
                    split,
                    input: input as u16,
                    from: of.from,
                    to: fact.device,
                    blocking: true,
                };
                self.part(kind, work.copy_us / fact.inputs.len() as u64, of.bytes);
            }
            self.part(SpanKind::Compute { ubatch, split }, work.compute_us, 0);
        }
        let kind = SpanKind::Ubatch { ubatch, plan: 0, capacity: 1, sequences: 1, prompt };
        let (track, end_ns) = (Track::Host, self.at_ns);
        self.session.take(&Event::Span(Span {
            track,
            kind,
            start_ns,
            end_ns,
            bytes: 0,
            tokens: 1,
        }));
        self.ubatch += 1;
    }

    fn part(&mut self, kind: SpanKind, us: u64, bytes: u64) {
        let (track, start_ns) = (Track::Host, self.at_ns);
        self.at_ns += us * 1000;
        let end_ns = self.at_ns;
        self.session.take(&Event::Span(Span { track, kind, start_ns, end_ns, bytes, tokens: 0 }));
    }
}
