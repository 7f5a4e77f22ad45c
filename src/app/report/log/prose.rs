//! Sentences and tables that text and Markdown share.

use std::fmt::Write;

use crate::app::report::Table;
use crate::app::report::document::Verdict;
use crate::app::report::findings::causes;
use crate::base::units::Bytes;

use super::build::NO_GPU_FOUND;
use super::document::{LogLoad, LogReport, LogSpread};

/// The answer in one sentence.
pub(super) fn verdict(report: &LogReport) -> String {
    let cause = causes(&report.findings).next();
    match (report.verdict, cause) {
        (Verdict::Problem, Some(cause)) => format!("problem: {}", cause.title),
        (Verdict::Problem, None) => "problem".to_string(),
        (Verdict::Benign, _) if !report.open.is_empty() => {
            "nothing is wrong that this log can show, but it leaves something open (see below)"
                .to_string()
        }
        (Verdict::Benign, _) => "nothing is wrong that this log can show".to_string(),
        (Verdict::Unknown, _) if report.open.iter().any(|o| o.rule == NO_GPU_FOUND) => {
            "the model runs on the CPU alone, and this part of the log does not say why".to_string()
        }
        (Verdict::Unknown, _) => {
            "this log does not tell: it shows no load of a model that a rule could judge"
                .to_string()
        }
    }
}

/// Which engine, version and machine.
pub(super) fn what(report: &LogReport) -> String {
    let source = &report.source;
    let mut out = match source.engine.as_str() {
        "unknown" => "unknown engine".to_string(),
        engine => engine.to_string(),
    };
    if !source.engine_version.is_empty() {
        let _ = write!(out, " {}", source.engine_version);
    }
    if let Some(dialect) = source.dialect.as_deref().filter(|d| d.len() == 1) {
        let _ = write!(out, " (log of generation {dialect})");
    }
    if let Some(os) = &report.facts.os {
        let _ = write!(out, " on {os}");
    }
    let devices = report.facts.devices.iter().map(|d| {
        let name = d.description.as_deref().or(d.name.as_deref()).unwrap_or("a GPU");
        match d.total_bytes {
            Some(total) => format!("{name} ({})", Bytes(total)),
            None => name.to_string(),
        }
    });
    let devices: Vec<String> = devices.collect();
    match devices.as_slice() {
        [] => out.push_str(", the log names no GPU"),
        all => {
            let _ = write!(out, ", {}", all.join(", "));
        }
    }
    out
}

/// The loads as a table.
pub(super) fn loads(report: &LogReport) -> Table {
    let mut table = Table::new(&[
        ">line",
        "model",
        ">layers on GPU",
        ">context",
        ">slots",
        ">weights GPU",
        ">weights CPU",
        ">KV",
        ">compute",
        ">splits",
        "end",
    ]);
    for (i, load) in report.facts.loads.iter().enumerate() {
        let splits = report.splits.iter().filter(|s| s.load == i as u64);
        let splits: Vec<String> = splits.map(|s| s.splits.to_string()).collect();
        let layers = match (load.layers_offloaded, load.layers_total) {
            (Some(offloaded), Some(total)) => format!("{offloaded}/{total}"),
            _ => String::new(),
        };
        let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
        table.row([
            load.line.to_string(),
            model(load),
            layers,
            number(load.n_ctx),
            number(load.parallel),
            bytes(load, "model", false),
            bytes(load, "model", true),
            sum(load, "kv"),
            sum(load, "compute"),
            splits.join(" / "),
            load.outcome.clone(),
        ]);
    }
    table
}

/// A model's name, or the end of its file's name: blobs have long ones.
fn model(load: &LogLoad) -> String {
    let name = load.model.as_deref().unwrap_or("?");
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    match name.strip_prefix("sha256-").or_else(|| name.strip_prefix("sha256:")) {
        Some(digest) => format!("blob {}", digest.chars().take(12).collect::<String>()),
        None => name.chars().take(40).collect(),
    }
}

fn bytes(load: &LogLoad, kind: &str, host: bool) -> String {
    let is_host = |device: &str| device.starts_with("CPU") || device.ends_with("_Host");
    let found = load.buffers.iter().filter(|b| b.kind == kind && is_host(&b.device) == host);
    let sizes: Vec<u64> = found.map(|b| b.bytes).collect();
    if sizes.is_empty() { String::new() } else { Bytes(sizes.iter().sum()).to_string() }
}

fn sum(load: &LogLoad, kind: &str) -> String {
    let sizes: Vec<u64> = load.buffers.iter().filter(|b| b.kind == kind).map(|b| b.bytes).collect();
    if sizes.is_empty() { String::new() } else { Bytes(sizes.iter().sum()).to_string() }
}

/// Requests and their speeds, as one sentence; `None` when the log has none.
pub(super) fn requests(report: &LogReport) -> Option<String> {
    let t = &report.timings;
    if t.requests == 0 && t.decode_tokens_per_s.is_none() {
        return None;
    }
    let mut parts = vec![format!("{} requests", t.requests)];
    let counted = [("failed", t.failed), ("with a cut prompt", t.truncated)];
    parts.extend(counted.iter().filter(|c| c.1 > 0).map(|(what, n)| format!("{n} {what}")));
    if t.shifts > 0 {
        parts.push(format!("{} context shifts", t.shifts));
    }
    parts.extend(t.prompt_tokens_per_s.map(|s| format!("prompt {}", speed(&s))));
    parts.extend(t.decode_tokens_per_s.map(|s| format!("generation {}", speed(&s))));
    Some(parts.join(", "))
}

fn speed(spread: &LogSpread) -> String {
    if spread.count == 1 {
        return format!("{:.1} tokens/s", spread.mean);
    }
    format!("{:.1} tokens/s ({:.1} to {:.1})", spread.mean, spread.min, spread.max)
}

/// How much of the log was understood.
pub(super) fn lines(report: &LogReport) -> String {
    let lines = report.facts.lines;
    let unknown = match lines.unknown {
        0 => "all understood".to_string(),
        n => format!("{n} unknown (--list-unknown shows them)"),
    };
    format!("{} lines, {unknown}", lines.all)
}
