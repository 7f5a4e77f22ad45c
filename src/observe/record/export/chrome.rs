//! A timeline as Chrome's trace event JSON, which ui.perfetto.dev opens.
//!
//! Format: "Trace Event Format" of the Chromium project; times are microseconds. One process holds the
//! engine, with a track for the host's threads, for each device's work and for its copies; one process
//! for each subject holds its counters. Slices of one track must nest, so one that overlaps another is
//! moved to a further track of the same name: that happens where copies run beside each other.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::base::counter::Subject;
use crate::base::event::{Event, Sample, Span, SpanKind, SyncKind, Track};

use super::names::{self, Names};

/// The engine's process.
const ENGINE: u64 = 1;

/// Counters of subjects have their processes from here on.
const SUBJECTS: u64 = 10;

/// Where a slice is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Host,
    Background,
    Work(u8),
    Copies(u8),
}

/// Writes a session's timeline. Spans are held in memory, because they must be sorted.
pub fn chrome(events: impl Iterator<Item = Event>, to: &mut dyn Write) -> io::Result<()> {
    let mut names = Names::default();
    let (mut spans, mut samples, mut marks) = (Vec::new(), Vec::new(), Vec::new());
    for event in events {
        names.learn(&event);
        match event {
            Event::Span(span) => spans.push(span),
            Event::Sample(sample) => samples.push(sample),
            Event::Warning(warning) => marks.push((warning.at_ns, warning.text)),
            Event::Absent(absent) => {
                let what = absent.subject.map(|s| names.subject(s)).unwrap_or_default();
                let text = format!("{} {what}: {}", absent.source.name(), absent.text);
                marks.push((absent.at_ns, text));
            }
            Event::Line(line) => marks.push((line.at_ns, line.text)),
            Event::Request(step) => {
                if let Some(what) = names::step(&step.step) {
                    marks.push((step.at_ns, format!("request {} {what}", step.request)));
                }
            }
            Event::Server(server) => {
                let what = names::state(server.state);
                marks.push((server.at_ns, format!("{} {what}", server.url)));
            }
            Event::Device(_) | Event::Plan(_) | Event::Subject(_) | Event::Setup(_) => {}
        }
    }
    let mut list = List { to, is_first: true };
    list.to.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")?;
    list.name("process_name", ENGINE, None, "engine")?;
    slices(&names, spans, &mut list)?;
    for (at_ns, text) in marks {
        list.add(&json!({
            "ph": "i", "s": "g", "name": text, "pid": ENGINE, "tid": 1, "ts": us(at_ns),
        }))?;
    }
    counters(&names, &samples, &mut list)?;
    list.to.write_all(b"\n]}\n")
}

/// The list of trace events.
struct List<'a> {
    to: &'a mut dyn Write,
    is_first: bool,
}

impl List<'_> {
    fn add(&mut self, value: &Value) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.to.write_all(b",\n")?;
        }
        serde_json::to_writer(&mut self.to, value)?;
        Ok(())
    }

    /// Names a process or a thread.
    fn name(&mut self, what: &str, pid: u64, tid: Option<u64>, name: &str) -> io::Result<()> {
        let args = json!({ "name": name });
        self.add(
            &json!({ "ph": "M", "name": what, "pid": pid, "tid": tid.unwrap_or(0), "args": args }),
        )
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
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

fn slices(names: &Names, mut spans: Vec<Span>, list: &mut List<'_>) -> io::Result<()> {
    // Of slices that begin together the longest comes first and holds the others.
    spans.sort_by_key(|s| (s.start_ns, std::cmp::Reverse(s.end_ns)));
    let mut lanes: BTreeMap<Lane, Vec<Open>> = BTreeMap::new();
    let mut next_tid = 1;
    for span in &spans {
        let lane = lane(span);
        let tracks = lanes.entry(lane).or_default();
        let taken = tracks.iter_mut().find_map(|open| open.takes(span).then_some(open.tid));
        let tid = taken.unwrap_or(next_tid);
        if taken.is_none() {
            next_tid += 1;
            tracks.push(Open { tid, ends_ns: vec![span.end_ns] });
            let name = lane_name(names, lane, tracks.len());
            list.name("thread_name", ENGINE, Some(tid), &name)?;
        }
        list.add(&json!({
            "ph": "X", "name": names.span(&span.kind), "cat": category(&span.kind),
            "pid": ENGINE, "tid": tid, "ts": us(span.start_ns), "dur": us(span.duration_ns()),
            "args": arguments(names, span),
        }))?;
    }
    Ok(())
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
fn category(kind: &SpanKind) -> &'static str {
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

fn arguments(names: &Names, span: &Span) -> Map<String, Value> {
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

/// Each subject is a process, so that its counters stand together under its name.
fn counters(names: &Names, samples: &[Sample], list: &mut List<'_>) -> io::Result<()> {
    let mut pids: BTreeMap<Subject, u64> = BTreeMap::new();
    for sample in samples {
        // JSON has no number for what is not one.
        if !sample.value.is_finite() {
            continue;
        }
        let next = SUBJECTS + pids.len() as u64;
        let is_new = !pids.contains_key(&sample.subject);
        let pid = *pids.entry(sample.subject).or_insert(next);
        if is_new {
            list.name("process_name", pid, None, &names.subject(sample.subject))?;
        }
        list.add(&json!({
            "ph": "C", "name": sample.counter.id(), "pid": pid, "ts": us(sample.at_ns),
            "args": { sample.counter.unit(): sample.value },
        }))?;
    }
    Ok(())
}
