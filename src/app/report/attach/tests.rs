//! Reports of watched servers, from events.

use std::sync::Arc;

use super::*;
use crate::app::report::document::{SourceKind, Verdict};
use crate::app::report::log::AnyReport;
use crate::app::report::table::Style;
use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::*;
use crate::observe::session::Session;

fn session() -> Session {
    let mut session = Session::new();
    let server = ServerFact {
        at_ns: 0,
        engine: "llama.cpp".into(),
        engine_version: "b11434".into(),
        url: "http://127.0.0.1:8080".into(),
        pid: Some(40),
        working_pids: vec![40],
        slots: Some(2),
        models: vec![ServedModel {
            name: "tiny".into(),
            quantization: "Q4_K - Medium".into(),
            bytes: Some(1 << 30),
            vram_bytes: Some(1 << 29),
            context_tokens: Some(4096),
            ..ServedModel::default()
        }],
        details: vec![("log".into(), "/var/log/x.log".into()), ("parallel".into(), "2".into())],
        ..ServerFact::default()
    };
    session.take(&Event::Server(Arc::new(server)));
    let subject = |subject, name: &str, details: &[(&str, &str)]| {
        let details = details.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect();
        Event::Subject(Arc::new(SubjectFact { subject, name: name.into(), details }))
    };
    session.take(&subject(Subject::Process(40), "llama-server", &[]));
    session.take(&subject(Subject::Thread(41), "busy", &[("process", "40")]));
    session.take(&subject(Subject::Thread(42), "lazy", &[("process", "40")]));
    session.take(&subject(Subject::Thread(90), "stranger", &[("process", "9")]));
    let samples = [
        (Subject::Server, Counter::SlotsBusy, [0.0, 2.0]),
        (Subject::Server, Counter::DecodeRate, [30.0, 20.0]),
        (Subject::Server, Counter::DecodedTokens, [1000.0, 1250.0]),
        (Subject::Slot(0), Counter::SlotsBusy, [0.0, 1.0]),
        (Subject::Slot(0), Counter::SlotContext, [4096.0, 4096.0]),
        (Subject::Process(40), Counter::CpuUsed, [1.0, 2.0]),
        (Subject::Thread(41), Counter::CpuUsed, [0.9, 1.0]),
        (Subject::Thread(42), Counter::CpuUsed, [0.1, 0.0]),
        (Subject::Thread(90), Counter::CpuUsed, [1.0, 1.0]),
        (Subject::Observer(Source::Server), Counter::ReadingTime, [2e6, 4e6]),
        (Subject::Observer(Source::Server), Counter::ReadingCost, [1e6, 2e6]),
    ];
    for (subject, counter, values) in samples {
        for (i, value) in values.into_iter().enumerate() {
            let at_ns = (i as u64 + 1) * 1_000_000_000;
            session.take(&Event::Sample(Sample { at_ns, subject, counter, value }));
        }
    }
    session.take(&Event::Absent(Absent {
        at_ns: 5,
        source: Source::Server,
        subject: Some(Subject::Server),
        counter: Some(Counter::RequestsQueued),
        reason: AbsentReason::NotSupported,
        text: "queue: /metrics is off".into(),
        hint: "start llama-server with --metrics".into(),
    }));
    session.take(&Event::Warning(Warning { at_ns: 6, text: "careful".into() }));
    session
}

#[test]
fn a_report_has_what_the_server_and_the_system_told() {
    let report = attach_report(&mut session(), SourceKind::Attach).unwrap();
    // Half of its model is in main memory.
    assert_eq!((report.source.engine.as_str(), report.verdict), ("llama.cpp", Verdict::Problem));
    assert_eq!(report.findings[0].rule, "served-model-on-cpu");
    let server = &report.facts.server;
    assert_eq!((server.log.as_deref(), server.state.as_str()), (Some("/var/log/x.log"), "up"));
    assert_eq!(server.details.get("parallel").map(String::as_str), Some("2"));
    let [process] = report.facts.processes.as_slice() else { panic!("one process") };
    let names: Vec<&str> = process.threads.iter().map(|t| t.name.as_str()).collect();
    assert_eq!((process.name.as_str(), names), ("llama-server", vec!["busy", "lazy"]));
    assert_eq!(report.timings.decoded_tokens, Some(250));
    let speed = report.timings.decode_tokens_per_s.unwrap();
    assert_eq!((speed.last, speed.min, speed.mean, speed.max), (20.0, 20.0, 25.0, 30.0));
    let [slot] = report.facts.slots.as_slice() else { panic!("one slot") };
    assert!(slot.busy && slot.context_tokens == Some(4096));

    let text = attach_text(&report, Style::Plain);
    for part in [
        "llama.cpp b11434 at http://127.0.0.1:8080, up, process 40",
        "generation 25.0 tokens/s (20.0 to 30.0)",
        "512.00 MiB (50 %)",
        "llama-server",
        "start llama-server with --metrics",
        "careful",
        "1.50 ms of a CPU",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(attach_markdown(&report).contains("| tiny "));
    // Read back, it is known as what it is.
    let json = serde_json::to_string(&report).unwrap();
    let read: AnyReport = serde_json::from_str(&json).unwrap();
    assert_eq!(read, AnyReport::Attach(Box::new(report)));
}

#[test]
fn without_a_server_there_is_no_report_and_one_that_is_gone_says_so() {
    assert!(attach_report(&mut Session::new(), SourceKind::Attach).is_none());
    let mut session = Session::new();
    let gone = ServerFact { state: ServerState::Down, ..ServerFact::default() };
    session.take(&Event::Server(Arc::new(gone)));
    let report = attach_report(&mut session, SourceKind::Attach).unwrap();
    assert!(attach_text(&report, Style::Plain).contains("unknown: the server is down"));
}
