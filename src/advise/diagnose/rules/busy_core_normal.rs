//! `busy-core-normal`: with all layers on GPUs, a core at 100 % is the driver waiting.

use crate::advise::diagnose::facts::{Facts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::LibraryKind;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "one CPU core at 100 % while a GPU works is the driver waiting for it",
    doc: Doc {
        detects: "A model wholly on NVIDIA or AMD GPUs. Nothing in such a log is wrong; it says what a \
            busy core in a task manager means then.",
        costs: "Nothing but that core. The driver asks the GPU again and again whether it has finished \
            instead of sleeping, because waking up takes longer than the wait. llama.cpp's threads do \
            the same for a moment after each piece of work on the CPU.",
        evidence: "All layers offloaded. About one core is normal; many cores all the time are not, and \
            then the splits of the graph or the layers on the CPU tell why.",
        fix: "Nothing to do. llama.cpp's `--poll 0` lets its own threads sleep.",
        example: "load_tensors: offloaded 29/29 layers to GPU",
    },
    follows_from: &[],
    check,
};

const ID: &str = "busy-core-normal";

fn check(facts: &Facts) -> Verdict {
    let load = facts.loads().rfind(|l| l.share().is_some());
    let Some(load) = load.filter(|l| l.placement() == Some(Placement::Whole)) else {
        return Verdict::Clear;
    };
    let Some(layers) = load.load.layers else { return Verdict::Clear };
    // What was put on the CPU by hand keeps its cores busy with work.
    if !load.load.requested.overrides.is_empty() {
        return Verdict::Clear;
    }
    let library = load.gpus_with_weights().iter().find_map(|gpu| LibraryKind::from_word(gpu));
    if !matches!(library, Some(LibraryKind::Cuda | LibraryKind::Rocm)) {
        return Verdict::Clear;
    }
    Finding::benign(ID, 0.9, "one CPU core at 100 % is the driver waiting for the GPU")
        .because(format!(
            "All {} layers are on GPUs, so the CPU computes next to nothing. The driver waits by asking \
             again and again, which a task manager shows as one busy core.",
            layers.total
        ))
        .seen(Evidence::line(layers.line))
        .into()
}
