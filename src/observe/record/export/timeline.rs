//! A session as a timeline: tracks with slices that nest, marks and counters, for the formats that
//! draw one.
//!
//! Slices of one track must nest, so one that overlaps another is moved to a further track of the same
//! name: that happens where copies run beside each other.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::base::event::{Event, Sample, Span, SpanKind, SyncKind, Track};

use super::names::{self, Names};

/// Where a slice is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Host,
    Background,
    Work(u8),
    Copies(u8),
}

/// A track of the engine's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrackName {
    /// Its number, from 1.
    pub tid: u64,
    /// What a person reads.
    pub name: String,
}

/// A session, sorted.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub names: Names,
    /// Tracks in the order in which they are first used.
    pub tracks: Vec<TrackName>,
    /// Spans by their start, the longest of those that begin together first, each with its track.
    pub slices: Vec<(u64, Span)>,
    /// What happened at one time, with the time.
    pub marks: Vec<(u64, String)>,
    /// In the order in which they came; those that are no number are left out.
    pub samples: Vec<Sample>,
}

impl Timeline {
    /// Reads a session to its end. Spans are held in memory, because they must be sorted.
    pub(super) fn read(events: impl Iterator<Item = Event>) -> Self {
        let (mut line, mut spans) = (Self::default(), Vec::new());
        for event in events {
            line.names.learn(&event);
            match event {
                Event::Span(span) => spans.push(span),
                Event::Sample(sample) if sample.value.is_finite() => line.samples.push(sample),
                Event::Sample(_) => {}
                other => line.marks.extend(mark(&line.names, other)),
            }
        }
        line.place(spans);
        line
    }

    fn place(&mut self, mut spans: Vec<Span>) {
        spans.sort_by_key(|s| (s.start_ns, std::cmp::Reverse(s.end_ns)));
        let mut lanes: BTreeMap<Lane, Vec<Open>> = BTreeMap::new();
        for span in spans {
            let lane = lane(&span);
            let tracks = lanes.entry(lane).or_default();
            let taken = tracks.iter_mut().find_map(|open| open.takes(&span).then_some(open.tid));
            let tid = taken.unwrap_or(self.tracks.len() as u64 + 1);
            if taken.is_none() {
                tracks.push(Open { tid, ends_ns: vec![span.end_ns] });
                let name = lane_name(&self.names, lane, tracks.len());
                self.tracks.push(TrackName { tid, name });
            }
            self.slices.push((tid, span));
        }
    }
}

/// What an event that is neither a span nor a sample shows on the timeline.
fn mark(names: &Names, event: Event) -> Option<(u64, String)> {
    match event {
        Event::Warning(warning) => Some((warning.at_ns, warning.text)),
        Event::Absent(absent) => {
            let what = absent.subject.map(|s| names.subject(s)).unwrap_or_default();
            Some((absent.at_ns, format!("{} {what}: {}", absent.source.name(), absent.text)))
        }
        Event::Line(line) => Some((line.at_ns, line.text)),
        Event::Request(step) => {
            let what = names::step(&step.step)?;
            Some((step.at_ns, format!("request {} {what}", step.request)))
        }
        Event::Server(server) => {
            Some((server.at_ns, format!("{} {}", server.url, names::state(server.state))))
        }
        _ => None,
    }
}

fn lane(span: &Span) -> Lane {
    match (span.track, &span.kind) {
        (Track::Host, _) => Lane::Host,
        (Track::Background, _) => Lane::Background,
        (Track::Device(device), SpanKind::Copy { .. } | SpanKind::Output { .. }) => {
            Lane::Copies(device.0)
        }
        (Track::Device(device), _) => Lane::Work(device.0),
    }
}

/// Ends of the slices that are open on one track.
#[derive(Debug, Default)]
struct Open {
    tid: u64,
    ends_ns: Vec<u64>,
}

impl Open {
    /// Takes a slice if it lies inside those that are open or behind them.
    fn takes(&mut self, span: &Span) -> bool {
        while self.ends_ns.last().is_some_and(|end_ns| *end_ns <= span.start_ns) {
            self.ends_ns.pop();
        }
        let fits = self.ends_ns.last().is_none_or(|end_ns| span.end_ns <= *end_ns);
        if fits {
            self.ends_ns.push(span.end_ns);
        }
        fits
    }
}

fn lane_name(names: &Names, lane: Lane, number: usize) -> String {
    let device = |index: u8| names.device(crate::base::event::DeviceIndex(index));
    let name = match lane {
        Lane::Host => "host".to_string(),
        Lane::Background => "background".to_string(),
        Lane::Work(index) => device(index),
        Lane::Copies(index) => format!("{} copies", device(index)),
    };
    if number == 1 { name } else { format!("{name} ({number})") }
}

/// What Perfetto colours and filters by.
pub(super) fn category(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Wait { .. } => "stall",
        SpanKind::Copy { .. } | SpanKind::Output { .. } => "copy",
        SpanKind::Compute { .. } | SpanKind::Node { .. } => "compute",
        SpanKind::Ubatch { .. } => "ubatch",
        SpanKind::Load { .. } => "load",
        SpanKind::Tokenise | SpanKind::GraphBuild | SpanKind::Sampling | SpanKind::Detokenise => {
            "host"
        }
    }
}

/// What a slice tells beside its name.
pub(super) fn arguments(names: &Names, span: &Span) -> Map<String, Value> {
    let mut args = Map::new();
    let mut add = |name: &str, value: Value| {
        args.insert(name.to_string(), value);
    };
    if span.bytes > 0 {
        add("bytes", span.bytes.into());
        if span.duration_ns() > 0 {
            add("gb_per_s", json!(span.bytes as f64 / span.duration_ns() as f64));
        }
    }
    if span.tokens > 0 {
        add("tokens", span.tokens.into());
    }
    match &span.kind {
        SpanKind::Ubatch { ubatch, plan, capacity, sequences, .. } => {
            add("ubatch", (*ubatch).into());
            add("plan", (*plan).into());
            add("capacity", (*capacity).into());
            add("sequences", (*sequences).into());
        }
        SpanKind::Wait { ubatch, sync, .. } => {
            add("ubatch", (*ubatch).into());
            add("ended_by", sync_name(*sync).into());
        }
        SpanKind::Copy { ubatch, split, input, from, to, blocking } => {
            add("ubatch", (*ubatch).into());
            add("split", (*split).into());
            add("from", names.device(*from).into());
            add("to", names.device(*to).into());
            add("blocking", (*blocking).into());
            if let Some(fact) = names.input(*ubatch, *split, *input) {
                add("tensor", fact.tensor.as_str().into());
                add("cause", fact.cause.as_str().into());
            }
        }
        SpanKind::Compute { ubatch, split } => {
            add("ubatch", (*ubatch).into());
            if let Some(fact) = names.split(*ubatch, *split) {
                add("nodes", fact.nodes.len().into());
                add("cause", fact.cause.as_str().into());
            }
        }
        SpanKind::Node { ubatch, split, node } => {
            let nodes = names.split(*ubatch, *split).map(|s| &s.nodes);
            if let Some(fact) = nodes.and_then(|n| n.get(usize::from(*node))) {
                add("shape", json!(fact.ne));
                add("cause", fact.cause.as_str().into());
            }
        }
        SpanKind::Output { from, .. } => add("from", names.device(*from).into()),
        _ => {}
    }
    args
}

fn sync_name(sync: SyncKind) -> &'static str {
    match sync {
        SyncKind::None => "nothing",
        SyncKind::UserInput => "a free input",
        SyncKind::Event => "another device's event",
        SyncKind::MoeIds => "the chosen experts",
        SyncKind::BlockingCopy => "a blocking copy",
    }
}
