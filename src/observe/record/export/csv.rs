//! A session as one table, a row for each span and sample, as RFC 4180 has it.

use std::io::{self, Write};

use crate::base::event::{Event, Track};

use super::names::{self, Names};

/// Writes the table. Its columns: `kind` (span, sample, warning, absent, line, request, server), `start_ns` and `end_ns` on
/// the session's clock, `where` (device or subject), `what`, `value` and `unit` of samples, `bytes` and
/// `tokens` of spans.
pub fn csv(events: impl Iterator<Item = Event>, to: &mut dyn Write) -> io::Result<()> {
    writeln!(to, "kind,start_ns,end_ns,where,what,value,unit,bytes,tokens\r")?;
    let mut names = Names::default();
    for event in events {
        names.learn(&event);
        let (start_ns, end_ns, cells) = match event {
            Event::Span(span) => {
                let track = match span.track {
                    Track::Host => "host".to_string(),
                    Track::Background => "background".to_string(),
                    Track::Device(device) => names.device(device),
                };
                let (bytes, tokens) = (span.bytes.to_string(), span.tokens.to_string());
                let what = names.span(&span.kind);
                (
                    span.start_ns,
                    span.end_ns,
                    ["span", &track, &what, "", "", &bytes, &tokens].map(str::to_string),
                )
            }
            Event::Sample(sample) => {
                let (at_ns, subject) = (sample.at_ns, names.subject(sample.subject));
                let value = sample.value.to_string();
                let (id, unit) = (sample.counter.id(), sample.counter.unit());
                (at_ns, at_ns, ["sample", &subject, id, &value, unit, "", ""].map(str::to_string))
            }
            Event::Warning(warning) => {
                let cells = ["warning", "", &warning.text, "", "", "", ""].map(str::to_string);
                (warning.at_ns, warning.at_ns, cells)
            }
            Event::Absent(absent) => {
                let subject = absent.subject.map(|s| names.subject(s));
                let place = subject.unwrap_or_else(|| absent.source.name().to_string());
                let counter = absent.counter.map(|c| format!("{}: ", c.id())).unwrap_or_default();
                let what = format!("{counter}{}", absent.text);
                let cells = ["absent", &place, &what, "", "", "", ""].map(str::to_string);
                (absent.at_ns, absent.at_ns, cells)
            }
            Event::Line(line) => {
                let cells = ["line", "", &line.text, "", "", "", ""].map(str::to_string);
                (line.at_ns, line.at_ns, cells)
            }
            Event::Request(step) => {
                let place = format!("request {}", step.request);
                let what = names::step(&step.step).unwrap_or_else(|| "token".to_string());
                (
                    step.at_ns,
                    step.at_ns,
                    ["request", &place, &what, "", "", "", ""].map(str::to_string),
                )
            }
            Event::Server(server) => {
                let what = names::state(server.state);
                let cells = ["server", &server.url, what, "", "", "", ""].map(str::to_string);
                (server.at_ns, server.at_ns, cells)
            }
            Event::Device(_) | Event::Plan(_) | Event::Subject(_) | Event::Setup(_) => continue,
        };
        let [kind, place, what, value, unit, bytes, tokens] = cells.map(|c| quoted(&c));
        writeln!(
            to,
            "{kind},{start_ns},{end_ns},{place},{what},{value},{unit},{bytes},{tokens}\r"
        )?;
    }
    Ok(())
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_string()
    }
}
