//! `decode-slows-with-depth`: generation becomes slower as requests grow longer.

use crate::advise::diagnose::facts::{DepthLine, Facts, LoadFacts, WhatIf};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{Engine, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "generation becomes slower as the context fills",
    doc: Doc {
        detects: "Requests whose speed of generation falls with the number of tokens that are in the \
            context: the same model is fast with short conversations and slow with long ones.",
        costs: "For each token attention reads the keys and values of all tokens before it. With a few \
            thousand tokens that is little next to the weights; with tens of thousands it can be more.",
        evidence: "The speed of at least six requests with the tokens that their slots held: a line \
            through the time per token over the depth explains most of the differences, and the deepest \
            requests run at less than two thirds of the speed of an empty context. When layers or the \
            cache are on the CPU, that is the cause, and this follows from it.",
        fix: "Flash attention on; keys and values in q8_0, which halves what is read; shorter \
            conversations: summarise or drop old turns, send fewer documents. More memory does not help.",
        example: "slot print_timing: id  0 | task 0 |        eval time =  2500.00 ms / 100 tokens ( 40.00 tokens per second)\n\
            slot      release: id  0 | task 0 | stop processing: n_tokens = 900, truncated = 0\n\
            slot print_timing: id  0 | task 9 |        eval time =  6250.00 ms / 100 tokens ( 16.00 tokens per second)\n\
            slot      release: id  0 | task 9 | stop processing: n_tokens = 30100, truncated = 0",
    },
    follows_from: &[
        "model-exceeds-vram",
        "context-kv-too-large",
        "parallel-multiplies-kv",
        "default-context-tier",
        "vram-used-by-other-process",
        "gpu-layers-set-by-user",
        "kv-cache-on-cpu",
        "kv-quant-attention-on-cpu",
        "ngl-not-set",
        "windows-shared-memory-spill",
        "build-without-gpu-support",
        "gpu-backend-library-missing",
        "no-gpu-found",
    ],
    check,
};

const ID: &str = "decode-slows-with-depth";

/// The deepest request's time per token over that of an empty context, from which on it is a
/// finding,
const SLOWER_MIN: f64 = 1.5;
/// the part of the differences that depth explains,
const EXPLAINED_MIN: f64 = 0.7;
/// and tokens between the shallowest and the deepest request.
const RANGE_MIN: f64 = 2000.0;

/// Whether the speed of this log falls with depth.
pub(super) fn falls(facts: &Facts) -> bool {
    check(facts).finding().is_some()
}

fn check(facts: &Facts) -> Verdict {
    let Some(line) = facts.decode_by_depth() else { return Verdict::Clear };
    let [(shallow, fast), (deep, slow)] = line.ends;
    let at_end = line.base_s + line.per_token_s * deep;
    let slower = at_end / line.base_s.max(f64::MIN_POSITIVE);
    let clear = line.per_token_s <= 0.0
        || line.base_s <= 0.0
        || slower < SLOWER_MIN
        || line.explained < EXPLAINED_MIN
        || deep - shallow < RANGE_MIN;
    if clear {
        return Verdict::Clear;
    }
    let title = format!(
        "generation falls from {fast:.1} tokens/s at {shallow:.0} tokens of context to {slow:.1} at \
         {deep:.0}"
    );
    let load = facts.last_load();
    Finding::problem(ID, Impact::Slower(1.0 - 1.0 / slower), 0.8, title)
        .because(explanation(&line, slower, load.as_ref()))
        .seen(Evidence::line(line.line))
        .seen(Evidence::figure(format!(
            "{} requests: {:.1} ms per token and {:.2} ms more for each 1000 tokens of context, which \
             explains {:.0} % of the differences",
            line.count,
            line.base_s * 1e3,
            line.per_token_s * 1e6,
            line.explained * 100.0
        )))
        .fix_all(load.as_ref().filter(|l| l.flash_attention() != Some(true)).and_then(room::flash_attention))
        .fix_all(load.as_ref().map(|l| q8_0(facts, l)).unwrap_or_default())
        .fix(Fix::system("send less", "summarise or drop old turns; fewer documents in the prompt").why(
            "what is not in the context is not read",
            format!("{:.1} tokens/s again with a short context", 1.0 / line.base_s),
        ))
        .into()
}

fn explanation(line: &DepthLine, slower: f64, load: Option<&LoadFacts>) -> String {
    let kv = load.and_then(|l| {
        let sizes = l.sizes()?;
        let ctx = sizes.ctx.filter(|c| *c > 0)?;
        let ctx_share = line.ends[1].0 / ctx as f64;
        Some((sizes.kv_if(&WhatIf { ctx_share, ..sizes.as_is() }), sizes.weights_bytes))
    });
    let read = match kv {
        Some((kv, weights)) if kv > 0 => format!(
            " At {:.0} tokens that is {} of keys and values next to {} of weights.",
            line.ends[1].0,
            Bytes(kv),
            Bytes(weights)
        ),
        _ => String::new(),
    };
    format!(
        "For every token attention reads the keys and values of all tokens before it, so the time of a \
         token grows with the context: at the deepest request it is {slower:.1} times that of an empty \
         one.{read}"
    )
}

/// Keys and values of half the size, where they are f16.
fn q8_0(facts: &Facts, load: &LoadFacts) -> Vec<Fix> {
    let (keys, values) = load.kv_types();
    if keys != "f16" || values != "f16" {
        return Vec::new();
    }
    let fixes = match facts.log.engine {
        Engine::Vllm => return Vec::new(),
        Engine::Ollama if facts.ollama_since(Version(0, 5, 0)) == Some(false) => return Vec::new(),
        Engine::Ollama => vec![Fix::env("OLLAMA_KV_CACHE_TYPE", "q8_0")],
        _ => vec![Fix::flag("-ctk", "q8_0"), Fix::flag("-ctv", "q8_0")],
    };
    let why = |fix: Fix| {
        fix.why("half as much is read for every token; needs flash attention", "a smaller fall")
    };
    fixes.into_iter().map(why).collect()
}
