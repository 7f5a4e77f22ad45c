//! `memory-estimate-too-high`: layers are left out although the log's own sizes say that they fit.

use crate::advise::diagnose::facts::{Cause, Facts, LoadFacts, Shortfall};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{Dialect, Engine, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the server estimates more memory than the model needs, and leaves layers out",
    doc: Doc {
        detects: "A server that leaves layers on the CPU although weights, cache, compute buffer of a \
            fully offloaded graph and a reserve together are below the free memory.",
        costs: "A layer or two on the CPU, often the output, for nothing. Each makes every token wait \
            for the CPU.",
        evidence: "The plan's own figures (`msg=offload`). Ollama to 0.12.10 plans with the compute \
            buffer of a partly offloaded graph, which can be much larger than that of the full one, and \
            then there is no room for the last layer. Also: `OLLAMA_GPU_OVERHEAD` that is set. Newer \
            servers and llama.cpp measure; there a good margin must be free before this is said.",
        fix: "`num_gpu` equal to all layers makes the server skip the question; the report says what \
            would remain free. Ollama from 0.12.11 on asks the runner for real sizes. Or make a little \
            room: a slightly smaller context.",
        example: "msg=offload layers.model=41 layers.offload=40 memory.available=\"[11.6 GiB]\" \
            memory.required.full=\"11.7 GiB\" memory.weights.total=\"9.0 GiB\" memory.required.kv=\"800.0 MiB\" \
            memory.graph.full=\"400.0 MiB\" memory.graph.partial=\"1.4 GiB\"",
    },
    follows_from: &[],
    check,
};

const ID: &str = "memory-estimate-too-high";

fn check(facts: &Facts) -> Verdict {
    let Some((load, short)) = facts.short_load() else { return Verdict::Clear };
    // A server that measures and places nothing at all has no library for the GPU.
    if load.load.estimate.is_none() && short.sizes.offloaded == 0 {
        return Verdict::Clear;
    }
    let share = short.share_of_time(Cause::Estimate);
    share.map(|share| finding(facts, &load, &short, share)).into()
}

fn finding(facts: &Facts, load: &LoadFacts, short: &Shortfall, share: f64) -> Finding {
    let sizes = &short.sizes;
    let what = sizes.as_is();
    let free: u64 = sizes.free_bytes.iter().sum();
    let gpus = sizes.free_bytes.len().max(1) as u64;
    let rest = sizes.whole_if(&what) - sizes.weights_bytes - sizes.kv_bytes;
    let need = sizes.weights_bytes + sizes.kv_bytes + rest * gpus;
    let spare = Bytes(free.saturating_sub(need));
    let title = format!(
        "{} of {} layers left on the CPU though the sizes fit with {spare} to spare",
        short.missing, sizes.layers
    );
    let estimate = load.load.estimate.as_ref();
    let planned = estimate
        .and_then(|e| e.full_bytes)
        .map_or(String::new(), |full| format!(" The server planned {} for it.", Bytes(full)));
    let graph = if sizes.graph_planned_bytes > sizes.graph_bytes {
        format!(
            " It reckons with the compute buffer of a partly offloaded graph, {}, where the full one \
             needs {}.",
            Bytes(sizes.graph_planned_bytes),
            Bytes(sizes.graph_bytes)
        )
    } else {
        String::new()
    };
    let why = format!(
        "{} and a reserve of {} make {}; free: {}.{planned}{graph}",
        room::parts(sizes, &what),
        Bytes((rest - sizes.graph_bytes) * gpus),
        Bytes(need),
        room::memories(&sizes.free_bytes),
    );
    let all = sizes.layers.to_string();
    // The time of the layers that are left out. The reserve may be short by what the estimate knows
    // and this sum does not, so it is not certain.
    let sure = if load.load.estimate.is_some() { 0.85 } else { 0.65 };
    let mut finding = Finding::problem(ID, Impact::Slower(share), sure, title)
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(estimate.map(|e| Evidence::line(e.line)))
        .fix(all_layers(load, &all).why(
            format!("places all {all} layers without asking the estimate; {spare} would stay free"),
            format!("`offloaded {all}/{all} layers to GPU`; if the load fails, take one less"),
        ));
    if let Some(overhead) = facts.setting_number("OLLAMA_GPU_OVERHEAD") {
        finding = finding.fix(Fix::env("OLLAMA_GPU_OVERHEAD", "0").why(
            format!("{} of every GPU are kept free by this setting", Bytes(overhead)),
            "the estimate counts them again",
        ));
    }
    if facts.log.dialect == Some(Dialect::OllamaA)
        && facts.ollama_since(Version(0, 12, 11)) != Some(true)
    {
        finding = finding.fix(Fix::system("update", "Ollama 0.12.11 or newer").why(
            "it lays out layers by what the runner really needs",
            "`offloaded` equals all layers",
        ));
    }
    finding.fix_all(room::smaller_context(load, sizes))
}

fn all_layers(load: &LoadFacts, all: &str) -> Fix {
    match load.log.engine {
        Engine::LlamaCpp | Engine::Gpuwhy => Fix::flag("-ngl", all),
        Engine::Ollama | Engine::Vllm | Engine::Unknown => Fix::option("num_gpu", all),
    }
}
