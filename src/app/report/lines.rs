//! What `-v` logs of a run: the same facts as the report's, in llama.cpp's words wherever it has
//! words for them, so that a reader of such logs, `gpuwhy logs` first, reads ours too.
//!
//! It makes text and prints nothing. Invariant: no line says what the report does not.

use std::fmt::Write as _;

use super::document::{DeviceMemory, PhaseTimings, SetupFact, Timings};
use super::headline::count;

const MIB: f64 = 1_048_576.0;

/// Lines about a model that was loaded.
pub(crate) fn load_lines(facts: &SetupFact) -> Vec<String> {
    let mut lines = vec![
        format!("gpuwhy {}", env!("CARGO_PKG_VERSION")),
        settings(facts),
        format!("gpuwhy: loading model from {}", facts.model.file),
        format!("gpuwhy: CPU kernels {}, threads {}", facts.isa, facts.threads),
    ];
    let threads = facts.threads.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let processors = facts.processors_allowed;
    lines.push(format!("system_info: n_threads = {threads} / {processors} | {} |", facts.isa));
    model(&mut lines, facts);
    placement(&mut lines, facts);
    context(&mut lines, facts);
    lines
}

/// What was asked for, as flags. Without other devices nothing is offloaded, whatever was asked.
fn settings(facts: &SetupFact) -> String {
    let c = &facts.context;
    let layers = match facts.placement.layers_asked {
        _ if facts.devices.len() < 2 => String::new(),
        Some(layers) => format!("-ngl {layers} "),
        None => "-ngl auto ".to_string(),
    };
    format!(
        "gpuwhy: settings: {layers}-c {} -np {} -b {} -ub {} -ctk {} -ctv {}",
        c.n_ctx,
        c.n_seq_max,
        c.n_batch,
        c.n_ubatch,
        c.type_k.to_lowercase(),
        c.type_v.to_lowercase()
    )
}

fn model(lines: &mut Vec<String>, facts: &SetupFact) {
    let m = &facts.model;
    let mib = m.weight_bytes as f64 / MIB;
    lines.push(format!("print_info: file type   = {}", m.file_type));
    lines.push(format!("print_info: file size   = {mib:.2} MiB ({:.2} BPW) ", m.bits_per_weight));
    let rows: [(&str, String); 8] = [
        ("arch", m.architecture.clone()),
        ("n_ctx_train", m.context_trained.to_string()),
        ("n_embd", m.embedding.to_string()),
        ("n_layer", m.layers.to_string()),
        ("n_expert", m.experts.to_string()),
        ("model params", count(m.parameters)),
        ("general.name", m.name.clone()),
        ("n_vocab", m.vocabulary.to_string()),
    ];
    lines.extend(rows.iter().map(|(key, value)| format!("print_info: {key:<21} = {value}")));
}

fn placement(lines: &mut Vec<String>, facts: &SetupFact) {
    for device in facts.devices.iter().filter(|d| d.name != "CPU") {
        let free = device.memory_bytes_free as f64 / MIB;
        if device.memory_bytes_total > 0 {
            let total = device.memory_bytes_total as f64 / MIB;
            let (name, description) = (&device.name, &device.description);
            lines.push(format!(
                "gpuwhy:   {name}: {description} ({total:.0} MiB, {free:.0} MiB free)"
            ));
        }
        lines.push(format!(
            "gpuwhy: using device {} ({}) - {free:.0} MiB free",
            device.name, device.description
        ));
    }
    let placed = &facts.placement;
    for (number, layer) in placed.layers.iter().enumerate() {
        let device = &layer.device;
        lines.push(format!("load_tensors: layer {number:3} assigned to device {device}"));
    }
    // As in llama.cpp: where there is nothing to offload to, nothing is said about it.
    if facts.devices.len() > 1 {
        let (on, of) = (placed.layers_offloaded, placed.layers_total);
        lines.push(format!("load_tensors: offloaded {on}/{of} layers to GPU"));
    }
    buffers(lines, facts, "load_tensors", "model", |m| m.weight_bytes);
}

fn context(lines: &mut Vec<String>, facts: &SetupFact) {
    let c = &facts.context;
    lines.push("llama_context: constructing llama_context".to_string());
    for (key, value) in [
        ("n_seq_max", c.n_seq_max),
        ("n_ctx", c.n_ctx),
        ("n_ctx_seq", c.n_ctx / c.n_seq_max.max(1)),
        ("n_batch", c.n_batch),
        ("n_ubatch", c.n_ubatch),
    ] {
        lines.push(format!("llama_context: {key:<21} = {value}"));
    }
    buffers(lines, facts, "llama_kv_cache", "KV", |m| m.kv_bytes);
    let (k, v) = (c.type_k.to_lowercase(), c.type_v.to_lowercase());
    lines.push(format!("gpuwhy: KV cache of {k} for keys, {v} for values"));
    buffers(lines, facts, "sched_reserve", "compute", |m| m.compute_bytes);
    let g = &facts.graph;
    lines.push(format!("gpuwhy: decode graph: nodes = {}", g.nodes));
    let mut splits = format!("sched_reserve: graph splits = {}", g.splits_prompt);
    if g.splits_prompt != g.splits_decode {
        let _ = write!(splits, " (with bs={}), {} (with bs=1)", c.n_ubatch, g.splits_decode);
    }
    lines.push(splits);
}

fn buffers(
    lines: &mut Vec<String>,
    facts: &SetupFact,
    prefix: &str,
    kind: &str,
    bytes: impl Fn(&DeviceMemory) -> u64,
) {
    for memory in facts.memory.devices.iter().filter(|m| bytes(m) > 0) {
        let mib = bytes(memory) as f64 / MIB;
        let device = &memory.device;
        lines.push(format!("{prefix}: {device:>10} {kind} buffer size = {mib:8.2} MiB"));
    }
}

/// Lines about what a run took.
pub(crate) fn timing_lines(timings: &Timings) -> Vec<String> {
    let mut lines = Vec::new();
    let mut one = |what: &str, unit: &str, phase: &PhaseTimings| {
        if phase.tokens > 0 {
            let ms = phase.total_ns as f64 / 1e6;
            lines.push(format!(
                "llama_perf_context_print: {what} = {ms:10.2} ms / {:5} {unit} ({:8.2} ms per token, \
                 {:8.2} tokens per second)",
                phase.tokens,
                ms / phase.tokens as f64,
                phase.tokens_per_s
            ));
        }
    };
    one("prompt eval time", "tokens", &timings.prompt);
    one("       eval time", "runs  ", &timings.decode);
    lines
}
