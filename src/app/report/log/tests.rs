//! The report of a log made by hand, as text, Markdown and document.

use std::collections::BTreeMap;

use super::*;
use crate::advise::diagnose::{
    Diagnosis, Evidence, Finding, Fix, FixTarget, Impact, Kind, NeedMore, Severity,
};
use crate::app::report::{Style, Verdict};
use crate::observe::logs::{
    Buffer, BufferKind, Device, Dialect, Engine, Graph, Layers, LibraryKind, LineId, LineText,
    Load, LogSession, Seen, Setting,
};

const OFFLOADED: &str = "load_tensors: offloaded 20/33 layers to GPU";

fn session() -> LogSession {
    let mut session = LogSession {
        engine: Engine::Ollama,
        version: Some(Seen { value: "0.6.2".to_string(), line: LineId(1) }),
        dialect: Some(Dialect::OllamaA),
        ..LogSession::default()
    };
    session.devices.push(Device {
        name: Some("CUDA0".to_string()),
        library: Some(LibraryKind::Cuda),
        description: Some("NVIDIA GeForce RTX 3060".to_string()),
        total_bytes: Some(12 << 30),
        ..Device::default()
    });
    let value = "/home/anna/models".to_string();
    session.settings.insert("OLLAMA_MODELS".to_string(), Setting { value, line: LineId(1) });
    let at = LineId(7);
    session.lines.keep(at, LineText { text: OFFLOADED, at_ns: None, source: 0 });
    let buffer = |device: &str, gib: u64| Buffer {
        kind: BufferKind::Model,
        device: device.to_string(),
        bytes: gib << 30,
        line: LineId(8),
    };
    let mut load = Load {
        line: LineId(5),
        layers: Some(Layers { offloaded: 20, total: 33, line: at }),
        buffers: vec![buffer("CUDA0", 9), buffer("CPU_Mapped", 6)],
        graph: Some(Graph { splits_prompt: Some(148), ..Graph::default() }),
        ..Load::default()
    };
    load.model.path = Some("/home/anna/models/blobs/sha256-0123456789abcdef0123".to_string());
    session.loads.push(load);
    session.requests.all.count = 2;
    session.requests.all.decode_tokens_per_s.add(4.0);
    session.requests.all.decode_tokens_per_s.add(6.0);
    session.counts.lines = 40;
    session.counts.unknown = 3;
    session
}

fn found(rule: &'static str, kind: Kind, severity: Severity) -> Finding {
    Finding {
        rule,
        kind,
        severity,
        confidence: 0.9,
        impact: Impact::Slower(0.8),
        title: format!("title of {rule}"),
        explanation: "Because of this and that.".to_string(),
        evidence: vec![Evidence::line(LineId(7))],
        fixes: vec![Fix {
            target: FixTarget::Env,
            name: "OLLAMA_NUM_PARALLEL".to_string(),
            value: "1".to_string(),
            reason: "one sequence needs a quarter of the cache".to_string(),
            expected: "33/33 layers".to_string(),
        }],
    }
}

fn diagnosis() -> Diagnosis {
    let need = NeedMore {
        missing: "the clocks while it runs".to_string(),
        settle_by: "run nvidia-smi -q -d PERFORMANCE".to_string(),
    };
    Diagnosis {
        findings: vec![found("model-exceeds-vram", Kind::Problem, Severity::Warning)],
        consequences: vec![(
            found("output-layer-too-large", Kind::Problem, Severity::Warning),
            "model-exceeds-vram",
        )],
        benign: vec![found("expected-behaviour", Kind::Benign, Severity::Info)],
        open: vec![("gpu-power-cap", need)],
        clear: vec!["driver-too-old"],
    }
}

#[test]
fn text_gives_the_verdict_first_then_evidence_then_the_fix() {
    let report = build_log_report(&session(), &diagnosis());
    insta::assert_snapshot!(log_text(&report, Style::Plain));
}

#[test]
fn markdown_can_be_pasted_without_naming_anybody() {
    let mut report = build_log_report(&session(), &diagnosis());
    Redactor::new().report(&mut report);
    let text = log_markdown(&report);
    assert!(!text.contains("anna"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn the_document_reads_back() {
    let report = build_log_report(&session(), &diagnosis());
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<LogReport>(&json).unwrap(), report);
    let any: AnyReport = serde_json::from_str(&json).unwrap();
    assert!(matches!(any, AnyReport::Log(_)));
    assert_eq!(report.findings[0].evidence[0].text, OFFLOADED);
    assert_eq!(report.findings[1].follows_from.as_deref(), Some("model-exceeds-vram"));
}

#[test]
fn a_log_that_shows_nothing_is_not_called_well() {
    let nothing = Diagnosis::default();
    assert_eq!(build_log_report(&LogSession::default(), &nothing).verdict, Verdict::Unknown);
    assert_eq!(build_log_report(&session(), &nothing).verdict, Verdict::Benign);
    let mut unknown = session();
    unknown.engine = Engine::Unknown;
    assert_eq!(build_log_report(&unknown, &nothing).verdict, Verdict::Unknown);
}

#[test]
fn settings_that_are_not_set_are_not_listed() {
    let mut session = session();
    let empty = Setting { value: String::new(), line: LineId(1) };
    session.settings.insert("OLLAMA_LLM_LIBRARY".to_string(), empty);
    let report = build_log_report(&session, &Diagnosis::default());
    let expected = [("OLLAMA_MODELS".to_string(), "/home/anna/models".to_string())];
    assert_eq!(report.facts.settings, BTreeMap::from(expected));
}
