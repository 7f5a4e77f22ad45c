//! `batch-too-small`: prompts are computed in pieces so small that the GPU is hardly used.

use crate::advise::diagnose::facts::{Facts, LoadFacts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, Seen};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the batch is so small that prompts are computed almost token by token",
    doc: Doc {
        detects: "A batch (`num_batch`, `-b`, `-ub`) of a load that is below 32 tokens.",
        costs: "A prompt is computed in pieces of this size, and each piece reads all weights once: 512 \
            tokens in pieces of 2 read them 256 times instead of once. Below 32, llama.cpp does not \
            lend the GPU to layers whose weights are on the CPU either.",
        evidence: "`n_batch` or `n_ubatch` of the load. The example of Ollama's interface, which people \
            copy, has `\"num_batch\": 2`.",
        fix: "Leave `num_batch` out (512), or set 512 or more; `-b 2048 -ub 512` for llama.cpp.",
        example: "llama_context: n_batch       = 2\nllama_context: n_ubatch      = 2",
    },
    follows_from: &[],
    check,
};

const ID: &str = "batch-too-small";
const SMALL: u64 = 32;

fn check(facts: &Facts) -> Verdict {
    facts.loads().rev().find_map(|load| found(facts, &load)).into()
}

fn found(facts: &Facts, load: &LoadFacts) -> Option<Finding> {
    let told = [load.load.n_ubatch, load.load.n_batch, load.load.requested.batch];
    let least: Seen<u64> = told.into_iter().flatten().min_by_key(|s| s.value)?;
    if least.value >= SMALL || least.value == 0 {
        return None;
    }
    let own = matches!(facts.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
    let fix = if own { Fix::flag("-ub", "512") } else { Fix::option("num_batch", "512") };
    let title = format!("prompts are computed {} tokens at a time", least.value);
    // Prompts only; answers are made token by token anyway.
    Some(
        Finding::problem(ID, Impact::Slower(0.5), 0.9, title)
            .because(format!(
                "Each piece reads all weights once, so a prompt of 512 tokens reads them {} times. With \
                 512 tokens at a time it would be once.",
                512u64.div_ceil(least.value)
            ))
            .seen(Evidence::line(least.line))
            .fix(fix.why(
                "the GPU computes many tokens with one pass over the weights",
                "a prompt speed many times the answer's",
            )),
    )
}
