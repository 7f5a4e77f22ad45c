//! The report of a watched server for people.

use std::fmt::Write;

use crate::app::report::document::Verdict;
use crate::app::report::findings::{causes, findings_markdown, findings_text};
use crate::app::report::section::Section;
use crate::app::report::table::{Style, Table};
use crate::app::report::text::labelled;
use crate::base::units::{Bytes, Nanos};

use super::document::{AttachReport, Figure, ProbeFacts, ServedModelFacts};

/// Where open questions come from, in words.
const SOURCE: &str = "the server";

/// Threads that are printed of a process; the document has more.
const THREADS_SHOWN: usize = 8;

/// The report as text.
pub fn attach_text(report: &AttachReport, style: Style) -> String {
    let mut out = String::new();
    for (label, sentence) in headlines(report) {
        labelled(&mut out, label, &sentence, style);
    }
    for warning in &report.warnings {
        labelled(&mut out, "warning", warning, style);
    }
    out.push_str(&findings_text(&report.findings, &report.open, SOURCE, style));
    for section in sections(report) {
        out.push_str(&section.text(style));
    }
    out
}

/// The report as Markdown.
pub fn attach_markdown(report: &AttachReport) -> String {
    let mut out = "## gpuwhy on a running server\n\n".to_string();
    for (label, sentence) in headlines(report) {
        let _ = writeln!(out, "- **{label}**: {sentence}");
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "- **warning**: {warning}");
    }
    out.push_str(&findings_markdown(&report.findings, &report.open, SOURCE));
    for section in sections(report) {
        out.push_str(&section.markdown("###"));
    }
    out
}

/// The answer in a few sentences, each with its label.
fn headlines(report: &AttachReport) -> Vec<(&'static str, String)> {
    let server = &report.facts.server;
    let verdict = match (report.verdict, causes(&report.findings).next()) {
        (Verdict::Problem, Some(cause)) => format!("problem: {}", cause.title),
        (Verdict::Problem, None) => "problem".to_string(),
        (Verdict::Benign, _) => "nothing is wrong that can be seen from outside".to_string(),
        (Verdict::Unknown, _) if server.state != "up" => {
            format!("unknown: the server is {}", server.state)
        }
        (Verdict::Unknown, _) => {
            "unknown: nothing of how its model was placed could be read".to_string()
        }
    };
    let engine = [report.source.engine.as_str(), report.source.engine_version.as_str()];
    let named: Vec<&str> = engine.into_iter().filter(|part| !part.is_empty()).collect();
    let mut what = format!("{} at {}, {}", named.join(" "), server.url, server.state);
    if let Some(pid) = server.pid {
        let _ = write!(what, ", process {pid}");
    }
    if server.restarts > 0 {
        let _ = write!(what, ", started anew {} times meanwhile", server.restarts);
    }
    let mut lines = vec![("verdict", verdict), ("what", what)];
    if report.facts.models.is_empty() {
        lines.push(("models", "none is loaded".to_string()));
    }
    let timings = &report.timings;
    let mut speeds = Vec::new();
    if let Some(speed) = &timings.prompt_tokens_per_s {
        speeds.push(format!("prompt {}", rates(speed)));
    }
    if let Some(speed) = &timings.decode_tokens_per_s {
        speeds.push(format!("generation {} for a request", rates(speed)));
    }
    if speeds.is_empty() {
        speeds.push("none seen: it wrote nothing meanwhile, or does not tell".to_string());
    }
    lines.push(("speed", speeds.join(", ")));
    if let Some(probe) = &timings.probe {
        lines.push(("probe", probe_sentence(probe)));
    }
    lines.push(("load", load(report)));
    let log = match (&server.log, server.log_lines) {
        (Some(log), 0) => log.clone(),
        (Some(log), lines) => format!("{log}, {lines} lines"),
        (None, 0) => "not followed".to_string(),
        (None, lines) => format!("{lines} lines"),
    };
    lines.push(("log", log));
    lines
}

/// How busy it was.
fn load(report: &AttachReport) -> String {
    let timings = &report.timings;
    let mut parts = vec![format!("watched for {:.1} s", timings.watched_s)];
    if let Some(busy) = &timings.slots_busy {
        let of = report.facts.server.slots.map_or(String::new(), |n| format!(" of {n}"));
        parts.push(format!("slots busy {:.1}{of} (at most {})", busy.mean, busy.max));
    }
    if let Some(queued) = &timings.requests_queued {
        parts.push(format!("queued {:.1} (at most {})", queued.mean, queued.max));
    }
    if let Some(kv) = &timings.kv_used_share {
        parts.push(format!("KV cache {:.0} % full", kv.last * 100.0));
    }
    let tokens = [("read", timings.prompt_tokens), ("written", timings.decoded_tokens)];
    let told = tokens.iter().filter_map(|(what, n)| Some(format!("{} tokens {what}", (*n)?)));
    parts.extend(told);
    parts.join(", ")
}

fn rates(figure: &Figure) -> String {
    // What prints alike is one figure to a reader.
    if figure.count == 1 || figure.max - figure.min < 0.05 {
        return format!("{:.1} tokens/s", figure.last);
    }
    format!("{:.1} tokens/s ({:.1} to {:.1})", figure.mean, figure.min, figure.max)
}

fn probe_sentence(probe: &ProbeFacts) -> String {
    if let Some(why) = &probe.failed {
        return format!("failed: {why}");
    }
    let mut parts = Vec::new();
    if let (Some(prompt), Some(generated)) = (probe.prompt_tokens, probe.generated_tokens) {
        parts.push(format!("{prompt} tokens read and {generated} written"));
    }
    let figures = [
        ("first token after", probe.first_token_ms, "ms"),
        ("prompt", probe.prompt_tokens_per_s, "tokens/s"),
        ("generation", probe.decode_tokens_per_s, "tokens/s"),
    ];
    let told =
        figures.iter().filter_map(|(what, v, unit)| Some(format!("{what} {:.1} {unit}", (*v)?)));
    parts.extend(told);
    parts.join(", ")
}

fn sections(report: &AttachReport) -> Vec<Section> {
    let all = [models(report), slots(report), processes(report), gpus(report), rest(report)];
    all.into_iter().filter(|section| !section.is_empty()).collect()
}

fn section(title: &str, table: Table, notes: Vec<String>) -> Section {
    Section { title: title.to_string(), table, notes }
}

fn models(report: &AttachReport) -> Section {
    let head =
        ["model", "quantisation", ">layers", ">size", ">on GPUs", ">context", ">trained for"];
    let mut table = Table::new(&head);
    let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
    let bytes = |n: Option<u64>| n.map_or(String::new(), |n| Bytes(n).to_string());
    for model in &report.facts.models {
        table.row([
            model.name.clone(),
            model.quantization.clone().unwrap_or_default(),
            number(model.layers),
            bytes(model.bytes),
            on_gpus(model),
            number(model.context_tokens),
            number(model.context_trained),
        ]);
    }
    let files = report.facts.models.iter().filter_map(|m| m.file.clone());
    section("models", table, files.collect())
}

fn on_gpus(model: &ServedModelFacts) -> String {
    match (model.vram_bytes, model.bytes) {
        (Some(vram), Some(all)) if all > 0 => {
            format!("{} ({:.0} %)", Bytes(vram), vram as f64 / all as f64 * 100.0)
        }
        (Some(vram), _) => Bytes(vram).to_string(),
        _ => String::new(),
    }
}

fn slots(report: &AttachReport) -> Section {
    let mut table = Table::new(&[">slot", "does", ">context", ">prompt", ">written", ">tokens/s"]);
    let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
    for slot in &report.facts.slots {
        table.row([
            slot.slot.to_string(),
            if slot.busy { "works" } else { "idle" }.to_string(),
            number(slot.context_tokens),
            number(slot.prompt_tokens),
            number(slot.decoded_tokens),
            slot.decode_tokens_per_s.map_or(String::new(), |f| format!("{:.1}", f.mean)),
        ]);
    }
    section("slots at the end", table, Vec::new())
}

fn processes(report: &AttachReport) -> Section {
    let mut table = Table::new(&["process or thread", ">id", ">CPUs", ">at most", ">memory"]);
    let mut notes = Vec::new();
    let cpus = |f: Option<Figure>, of: fn(&Figure) -> f64| {
        f.map_or(String::new(), |f| format!("{:.2}", of(&f)))
    };
    for process in &report.facts.processes {
        table.row([
            process.name.clone(),
            process.pid.to_string(),
            cpus(process.cpus, |f| f.mean),
            cpus(process.cpus, |f| f.max),
            process.resident_bytes.map_or(String::new(), |n| Bytes(n).to_string()),
        ]);
        for thread in process.threads.iter().take(THREADS_SHOWN) {
            table.row([
                format!("  {}", thread.name),
                thread.tid.to_string(),
                cpus(Some(thread.cpus), |f| f.mean),
                cpus(Some(thread.cpus), |f| f.max),
                String::new(),
            ]);
        }
        if let Some(all) = process.threads_count {
            let shown = process.threads.len().min(THREADS_SHOWN) as u64;
            if all > shown {
                notes.push(format!("process {} has {all} threads", process.pid));
            }
        }
        for (gpu, bytes) in &process.vram_bytes {
            notes.push(format!("process {} holds {} on GPU {gpu}", process.pid, Bytes(*bytes)));
        }
    }
    section("what computes", table, notes)
}

fn gpus(report: &AttachReport) -> Section {
    let mut table = Table::new(&[">GPU", "name", ">busy", ">memory used", ">of"]);
    let bytes = |n: Option<u64>| n.map_or(String::new(), |n| Bytes(n).to_string());
    for gpu in &report.facts.gpus {
        table.row([
            gpu.index.to_string(),
            gpu.name.clone(),
            gpu.busy_share.map_or(String::new(), |f| format!("{:.0} %", f.mean * 100.0)),
            bytes(gpu.vram_bytes_used),
            bytes(gpu.vram_bytes_total),
        ]);
    }
    section("GPUs", table, Vec::new())
}

/// What could not be read, and what watching cost.
fn rest(report: &AttachReport) -> Section {
    let mut notes: Vec<String> = report
        .facts
        .absent
        .iter()
        .map(|absent| match absent.hint.as_str() {
            "" => format!("not told by {}: {}", absent.source, absent.text),
            hint => format!("not told by {}: {} (hint: {hint})", absent.source, absent.text),
        })
        .collect();
    let costs = report.facts.observer.iter().filter_map(|observer| {
        let cpu = observer.reading_cpu_ns?;
        Some(format!("{} {} of a CPU", observer.source, Nanos(cpu.mean)))
    });
    let costs: Vec<String> = costs.collect();
    if !costs.is_empty() {
        notes.push(format!("one look cost: {}", costs.join(", ")));
    }
    section("not told, and what watching cost", Table::new(&[""]), notes)
}
