//! `output-layer-too-large`: all repeating layers fit, the output layer does not.

use crate::advise::diagnose::facts::{Cause, Facts, LoadFacts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, LineId};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "only the output layer is left on the CPU, and it is large",
    doc: Doc {
        detects: "All repeating layers are on the GPU; the output layer, which turns the last state \
            into one number per word of the vocabulary, is on the CPU.",
        costs: "With a vocabulary of 150,000 to 260,000 words the output's weights are as large as \
            many layers. The CPU reads all of them for every token while the GPU waits; the effect is \
            larger than \"one layer of 49\" suggests.",
        evidence: "`offloaded M-1/M layers to GPU`, or \"offloading output layer to CPU\" with all \
            repeating layers offloaded. When the log's sizes say that it would have fit, \
            memory-estimate-too-high is the cause.",
        fix: "Free about the output's size: a smaller context, a KV cache in q8_0, a smaller batch. \
            Ollama from 0.30 on and llama.cpp of 2026 place the output first, so that a repeating \
            layer is left out instead, which costs less.",
        example: "msg=\"offloading 48 repeating layers to GPU\"\n\
            msg=\"offloading output layer to CPU\"\n\
            msg=\"offloaded 48/49 layers to GPU\"",
    },
    follows_from: &["memory-estimate-too-high"],
    check,
};

const ID: &str = "output-layer-too-large";

/// An output of this many repeating layers' size is large.
const LARGE_LAYERS: f64 = 1.5;

fn check(facts: &Facts) -> Verdict {
    facts.loads().rev().find_map(|load| found(facts, &load)).into()
}

fn found(facts: &Facts, load: &LoadFacts) -> Option<Finding> {
    let (share, line) = load.share()?;
    let told = load.load.output_on_gpu;
    if share.missing() != 1 || share.total < 3 || told.is_some_and(|t| t.value) {
        return None;
    }
    // Under the newer rule of llama.cpp the output goes first, and what is missing is a layer.
    if told.is_none() && new_order(facts, load) {
        return None;
    }
    // The log's own figures say that it would fit: then its size is not what decided.
    if load.shortfall().is_some_and(|s| s.share_of_time(Cause::Estimate).is_some()) {
        return None;
    }
    let (bytes, at, exact) = output_bytes(load)?;
    let sizes = load.sizes();
    let layer = sizes
        .as_ref()
        .map(|s| s.weights_bytes.saturating_sub(bytes) as f64 / (s.layers - 1).max(1) as f64);
    if layer.is_some_and(|l| (bytes as f64) < LARGE_LAYERS * l) {
        return None;
    }
    let about = if exact { "" } else { "about " };
    let title = format!(
        "the output layer ({about}{}) is on the CPU; all {} repeating layers are on the GPU",
        Bytes(bytes),
        share.total - 1
    );
    let like = layer.filter(|&l| l > 0.0).map(|l| bytes as f64 / l);
    let like = like.map(|n| format!(", as much as {n:.1} of the other layers")).unwrap_or_default();
    let why = format!(
        "The output turns the last state into a number for every word of the vocabulary: {about}{} of \
         weights{like}, read by the CPU once for every token while the GPU waits.",
        Bytes(bytes)
    );
    // Its bytes at the CPU's speed against the other weights at the GPU's.
    let rest = sizes.as_ref().map_or(bytes * 8, |s| s.weights_bytes.saturating_sub(bytes));
    let time = 8.0 * bytes as f64 / (8.0 * bytes as f64 + rest as f64);
    let mut finding = Finding::problem(ID, Impact::Slower(time), 0.9, title)
        .because(why)
        .seen(Evidence::line(line))
        .seen_if(told.map(|t| Evidence::line(t.line)))
        .seen_if((at != line).then(|| Evidence::line(at)));
    if let Some(sizes) = &sizes {
        finding = finding
            .fix_all(room::smaller_context(load, sizes))
            .fix_all(room::smaller_kv(load, sizes));
    }
    if facts.is_ollama() {
        finding = finding.fix(Fix::system("update", "Ollama 0.30 or newer").why(
            "it places the output first and leaves a repeating layer out instead",
            "`offloading output layer to GPU`",
        ));
    }
    Some(finding)
}

fn new_order(facts: &Facts, load: &LoadFacts) -> bool {
    let c = facts.log.dialect == Some(crate::observe::logs::Dialect::OllamaC);
    c || load.load.fit.is_some()
}

/// Its size, the line, and whether it is told rather than derived.
fn output_bytes(load: &LoadFacts) -> Option<(u64, LineId, bool)> {
    if let Some(estimate) = &load.load.estimate
        && let Some(bytes) = estimate.nonrepeating_bytes
    {
        return Some((bytes, estimate.line, true));
    }
    // What the CPU holds is the embedding and the output: half of it, or all where they are one.
    let host = load.load.buffers.iter().filter(|b| b.kind == BufferKind::Model && b.is_host());
    let largest = host.max_by_key(|b| b.bytes)?;
    let model = &load.load.model;
    let rows = model.n_vocab.zip(model.n_embd).map(|(v, e)| v * e);
    // Between 4 and 16 bits per weight; six is what mixes of 4 bits use for it.
    let by_shape = rows.map(|r| r * 6 / 8).filter(|&b| b < largest.bytes * 2);
    Some((by_shape.unwrap_or(largest.bytes / 2), largest.line, false))
}
