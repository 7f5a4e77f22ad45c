//! `expected-behaviour`: one GPU of several is used, because one is enough.

use crate::advise::diagnose::facts::{Facts, LoadFacts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::LineId;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "one GPU of several is used because one is enough: designed behaviour",
    doc: Doc {
        detects: "Several GPUs and a model that was placed on one of them because it fits there.",
        costs: "Nothing. One GPU that holds the model is faster than several that share it, since they \
            would take turns. The others are free for other models.",
        evidence: "Ollama's \"new model will fit in available VRAM in single GPU\", \"selecting single \
            GPU\", or weights on one GPU with all layers offloaded while the log lists several.",
        fix: "Nothing to do. `OLLAMA_SCHED_SPREAD=1` spreads every model over all GPUs, which makes room \
            for a longer context and is not faster; several requests at a time or several models use \
            more GPUs.",
        example: "msg=\"new model will fit in available VRAM in single GPU, loading\" parallel=4 \
            available=25393909596 required=\"6.2 GiB\"",
    },
    follows_from: &[],
    check,
};

const ID: &str = "expected-behaviour";

fn check(facts: &Facts) -> Verdict {
    let devices = facts.log.devices.iter().filter(|d| d.integrated != Some(true)).count();
    if devices < 2 {
        return Verdict::Clear;
    }
    let found = facts.loads().rev().find_map(|load| Some((load, one_gpu(&load)?)));
    let Some((load, line)) = found else { return Verdict::Clear };
    let title = format!("one of {devices} GPUs is used because the model fits on it");
    let library = facts.log.devices.first().map(|d| d.line);
    Finding::benign(ID, 0.9, title)
        .because(
            "A model that fits one GPU is placed on one. Layers are computed one after the other, so that \
             spreading them over more GPUs would not make an answer faster: each would wait for the \
             others. The other GPUs are free for other models.",
        )
        .seen(Evidence::line(line))
        .seen_if(load.load.layers.map(|l| Evidence::line(l.line)))
        .seen_if(library.map(Evidence::line))
        .fix_all(facts.is_ollama().then(|| {
            Fix::env("OLLAMA_SCHED_SPREAD", "1").why(
                "only if the memory of all is wanted, for instance for a longer context; it is not faster",
                "weights on all GPUs",
            )
        }))
        .into()
}

/// The line that shows that a load is on one GPU alone, if it is.
fn one_gpu(load: &LoadFacts) -> Option<LineId> {
    let single = load.load.single_gpu;
    if load.placement().is_some_and(|p| p != Placement::Whole) {
        return None;
    }
    let by_weights = load.gpus_with_weights().len() == 1 && load.load.layers.is_some();
    single.or(load.load.layers.filter(|_| by_weights).map(|l| l.line))
}
