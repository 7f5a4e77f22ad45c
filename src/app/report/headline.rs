//! The first lines of a report: what ran, where, why there, and how long it took.

use crate::base::units::{Bytes, Nanos};

use super::document::{Phase, PhaseTimings, PlacementFacts, Report};

/// Label and sentence, in order.
pub(super) fn headlines(report: &Report) -> Vec<(&'static str, String)> {
    vec![
        ("what ran", what(report)),
        ("where", location(report)),
        ("why", why(&report.facts.placement, report)),
        ("how long", how_long(report)),
    ]
}

fn what(report: &Report) -> String {
    let m = &report.facts.model;
    format!(
        "{}: {}, {} parameters, {}, {} of weights ({:.2} bits per weight)",
        m.name,
        m.architecture,
        count(m.parameters),
        m.file_type,
        Bytes(m.weight_bytes),
        m.bits_per_weight
    )
}

/// A large number as people say it: `494.03 M`, `8.03 B`.
pub(crate) fn count(n: u64) -> String {
    match n {
        1_000_000_000.. => format!("{:.2} B", n as f64 / 1e9),
        1_000_000.. => format!("{:.2} M", n as f64 / 1e6),
        1_000.. => format!("{:.2} K", n as f64 / 1e3),
        _ => n.to_string(),
    }
}

/// A device's name, marked when it is virtual.
pub(super) fn label(name: &str, is_virtual: bool) -> String {
    if is_virtual { format!("{name} (virtual)") } else { name.to_string() }
}

fn location(report: &Report) -> String {
    let (devices, total) = (&report.facts.devices, report.facts.placement.layers_total);
    let used: Vec<String> = devices
        .iter()
        .filter(|d| d.layers > 0)
        .map(|d| format!("{} on {}", d.layers, label(&d.name, d.is_virtual)))
        .collect();
    let mut text = match used.as_slice() {
        [] => "nowhere".to_string(),
        [one] => one.replacen(&format!("{total} on"), &format!("all {total} layers on"), 1),
        more => format!("of {total} layers: {}", more.join(", ")),
    };
    if devices.iter().any(|d| d.is_virtual) {
        text.push_str("; a virtual device computes on the CPU, so its speed says nothing");
    }
    // Where none was asked for, its absence is no news.
    if let Some(absent) = report.facts.gpus.strip_prefix("none: ") {
        text.push_str("; no GPU is used: ");
        text.push_str(absent);
    }
    text
}

fn why(placement: &PlacementFacts, report: &Report) -> String {
    if let Some(limit) = &placement.limit {
        return limit.clone();
    }
    let on_cpu = placement.layers_total - placement.layers_offloaded.min(placement.layers_total);
    if on_cpu == 0 {
        return "every layer fits on the devices".to_string();
    }
    let cpu = report.facts.devices.last().map_or("CPU", |d| d.name.as_str());
    let last = placement.layers.iter().rev().find(|l| l.device == cpu);
    last.map_or_else(|| "not told".to_string(), |l| l.cause.clone())
}

fn how_long(report: &Report) -> String {
    let t = &report.timings;
    let mut parts = Vec::new();
    if t.decode.ubatches > 0 {
        parts.push(format!(
            "{:.2} tokens/s, {} per token ({})",
            t.decode.tokens_per_s,
            Nanos(t.decode.token_ns),
            breakdown(report, &t.decode)
        ));
    }
    if t.prompt.ubatches > 0 {
        parts.push(format!(
            "prompt of {} tokens in {}, {:.2} tokens/s",
            t.prompt.tokens,
            Nanos(t.prompt.total_ns as f64),
            t.prompt.tokens_per_s
        ));
    }
    if t.first_token_ns > 0.0 {
        parts.push(format!("first token after {}", Nanos(t.first_token_ns)));
    }
    parts.push(format!("loaded in {}", Nanos(t.load.total_ns as f64)));
    parts.join("; ")
}

/// Who had the time of a token: each device's computing, copies, waits, the host.
fn breakdown(report: &Report, decode: &PhaseTimings) -> String {
    let share = |ns: u64| 100.0 * ns as f64 / decode.total_ns.max(1) as f64;
    let computing = |name: &str| -> u64 {
        let splits = report.splits.iter().filter(|s| s.phase == Phase::Decode && s.device == name);
        splits.map(|s| s.compute_ns).sum()
    };
    let mut parts: Vec<(String, f64)> = report
        .facts
        .devices
        .iter()
        .map(|d| (format!("{} computes", label(&d.name, d.is_virtual)), share(computing(&d.name))))
        .filter(|p| p.1 > 0.0)
        .collect();
    let p = &decode.parts;
    parts.push(("copies".to_string(), share(p.copy_ns)));
    parts.push(("waits".to_string(), share(p.wait_ns)));
    let host = p.graph_ns + p.inputs_ns + p.logits_ns + p.sampling_ns + p.detokenise_ns;
    parts.push(("host".to_string(), share(host)));
    parts.push(("unaccounted".to_string(), share(p.unaccounted_ns)));
    let told = |(name, share): &(String, f64)| format!("{name} {share:.1} %");
    parts.iter().map(told).collect::<Vec<_>>().join(", ")
}
