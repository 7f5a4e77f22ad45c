//! `graph-splits-normal`: the number of graph splits is what the devices explain.

use crate::advise::diagnose::facts::{Facts, LoadFacts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::BufferKind;

use super::kv_quant_attention_on_cpu::most_splits;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "this number of graph splits, and a CPU buffer of weights, are normal",
    doc: Doc {
        detects: "A model wholly on GPUs whose graph has one split for the token embedding and one for \
            each GPU.",
        costs: "Nothing. llama.cpp keeps the token embedding in main memory always: looking up a row is \
            no work for a GPU. So the first split is on the CPU, with a few nodes, and every border \
            between GPUs is one more. The CPU's buffer of weights is that embedding, and with mapped \
            files it can show as large as the file.",
        evidence: "`graph splits` of at most the number of GPUs that hold layers plus one, and all \
            layers offloaded. Many more are op-unsupported-on-backend.",
        fix: "Nothing to do: it is the same on every machine.",
        example: "load_tensors: offloaded 33/33 layers to GPU\nllama_context: graph splits = 2",
    },
    follows_from: &[],
    check,
};

const ID: &str = "graph-splits-normal";

fn check(facts: &Facts) -> Verdict {
    let last = facts.loads().rfind(|l| l.load.graph.is_some());
    last.and_then(|load| found(&load)).into()
}

fn found(load: &LoadFacts) -> Option<Finding> {
    let graph = load.load.graph?;
    let splits = most_splits(&graph)?;
    let (expected, gpus) = (load.splits_expected()?, load.gpus_used()?);
    if load.placement() != Some(Placement::Whole) || splits > expected || splits < 2 {
        return None;
    }
    let plural = if gpus == 1 { "GPU" } else { "GPUs" };
    let title = format!("{splits} graph splits on {gpus} {plural} are normal");
    let host = load.on_host(BufferKind::Model);
    let embedding = if host > 0 {
        format!(" The CPU's buffer of {} is the token embedding.", Bytes(host))
    } else {
        String::new()
    };
    let nodes = graph.nodes_prompt.map(|n| format!(" of {n} nodes")).unwrap_or_default();
    Some(
        Finding::benign(ID, 0.97, title)
            .because(format!(
                "One split is the token embedding, which always stays on the CPU, and one is each GPU's \
                 layers: {expected} for {gpus} {plural}. No operation of the graph{nodes} falls back to the \
                 CPU.{embedding}"
            ))
            .seen(Evidence::line(graph.line))
            .seen_if(load.load.layers.map(|l| Evidence::line(l.line))),
    )
}
