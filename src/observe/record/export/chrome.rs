//! A timeline as Chrome's trace event JSON, which ui.perfetto.dev and chrome://tracing open.
//!
//! Format: "Trace Event Format" of the Chromium project; times are microseconds. One process holds the
//! engine, with a track for the host's threads, for each device's work and for its copies; one process
//! for each subject holds its counters.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::base::counter::Subject;
use crate::base::event::{Event, Sample};

use super::names::Names;
use super::timeline::{Timeline, arguments, category};

/// The engine's process.
const ENGINE: u64 = 1;

/// Counters of subjects have their processes from here on.
const SUBJECTS: u64 = 10;

/// Writes a session's timeline.
pub fn chrome(events: impl Iterator<Item = Event>, to: &mut dyn Write) -> io::Result<()> {
    let line = Timeline::read(events);
    let names = &line.names;
    let mut list = List { to, is_first: true };
    list.to.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")?;
    list.name("process_name", ENGINE, None, "engine")?;
    for track in &line.tracks {
        list.name("thread_name", ENGINE, Some(track.tid), &track.name)?;
    }
    for (tid, span) in &line.slices {
        list.add(&json!({
            "ph": "X", "name": names.span(&span.kind), "cat": category(&span.kind),
            "pid": ENGINE, "tid": tid, "ts": us(span.start_ns), "dur": us(span.duration_ns()),
            "args": arguments(names, span),
        }))?;
    }
    for (at_ns, text) in &line.marks {
        list.add(&json!({
            "ph": "i", "s": "g", "name": text, "pid": ENGINE, "tid": 1, "ts": us(*at_ns),
        }))?;
    }
    counters(names, &line.samples, &mut list)?;
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

/// Each subject is a process, so that its counters stand together under its name.
fn counters(names: &Names, samples: &[Sample], list: &mut List<'_>) -> io::Result<()> {
    let mut pids: BTreeMap<Subject, u64> = BTreeMap::new();
    for sample in samples {
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
