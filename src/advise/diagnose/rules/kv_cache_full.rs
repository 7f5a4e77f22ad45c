//! `kv-cache-full`: requests wait because the KV cache has no room for them.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "requests wait because the KV cache is full",
    doc: Doc {
        detects: "A server that takes as many requests at a time as its KV cache holds, a cache that is \
            full, and requests that wait.",
        costs: "Those that wait compute nothing, and those that run may be put back and computed again. \
            The GPU could do more at a time: memory, not speed, is the limit.",
        evidence: "vLLM's lines about throughput: `GPU KV cache usage` near 100 % while `Waiting` is above \
            zero. Waiting with a cache that is half empty is a limit on the number of requests \
            (`--max-num-seqs`) instead.",
        fix: "`--kv-cache-dtype fp8` halves what a token takes; a shorter `--max-model-len` and shorter \
            prompts; a larger `--gpu-memory-utilization` where the GPU has nothing else to do; a smaller \
            quantisation of the weights, which leaves more to the cache.",
        example: "Avg generation throughput: 310.2 tokens/s, Running: 14 reqs, Waiting: 23 reqs, GPU KV cache \
            usage: 99.1%",
    },
    follows_from: &[],
    check,
};

const ID: &str = "kv-cache-full";

/// From this share on no further request of usual length finds room.
const FULL: f64 = 0.9;

fn check(facts: &Facts) -> Verdict {
    let all = &facts.log.requests.all;
    let (Some(used), Some(line)) = (all.kv_used_waiting.mean(), all.waiting_line) else {
        return Verdict::Clear;
    };
    if used < FULL {
        return Verdict::Clear;
    }
    let times = all.kv_used_waiting.count;
    let share = times as f64 / all.waiting.count.max(1) as f64;
    Finding::problem(
        ID,
        Impact::Slower(0.4 * share),
        if times >= 2 { 0.9 } else { 0.75 },
        format!("up to {:.0} requests wait while the KV cache is {:.0} % full", all.waiting.max, 100.0 * used),
    )
    .because(format!(
        "In {times} of {} reports of the server requests waited, and the cache was full. A request is let \
         in only when its keys and values find room, however idle the GPU is.",
        all.waiting.count
    ))
    .seen(Evidence::line(line))
    .fix(Fix::flag("--kv-cache-dtype", "fp8").why(
        "a token takes half as much of the cache",
        "fewer requests that wait, at a lower `GPU KV cache usage`",
    ))
    .fix(Fix::flag("--gpu-memory-utilization", "0.95").why(
        "what weights leave of vLLM's share of the GPU is the cache; only where nothing else needs the GPU",
        "a larger `GPU KV cache size`",
    ))
    .into()
}
