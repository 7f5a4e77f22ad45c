//! `op-unsupported-on-backend`: an operation of every layer is not supported by the GPU's backend.

use std::collections::BTreeMap;

use crate::advise::diagnose::facts::{Facts, LoadFacts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::BufferKind;

use super::kv_quant_attention_on_cpu::most_splits;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "an operation is not supported by the GPU's backend and runs on the CPU",
    doc: Doc {
        detects: "A model wholly on the GPU whose graph is cut into many more splits than the GPUs \
            explain: the backend cannot do some operation, and the CPU does it in every layer.",
        costs: "At every cut the GPU stops, data goes to the CPU and comes back. With one such \
            operation per layer the copies and waits take most of the time, even if the operation \
            itself is small.",
        evidence: "All layers offloaded, the cache on the GPU in f16, no tensors moved by the user, \
            and many more splits than one for the embedding and one per GPU. A scheduler dump names \
            the operation. With a quantised KV cache it is attention: kv-quant-attention-on-cpu.",
        fix: "A newer release, which may have the kernel; another backend (CUDA or ROCm instead of \
            Vulkan); flash attention off, where its kernel is what is missing. To see which operation \
            it is: `GGML_SCHED_DEBUG=2` with `-v`.",
        example: "load_tensors: offloaded 49/49 layers to GPU\n\
            llama_context: graph splits = 98 (with bs=512), 50 (with bs=1)",
    },
    follows_from: &["kv-quant-attention-on-cpu", "kv-cache-on-cpu"],
    check,
};

const ID: &str = "op-unsupported-on-backend";

/// Operations that belong on the CPU in every graph: rows of the embedding, and what scales them.
const USUAL_ON_CPU: &[&str] = &["GET_ROWS", "SCALE", "NONE", "VIEW", "RESHAPE", "CPY", "CONT"];

fn check(facts: &Facts) -> Verdict {
    facts.loads().rev().find_map(|load| found(&load)).into()
}

fn found(load: &LoadFacts) -> Option<Finding> {
    let moved = !load.load.requested.overrides.is_empty()
        || load.load.requested.kv_on_host.is_some()
        || load.on_host(BufferKind::Kv) > 0;
    if load.placement() != Some(Placement::Whole) || moved {
        return None;
    }
    let graph = load.load.graph?;
    let (splits, expected) = (most_splits(&graph)?, load.splits_expected()?);
    let layers = load.repeating_layers();
    // Some models have a few cuts more; an operation that every fourth layer has makes this many.
    if splits <= expected + (layers / 4).max(4) {
        return None;
    }
    let (keys, values) = load.kv_types();
    let quantised = [&keys, &values].iter().any(|t| !matches!(t.as_str(), "f16" | "bf16" | "f32"));
    if quantised && load.attention_splits().is_some() {
        return None; // attention, and its own rule
    }
    let ops = ops_on_cpu(load);
    let named = ops.first().map(|(op, _)| op.clone());
    let per_layer = (splits - expected) as f64 / layers.max(1) as f64;
    let title = match &named {
        Some(op) => {
            format!("{op} runs on the CPU: {splits} graph splits where {expected} are normal")
        }
        None => format!(
            "{splits} graph splits where {expected} are normal: some operation runs on the CPU"
        ),
    };
    let prompt_only = graph.splits_decode.is_some_and(|d| d <= expected + 4);
    let when = if prompt_only {
        " That is so for prompts; for single tokens the graph is whole."
    } else {
        ""
    };
    let why = format!(
        "All layers are on the GPU: one split for the token embedding on the CPU and one per GPU would \
         be {expected}. There are {per_layer:.1} more for each of the {layers} layers, so something that \
         layers do is not supported by the backend and is done by the CPU.{when}{}",
        suspicion(load, named.as_deref())
    );
    // A cut costs two copies and two waits; at one or two a layer that is the larger part. Less sure
    // of the cause than of the cuts: the order of nodes on several GPUs can make some as well.
    let sure = if named.is_some() { 0.95 } else { 0.8 };
    Some(
        Finding::problem(ID, Impact::Slower((0.4 * per_layer).clamp(0.2, 0.8)), sure, title)
            .because(why)
            .seen(Evidence::line(graph.line))
            .seen_if(load.load.layers.map(|l| Evidence::line(l.line)))
            .seen_if(named.map(|_| Evidence::figure(listed(&ops))))
            .fix(Fix::system("update", "a newer release of the engine").why(
                "missing kernels are added all the time, those of new architectures most of all",
                format!("`graph splits = {expected}`"),
            ))
            .fix(
                Fix::system(
                    "see the operation",
                    "GGML_SCHED_DEBUG=2 llama-cli -v -m MODEL -ngl 99 -p hi -n 1 2>&1 | grep -F '[  CPU'",
                )
                .why("the dump names every node with its device", "only GET_ROWS on the CPU"),
            ),
    )
}

fn suspicion(load: &LoadFacts, named: Option<&str>) -> String {
    if let Some(op) = named {
        return format!(" The dump names it: {op}.");
    }
    if load.attention_splits().is_some() && load.flash_attention() == Some(true) {
        return " Two a layer with flash attention on can mean that it has no kernel for this head size: \
                compare with `-fa off`."
            .to_string();
    }
    String::new()
}

/// Operations that the dump shows on the CPU, the most frequent first.
fn ops_on_cpu(load: &LoadFacts) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (device, op, nodes) in &load.load.nodes_by_device {
        if device.starts_with("CPU") && !USUAL_ON_CPU.contains(&op.as_str()) {
            *counts.entry(op).or_default() += nodes;
        }
    }
    let mut counts: Vec<(String, u64)> = counts.iter().map(|(o, n)| (o.to_string(), *n)).collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts
}

fn listed(ops: &[(String, u64)]) -> String {
    let shown: Vec<String> = ops.iter().take(4).map(|(op, n)| format!("{n} x {op}")).collect();
    format!("nodes on the CPU in the scheduler's dump: {}", shown.join(", "))
}
