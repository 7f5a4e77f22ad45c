//! The last values of a session, in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::base::counter::{Counter, Course, Subject};
use crate::base::event::{Event, SpanKind, Track};

use super::names::Names;

/// Writes each counter's last value, and the time and bytes of all spans by place and kind.
pub fn prometheus(events: impl Iterator<Item = Event>, to: &mut dyn Write) -> io::Result<()> {
    let mut names = Names::default();
    let mut last: BTreeMap<(Counter, Subject), f64> = BTreeMap::new();
    let mut spans: BTreeMap<(Option<u8>, &'static str), (u64, u64)> = BTreeMap::new();
    for event in events {
        names.learn(&event);
        match event {
            Event::Sample(sample) => {
                last.insert((sample.counter, sample.subject), sample.value);
            }
            Event::Span(span) => {
                let device = match span.track {
                    Track::Device(device) => Some(device.0),
                    Track::Host | Track::Background => None,
                };
                let sum = spans.entry((device, kind_name(&span.kind))).or_default();
                sum.0 += span.duration_ns();
                sum.1 += span.bytes;
            }
            _ => {}
        }
    }
    let mut text = String::new();
    let mut before = None;
    for ((counter, subject), value) in &last {
        let metric = metric(*counter);
        if before.replace(*counter) != Some(*counter) {
            let kind = match counter.course() {
                Course::Total => "counter",
                Course::Level => "gauge",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# TYPE {metric} {kind}");
        }
        let _ = writeln!(text, "{metric}{{{}}} {value}", labels(&names, *subject));
    }
    for (name, pick) in [
        ("gpuwhy_span_seconds_total", (|s| s.0 as f64 / 1e9) as fn(&(u64, u64)) -> f64),
        ("gpuwhy_span_bytes_total", |s| s.1 as f64),
    ] {
        if !spans.is_empty() {
            let _ = writeln!(text, "# TYPE {name} counter");
        }
        for ((device, kind), sum) in &spans {
            let place = device.map_or_else(
                || "host".to_string(),
                |d| names.device(crate::base::event::DeviceIndex(d)),
            );
            let place = escaped(&place);
            let _ = writeln!(text, "{name}{{device=\"{place}\",kind=\"{kind}\"}} {}", pick(sum));
        }
    }
    to.write_all(text.as_bytes())
}

fn metric(counter: Counter) -> String {
    let suffix = if counter.course() == Course::Total { "_total" } else { "" };
    format!("gpuwhy_{}{suffix}", counter.id())
}

fn labels(names: &Names, subject: Subject) -> String {
    let numbers = match subject {
        Subject::Host => return "subject=\"host\"".to_string(),
        Subject::Core(number) => format!("subject=\"core\",core=\"{number}\""),
        Subject::Process(pid) => format!("subject=\"process\",pid=\"{pid}\""),
        Subject::Thread(tid) => format!("subject=\"thread\",tid=\"{tid}\""),
        Subject::Gpu(gpu) => format!("subject=\"gpu\",gpu=\"{gpu}\""),
        Subject::GpuProcess { gpu, pid } => {
            format!("subject=\"gpu_process\",gpu=\"{gpu}\",pid=\"{pid}\"")
        }
        Subject::Server => "subject=\"server\"".to_string(),
        Subject::Slot(slot) => format!("subject=\"slot\",slot=\"{slot}\""),
        Subject::Observer(source) => {
            let source = source.name().to_lowercase();
            format!("subject=\"observer\",source=\"{source}\"")
        }
    };
    match names.name(subject) {
        Some(name) => format!("{numbers},name=\"{}\"", escaped(name)),
        None => numbers,
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn kind_name(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Load { .. } => "load",
        SpanKind::Tokenise => "tokenise",
        SpanKind::GraphBuild => "graph_build",
        SpanKind::Ubatch { .. } => "ubatch",
        SpanKind::Wait { .. } => "wait",
        SpanKind::Copy { .. } => "copy",
        SpanKind::Output { .. } => "output",
        SpanKind::Compute { .. } => "compute",
        SpanKind::Node { .. } => "node",
        SpanKind::Sampling => "sampling",
        SpanKind::Detokenise => "detokenise",
    }
}
