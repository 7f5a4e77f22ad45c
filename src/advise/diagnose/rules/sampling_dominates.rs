//! `sampling-dominates`: sampling on the CPU that costs more than it should.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::Request;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "choosing the next token takes a large part of the time",
    doc: Doc {
        detects: "Sampling, the choice of the next token from the probabilities, takes a large \
            part of the time of an answer.",
        costs: "The GPU waits after every token while the CPU sorts a large vocabulary or checks \
            a grammar.",
        evidence: "The time of sampling in the timings next to the time of the answer: more than \
            a quarter of it. Usually it is a few percent.",
        fix: "`top_k` 40 instead of 0 (0 sorts the whole vocabulary), no grammar or JSON schema \
            where it is not needed, fewer samplers; in newer builds of llama.cpp sampling on the \
            device (`-bs`).",
        example: "llama_perf_sampler_print:    sampling time =    2150.00 ms /   256 runs",
    },
    follows_from: &[],
    check,
};

const ID: &str = "sampling-dominates";

fn check(facts: &Facts) -> Verdict {
    let share = |r: &Request| {
        let decode = r.decode_tokens? as f64 / r.decode_tokens_per_s.filter(|s| *s > 0.0)? * 1e9;
        let sampling = r.sampling_ns? as f64;
        // Short answers measure nothing.
        (r.decode_tokens? >= 16).then_some(sampling / (sampling + decode))
    };
    let all = facts.log.requests.kept().filter_map(|r| Some((r, share(r)?)));
    let Some((request, worst)) = all.max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Verdict::Clear;
    };
    if worst < 0.25 {
        return Verdict::Clear;
    }
    let fix =
        if facts.is_ollama() { Fix::option("top_k", "40") } else { Fix::flag("--top-k", "40") };
    Finding::problem(
        ID,
        Impact::Slower(worst),
        0.85,
        format!("sampling takes {:.0} % of the time of an answer", worst * 100.0),
    )
    .because(
        "After every token the probabilities of the whole vocabulary are copied to the CPU, and \
            the samplers choose from them there. With top_k 0, a grammar or many samplers this \
            takes as long as the computation itself, and the GPU is idle in that time.",
    )
    .seen(Evidence::line(request.line))
    .fix(fix.why("only the 40 most likely tokens are looked at", "sampling time falls to a few %"))
    .into()
}
