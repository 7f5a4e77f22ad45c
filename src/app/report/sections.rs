//! The tables of a report, the same for text and Markdown.

use crate::base::units::{Bytes, BytesPerSecond, Nanos, counted};

use super::document::{LayerPlacement, MemoryFacts, Phase, PhaseTimings, Report, SplitReport};
use super::headline::label;
use super::section::Section;
use super::stalled::stalled;
use super::table::Table;

/// Splits that a table shows; of more, those that took longest.
const SPLITS_SHOWN: usize = 24;

/// Every section that has something to say, the most telling first.
pub(super) fn sections(report: &Report) -> Vec<Section> {
    let decode = splits(report, Phase::Decode);
    let prompt = splits(report, Phase::Prompt);
    let mut all = vec![token_time(report)];
    all.extend(decode);
    all.extend(prompt);
    all.extend([nodes(report), layers(report), memory(report), first_token(report)]);
    all.retain(|s| !s.is_empty());
    all
}

pub(super) fn percent(part: f64, of: f64) -> String {
    if of > 0.0 { format!("{:.1} %", 100.0 * part / of) } else { "-".to_string() }
}

/// A part of a phase's time: its name and how to read it.
type Part = (&'static str, fn(&PhaseTimings) -> u64);

/// Where the time of a token goes: the parts and their sum.
fn token_time(report: &Report) -> Section {
    let (decode, prompt) = (&report.timings.decode, &report.timings.prompt);
    let mut table = Table::new(&["part", ">per token", ">share", ">prompt", ">share"]);
    let rows: [Part; 9] = [
        ("splits compute", |t| t.parts.compute_ns),
        ("copies between devices", |t| t.parts.copy_ns),
        ("splits wait", |t| t.parts.wait_ns),
        ("writing inputs", |t| t.parts.inputs_ns),
        ("reading logits", |t| t.parts.logits_ns),
        ("building graphs", |t| t.parts.graph_ns),
        ("sampling", |t| t.parts.sampling_ns),
        ("tokens to text", |t| t.parts.detokenise_ns),
        ("unaccounted", |t| t.parts.unaccounted_ns),
    ];
    let total: Part = ("total", |t| t.total_ns);
    for (name, part) in rows.into_iter().chain([total]) {
        let (d, p) = (part(decode) as f64, part(prompt) as f64);
        table.row([
            name.to_string(),
            Nanos(d / decode.tokens.max(1) as f64).to_string(),
            percent(d, decode.total_ns as f64),
            Nanos(p).to_string(),
            percent(p, prompt.total_ns as f64),
        ]);
    }
    let mut notes = Vec::new();
    if decode.ubatches > 0 {
        notes.push(format!(
            "{} decoded in {} of {:.1} sequences; {} of the time is accounted for",
            counted(decode.tokens, "token"),
            counted(decode.ubatches, "step"),
            decode.sequences,
            percent(decode.accounted_share, 1.0)
        ));
    }
    if report.timings.inter_token_median_ns > 0.0 {
        notes.push(format!(
            "between tokens: median {}, 99th percentile {}",
            Nanos(report.timings.inter_token_median_ns),
            Nanos(report.timings.inter_token_p99_ns)
        ));
    }
    if prompt.ubatches > 0 {
        notes.push(format!(
            "prompt ubatches carried {} of the {} tokens that would fit",
            percent(prompt.occupancy, 1.0),
            report.facts.context.n_ubatch
        ));
    }
    notes.extend(stalled(&report.stalls));
    if report.timings.per_node {
        notes.push("nodes were timed one by one, which slows every split down".to_string());
    }
    Section { title: "Where the time went".to_string(), table, notes }
}

/// The splits of one phase, for the cut that took the most time; `None` without ubatches.
fn splits(report: &Report, phase: Phase) -> Option<Section> {
    let of_phase = || report.splits.iter().filter(|s| s.phase == phase);
    let shown: Vec<&SplitReport> = of_phase().filter(|s| s.cut == 0).collect();
    let cuts = of_phase().map(|s| s.cut + 1).max()?;
    let timings = match phase {
        Phase::Decode => &report.timings.decode,
        Phase::Prompt => &report.timings.prompt,
    };
    // Decode is told for one token, a prompt as a whole.
    let unit = match phase {
        Phase::Decode => timings.tokens.max(1) as f64,
        Phase::Prompt => 1.0,
    };
    let mut longest: Vec<&&SplitReport> = shown.iter().collect();
    longest.sort_by_key(|s| std::cmp::Reverse(busy_ns(s)));
    longest.truncate(SPLITS_SHOWN);
    longest.sort_by_key(|s| s.index);
    let mut table = Table::new(&[
        ">#", "device", ">nodes", "from", "to", ">copied", ">wait", ">copy", ">compute", ">share",
    ]);
    let time = |ns: u64| Nanos(ns as f64 / unit).to_string();
    for s in &longest {
        table.row([
            s.index.to_string(),
            label(&s.device, s.is_virtual),
            s.nodes.to_string(),
            s.range[0].clone(),
            s.range[1].clone(),
            Bytes((s.copy_bytes as f64 / unit) as u64).to_string(),
            time(s.wait_ns),
            time(s.copy_ns),
            time(s.compute_ns),
            percent(busy_ns(s) as f64, timings.total_ns as f64),
        ]);
    }
    let mut notes = Vec::new();
    for s in &longest {
        notes.push(format!("#{} {}", s.index, s.cause));
        notes.extend(s.inputs.iter().map(|i| input(s, i)));
    }
    notes.extend(report.reads.iter().filter(|r| r.phase == phase && r.cut == 0).map(|r| {
        let each = Bytes((r.copy_bytes as f64 / unit) as u64);
        format!("the host reads {} from {}, {each}", r.tensor, r.from)
    }));
    if longest.len() < shown.len() {
        let rest = shown.len() - longest.len();
        notes.push(format!("{rest} more splits took less time; --format json has them all"));
    }
    if cuts > 1 {
        notes.push(format!(
            "the graph was cut in {cuts} ways; this is the one that took the most time"
        ));
    }
    let title = match phase {
        Phase::Decode => format!("Splits of a decode step: {} (times per token)", shown.len()),
        Phase::Prompt => format!("Splits of a prompt ubatch: {} (times in all)", shown.len()),
    };
    Some(Section { title, table, notes })
}

fn busy_ns(s: &SplitReport) -> u64 {
    s.wait_ns + s.copy_ns + s.compute_ns
}

fn input(split: &SplitReport, input: &super::document::InputReport) -> String {
    let rate = (input.copy_ns > 0).then(|| {
        let bytes = (input.bytes * input.copies) as f64;
        format!(" at {}", BytesPerSecond(bytes * 1e9 / input.copy_ns as f64))
    });
    let blocking = if input.blocking > 0 { ", the host waits" } else { "" };
    format!(
        "#{} copies {} from {}, {}{}{blocking}: {}",
        split.index,
        input.tensor,
        input.from,
        Bytes(input.bytes),
        rate.unwrap_or_default(),
        input.cause
    )
}

/// The slowest nodes, when nodes were timed.
fn nodes(report: &Report) -> Section {
    const SHOWN: usize = 20;
    let mut timed: Vec<(u64, &SplitReport, &super::document::NodeReport)> = report
        .splits
        .iter()
        .filter(|s| s.phase == Phase::Decode)
        .flat_map(|s| s.node_list.iter().map(move |n| (n.compute_ns.unwrap_or(0), s, n)))
        .filter(|(ns, ..)| *ns > 0)
        .collect();
    timed.sort_by_key(|(ns, ..)| std::cmp::Reverse(*ns));
    timed.truncate(SHOWN);
    let decode = &report.timings.decode;
    let mut table = Table::new(&["node", "op", "device", ">per token", ">share", "why there"]);
    for (ns, split, node) in timed {
        table.row([
            node.name.clone(),
            node.op.clone(),
            label(&split.device, split.is_virtual),
            Nanos(ns as f64 / decode.tokens.max(1) as f64).to_string(),
            percent(ns as f64, decode.total_ns as f64),
            node.cause.clone(),
        ]);
    }
    Section { title: "Slowest nodes of a decode step".to_string(), table, notes: Vec::new() }
}

fn layers(report: &Report) -> Section {
    let mut table = Table::new(&["layers", "device", "why"]);
    let placement = &report.facts.placement;
    let is_virtual =
        |name: &str| report.facts.devices.iter().any(|d| d.name == name && d.is_virtual);
    for run in placement.layers.chunk_by(|a, b| a.device == b.device) {
        let device = &run[0].device;
        // The last layer that repeats speaks for its neighbours.
        let speaker = run.iter().rev().find(|l| l.layer != "output").unwrap_or(&run[0]);
        table.row([range(run), label(device, is_virtual(device)), speaker.cause.clone()]);
    }
    let notes = placement
        .exceptions
        .iter()
        .map(|e| {
            let more =
                if e.count > 1 { format!(" and {} alike", e.count - 1) } else { String::new() };
            format!(
                "{}{more} on {}: {}",
                e.weight,
                label(&e.device, is_virtual(&e.device)),
                e.cause
            )
        })
        .collect();
    Section { title: "Placement".to_string(), table, notes }
}

/// `0-12`, `13-23 and output`, `output`.
fn range(run: &[LayerPlacement]) -> String {
    let (last, output) = match run.split_last() {
        Some((last, rest)) if last.layer == "output" => (rest.last(), true),
        Some((last, _)) => (Some(last), false),
        None => return String::new(),
    };
    let Some(last) = last else { return "output".to_string() };
    let first = &run[0].layer;
    let layers =
        if *first == last.layer { first.clone() } else { format!("{first}-{}", last.layer) };
    if output { format!("{layers} and output") } else { layers }
}

fn memory(report: &Report) -> Section {
    let memory = &report.facts.memory;
    let mut table =
        Table::new(&["device", ">weights", ">KV cache", ">compute", ">needed", ">free", ">of"]);
    for d in &memory.devices {
        let is_virtual = report.facts.devices.iter().any(|f| f.name == d.device && f.is_virtual);
        table.row([
            label(&d.device, is_virtual),
            Bytes(d.weight_bytes).to_string(),
            Bytes(d.kv_bytes).to_string(),
            Bytes(d.compute_bytes + d.scratch_bytes).to_string(),
            Bytes(d.needed_bytes).to_string(),
            Bytes(d.free_bytes).to_string(),
            Bytes(d.total_bytes).to_string(),
        ]);
    }
    let mut notes = vec![peak(memory)];
    let c = &report.facts.context;
    notes.push(format!(
        "context {} tokens for {}, batches of {} in ubatches of {}, keys {}, values {}",
        c.n_ctx,
        counted(c.n_seq_max, "sequence"),
        c.n_batch,
        c.n_ubatch,
        c.type_k,
        c.type_v
    ));
    let facts = &report.facts;
    notes.push(format!("threads {}; CPU kernels {}", facts.threads, facts.isa));
    notes.push(format!("the CPU's weights are {}", facts.weight_layout));
    if !facts.gpus.is_empty() {
        notes.push(format!("GPUs: {}", facts.gpus));
    }
    Section { title: "Memory".to_string(), table, notes }
}

fn peak(memory: &MemoryFacts) -> String {
    let predicted = memory.predicted_bytes;
    let told = format!("predicted {} on the host, logits included", Bytes(predicted));
    let (Some(peak), Some(before)) = (memory.peak_rss_bytes, memory.rss_before_bytes) else {
        return told;
    };
    let grown = peak.saturating_sub(before);
    format!(
        "{told}; resident memory grew by at most {} ({:.2} times that), from {} to {}",
        Bytes(grown),
        grown as f64 / predicted.max(1) as f64,
        Bytes(before),
        Bytes(peak)
    )
}

/// The way to the first token, or where none came, loading alone.
fn first_token(report: &Report) -> Section {
    let mut table = Table::new(&["part", ">time"]);
    let (l, f) = (&report.timings.load, &report.timings.first_token);
    let mut rows = vec![
        ("opening the file, header", l.header_ns),
        ("tokenizer", l.tokenizer_ns),
        ("weights in place", l.weights_ns),
        ("KV cache and compute buffers", l.reserve_ns),
    ];
    if l.kernels_ns > 0 {
        rows.push(("compiling kernels for the GPU", l.kernels_ns));
    }
    if f.total_ns > 0 {
        rows.extend([
            ("prompt to tokens", f.tokenise_ns),
            ("building graphs", f.graph_ns),
            ("computing the prompt", f.prompt_ns),
            ("sampling", f.sample_ns),
            ("unaccounted", f.unaccounted_ns),
        ]);
    }
    rows.push(("total", if f.total_ns > 0 { f.total_ns } else { l.total_ns }));
    for (part, ns) in rows {
        table.row([part.to_string(), Nanos(ns as f64).to_string()]);
    }
    let mut notes = Vec::new();
    if f.total_ns > 0 {
        notes.push(format!("{} beyond the prompt's own time", Nanos(f.beyond_prompt_ns as f64)));
    }
    if l.read_ahead_ns > 0 {
        notes.push(format!(
            "meanwhile {} of weights were read ahead, or found in memory, in {}: {}",
            Bytes(l.read_ahead_bytes),
            Nanos(l.read_ahead_ns as f64),
            BytesPerSecond(l.read_ahead_bytes as f64 * 1e9 / l.read_ahead_ns as f64)
        ));
    }
    notes.extend(report.facts.model.notes.iter().cloned());
    Section { title: "Time to first token".to_string(), table, notes }
}
