//! `models-share-vram`: an earlier model of the same server still holds memory.

use crate::advise::diagnose::facts::{Cause, Facts, LoadFacts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, LoadOutcome};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "another model of the same server holds the memory that layers would need",
    doc: Doc {
        detects: "A model that is loaded while an earlier one is still there, with layers on the CPU \
            that would fit an idle GPU.",
        costs: "Ollama keeps a model for five minutes after its last request and places the next one \
            in what is left, when at least some of it fits.",
        evidence: "An earlier load that ended well, of another model, with no unload between, and less \
            free memory at the second load by about its size.",
        fix: "`OLLAMA_MAX_LOADED_MODELS=1`, or `ollama stop` for the model that is not needed, or a \
            short `OLLAMA_KEEP_ALIVE`.",
        example: "msg=\"llama runner started in 4.10 seconds\"\n\
            msg=offload layers.model=41 layers.offload=17 memory.available=\"[9.1 GiB]\"",
    },
    follows_from: &["vram-not-released"],
    check,
};

const ID: &str = "models-share-vram";

fn check(facts: &Facts) -> Verdict {
    let Some((load, short)) = facts.short_load() else { return Verdict::Clear };
    let Some(share) = short.share_of_time(Cause::Others) else { return Verdict::Clear };
    let sizes = &short.sizes;
    let lost = sizes.total_bytes.iter().sum::<u64>().saturating_sub(sizes.free_bytes.iter().sum());
    let other = facts.loads().rfind(|l| {
        l.load.index < load.load.index
            && matches!(l.load.outcome, LoadOutcome::Ready(_))
            && !l.same_model(&load)
            && held(l).is_some_and(|bytes| bytes >= lost / 2)
    });
    let Some(other) = other else { return Verdict::Clear };
    let bytes = Bytes(held(&other).unwrap_or(0));
    let title = format!(
        "an earlier model holds {bytes} of GPU memory: {} of {} layers run on the CPU",
        short.missing, sizes.layers
    );
    let why = format!(
        "Free as the load began: {}; the GPUs have {}. The model that was loaded before is still there \
         with {bytes}. On idle GPUs {} more would fit.",
        room::memories(&sizes.free_bytes),
        room::memories(&sizes.total_bytes),
        room::layers(short.by_others)
    );
    // The share of the time that the layers take which would fit without the other model.
    Finding::problem(ID, Impact::Slower(share), 0.9, title)
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen(Evidence::line(other.load.line))
        .fix(Fix::env("OLLAMA_MAX_LOADED_MODELS", "1").why(
            "the earlier model is unloaded before the next one is placed",
            "all free memory in `memory.available`, and more layers offloaded",
        ))
        .fix(
            Fix::system("ollama stop", "ollama ps; ollama stop MODEL")
                .why("a model stays five minutes after its last request", "one model in the list"),
        )
        .into()
}

/// What a load holds on GPUs, as far as told.
fn held(load: &LoadFacts) -> Option<u64> {
    let kinds = [BufferKind::Model, BufferKind::Kv, BufferKind::Compute, BufferKind::Recurrent];
    let buffers = kinds.iter().map(|&k| load.on_gpus(k)).sum::<u64>();
    let planned = load.load.estimate.as_ref().map(|e| e.allocations_bytes.iter().sum::<u64>());
    let shown = load.load.size_vram_and_total.map(|s| s.value.0);
    [Some(buffers), planned, shown].into_iter().flatten().max().filter(|&b| b > 0)
}
