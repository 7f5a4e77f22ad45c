//! `default-context-tier`: the server chose the context by the amount of GPU memory, and it is too
//! large for this model.

use crate::advise::diagnose::facts::{CTX_MODEST, Cause, Facts, LoadFacts, Shortfall};
use crate::advise::diagnose::finding::{Evidence, Finding, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Engine, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the server's default context, chosen by GPU memory, is larger than what fits",
    doc: Doc {
        detects: "Ollama from 0.15.5 on sets the context by the memory of all GPUs together when \
            nobody asks for one: 262144 from 47 GiB on, 32768 from 23 GiB on, else 4096, and never \
            more than the model was trained for. For a model that fills most of that memory this \
            default pushes layers to the CPU.",
        costs: "A model that ran wholly on the GPU before an update runs partly on the CPU after it, \
            though nothing was changed. The KV cache of the larger context takes the room.",
        evidence: "Layers are missing that a modest context would bring back, the context is the one \
            that the tier gives, and nothing in the log asks for it. The line \"vram-based default \
            context\" makes it certain.",
        fix: "Set the context: `OLLAMA_CONTEXT_LENGTH` for the server, `num_ctx` for a request or a \
            Modelfile. The report computes the largest that fits.",
        example: "msg=\"vram-based default context\" total_vram=\"31.5 GiB\" default_num_ctx=32768\n\
            msg=\"offloaded 37/49 layers to GPU\"",
    },
    follows_from: &[],
    check,
};

const ID: &str = "default-context-tier";
const GIB: u64 = 1 << 30;

/// Memory of all GPUs together from which on a context is the default.
const TIERS: [(u64, u64); 2] = [(47 * GIB, 262144), (23 * GIB, 32768)];

fn check(facts: &Facts) -> Verdict {
    let Some((load, short)) = facts.short_load() else { return Verdict::Clear };
    let Some(share) = short.share_of_time(Cause::Context) else { return Verdict::Clear };
    if facts.setting_number("OLLAMA_CONTEXT_LENGTH").is_some()
        || facts.ollama_since(Version(0, 15, 5)) == Some(false)
        || !served_by_ollama(facts, &load)
    {
        return Verdict::Clear;
    }
    let Some(each) = short.sizes.ctx_each().filter(|&c| c > CTX_MODEST) else {
        return Verdict::Clear;
    };
    // A second load of a model may come without its header; the same number of layers is near enough.
    let layers = short.sizes.layers;
    let trained = |l: &LoadFacts| l.load.model.n_ctx_train.map(|s| s.value);
    let same = |l: &LoadFacts| l.share().is_some_and(|(s, _)| s.total == layers);
    let train = trained(&load).or_else(|| facts.loads().filter(same).find_map(|l| trained(&l)));
    let capped = |tier: u64| train.map_or(tier, |t| tier.min(t));
    let told = facts.notice("default-context-by-vram");
    let told_ctx = told.and_then(|n| n.number("ctx"));
    if let (Some(notice), Some(ctx)) = (told, told_ctx) {
        let found = capped(ctx) == each;
        return found
            .then(|| finding(&load, &short, share, 0.95, Evidence::line(notice.first)))
            .into();
    }
    let memory = all_memory(&load);
    let tier = TIERS.iter().find(|t| memory >= t.0).map(|t| capped(t.1));
    // Without a word of the server: the very number that the tier gives, in lines of that time.
    let fits_tier = tier == Some(each) && recent(facts, &load);
    // Certain of the version, it is nearly so of the cause.
    let sure = if facts.ollama_since(Version(0, 15, 5)) == Some(true) { 0.9 } else { 0.75 };
    let evidence = Evidence::figure(format!(
        "GPUs with {} or more together get a default context of {each} for this model",
        Bytes(memory)
    ));
    fits_tier.then(|| finding(&load, &short, share, sure, evidence)).into()
}

/// Whether the server is Ollama, by its lines or by the store that the model lies in: a paste may
/// hold the runner's lines alone.
fn served_by_ollama(facts: &Facts, load: &LoadFacts) -> bool {
    let store = |p: &String| p.contains("ollama") && p.contains("blobs");
    facts.is_ollama()
        || facts.notice("default-context-by-vram").is_some()
        || (facts.log.engine != Engine::Vllm && load.load.requested.command.is_none())
            && facts.loads().any(|l| l.load.model.path.as_ref().is_some_and(store))
}

/// Lines of a runner that knows the context of one sequence by its new name, `n_ctx_seq`, or whose
/// server is known to be new enough.
fn recent(facts: &Facts, load: &LoadFacts) -> bool {
    facts.ollama_since(Version(0, 15, 5)) == Some(true)
        || load.load.n_ctx_seq.is_some_and(|seq| {
            facts.log.lines.get(seq.line).is_some_and(|l| l.text.contains("n_ctx_seq"))
        })
}

/// Memory of all GPUs: as told, else at least what was allocated on them.
fn all_memory(load: &LoadFacts) -> u64 {
    let totals: u64 = load.log.devices.iter().filter_map(|d| d.total_bytes).sum();
    let kinds = [BufferKind::Model, BufferKind::Kv, BufferKind::Compute];
    // Any load of the log shows what the GPUs hold.
    let used = load.facts().loads().map(|l| kinds.iter().map(|&k| l.on_gpus(k)).sum::<u64>()).max();
    totals.max(used.unwrap_or(0))
}

fn finding(
    load: &LoadFacts,
    short: &Shortfall,
    share: f64,
    confidence: f64,
    evidence: Evidence,
) -> Finding {
    let sizes = &short.sizes;
    let each = sizes.ctx_each().unwrap_or(0);
    let title = format!(
        "the default context of {each}, chosen by GPU memory, leaves {} of {} layers on the CPU",
        short.missing, sizes.layers
    );
    let before = load.facts().loads().find(|l| {
        l.load.index < load.load.index && l.load.layers.is_some_and(|n| n.offloaded == n.total)
    });
    let before = before.and_then(|l| Some((l.ctx()?, l.load.layers?)));
    let earlier = before.map(|(ctx, layers)| {
        format!(
            " Earlier in this log a context of {ctx} had all {} layers on the GPU.",
            layers.total
        )
    });
    let why = format!(
        "Nobody asked for a context, so the server took the one that it gives GPUs of this size. Its KV \
         cache is {}. Needed: {}; there is {}. With {CTX_MODEST} tokens {} more would be on the \
         GPU.{}",
        Bytes(sizes.kv_bytes),
        room::parts(sizes, &sizes.as_is()),
        room::memories(&sizes.free_bytes),
        room::layers(short.by_context),
        earlier.unwrap_or_default(),
    );
    // It explains what the context explains; the context's own rule is its consequence.
    Finding::problem(ID, Impact::Slower(share), confidence, title)
        .because(why)
        .seen(evidence)
        .seen(Evidence::line(sizes.line))
        .seen_if(load.load.n_ctx.map(|s| Evidence::line(s.line)))
        .seen_if(before.map(|(_, layers)| Evidence::line(layers.line)))
        .fix_all(room::smaller_context(load, sizes))
        .fix_all(room::smaller_kv(load, sizes))
}
