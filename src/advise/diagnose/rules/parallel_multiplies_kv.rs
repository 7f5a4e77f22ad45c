//! `parallel-multiplies-kv`: the context is reserved once for every sequence that may run at a time.

use crate::advise::diagnose::facts::{Cause, Facts, LoadFacts, Shortfall};
use crate::advise::diagnose::finding::{Evidence, Finding, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{Dialect, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "several sequences at a time multiply the context and so the KV cache",
    doc: Doc {
        detects: "A number of parallel sequences (`OLLAMA_NUM_PARALLEL`, `-np`) whose contexts \
            together take the memory that layers would need. Also, as a harmless note, releases of \
            Ollama that try four sequences by themselves and fall back to one.",
        costs: "Ollama asks the runner for `num_ctx` times the number of sequences. The cache for all \
            of them is reserved at once, used or not; layers without room run on the CPU.",
        evidence: "The load's context is a multiple of the context of one sequence, and with one \
            sequence more layers would fit. When one sequence alone is too much, \
            context-kv-too-large is the cause.",
        fix: "`OLLAMA_NUM_PARALLEL=1`, or as many as fit (the report computes it); unset lets the \
            server choose. For llama.cpp `-np 1`, or `-kvu` so that sequences share one cache.",
        example: "server config env=\"map[... OLLAMA_NUM_PARALLEL:16 ...]\"\n\
            llama_new_context_with_model: n_ctx      = 65536\n\
            llama_new_context_with_model: KV self size  = 8192.00 MiB",
    },
    follows_from: &[],
    check,
};

const ID: &str = "parallel-multiplies-kv";

/// Releases that try four sequences when none are set, and one when four do not fit.
const TRIES_FOUR: (Version, Version) = (Version(0, 2, 0), Version(0, 9, 5));
/// When the release after them came out, 2025-07-08: nanoseconds since the epoch.
const TRIED_UNTIL_NS: i64 = 1_751_932_800 * 1_000_000_000;

fn check(facts: &Facts) -> Verdict {
    if let Some((load, short)) = facts.short_load()
        && let Some(share) = short.share_of_time(Cause::Parallel)
    {
        return partly(facts, &load, &short, share).into();
    }
    fell_back(facts).into()
}

fn partly(facts: &Facts, load: &LoadFacts, short: &Shortfall, share: f64) -> Finding {
    let sizes = &short.sizes;
    let (parallel, each) = (sizes.parallel, sizes.ctx_each().unwrap_or(0));
    let title = format!(
        "{parallel} sequences of {each} tokens take {} of KV cache and leave {} of {} layers on the CPU",
        Bytes(sizes.kv_bytes),
        short.missing,
        sizes.layers
    );
    let why = format!(
        "The context of {} is {parallel} x {each}, reserved when the model is loaded. Needed: {}; free: \
         {}. With one sequence the cache would be {} and {} more would be on the GPU.",
        sizes.ctx.unwrap_or(0),
        room::parts(sizes, &sizes.as_is()),
        room::memories(&sizes.free_bytes),
        Bytes(sizes.kv_bytes / parallel),
        room::layers(short.by_parallel),
    );
    // The share of the time that the layers take which one sequence would bring back.
    let sure = if short.free_known { 0.95 } else { 0.85 };
    let setting = facts.setting("OLLAMA_NUM_PARALLEL").map(|s| s.line);
    Finding::problem(ID, Impact::Slower(share), sure, title)
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(setting.map(Evidence::line))
        .seen_if(load.load.n_ctx.or(load.load.requested.ctx).map(|s| Evidence::line(s.line)))
        .fix_all(room::fewer_sequences(load, sizes))
        .fix_all(room::smaller_context(load, sizes))
        .fix_all(room::smaller_kv(load, sizes))
}

/// Four sequences were tried and did not fit anywhere; one does. Nothing is slower by that for one
/// user, but it explains why another GPU is chosen for a long context, and why requests wait.
fn fell_back(facts: &Facts) -> Option<Finding> {
    let dialect = facts.log.dialect.is_none_or(|d| d == Dialect::OllamaA);
    let in_time = facts.version().is_none_or(|v| v >= TRIES_FOUR.0 && v <= TRIES_FOUR.1);
    let unset = facts.setting_number("OLLAMA_NUM_PARALLEL").is_none();
    if !facts.is_ollama() || !dialect || !in_time || !unset {
        return None;
    }
    let load = facts.loads().rfind(|l| {
        l.load.requested.parallel.is_some_and(|p| p.value == 1)
            && l.load.at_ns.is_none_or(|at| at < TRIED_UNTIL_NS)
            && l.load.requested.ctx.is_some_and(|c| c.value > 8192)
    })?;
    let ctx = load.load.requested.ctx?;
    let title = format!("one sequence of {} tokens at a time, because four do not fit", ctx.value);
    let why = format!(
        "With `OLLAMA_NUM_PARALLEL` not set, this release first looks for a GPU with room for four \
         contexts of {} and takes one when there is none. So a long context can end up on another GPU \
         than a short one, and requests are answered one after the other.",
        ctx.value
    );
    let parallel = load.load.requested.parallel?;
    Some(
        Finding::benign(ID, 0.8, title)
            .because(why)
            .seen(Evidence::line(parallel.line))
            .seen(Evidence::line(ctx.line)),
    )
}
