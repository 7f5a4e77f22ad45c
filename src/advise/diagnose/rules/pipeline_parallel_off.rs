//! `pipeline-parallel-off`: several GPUs work on a prompt one after the other for want of memory.

use crate::advise::diagnose::facts::{Facts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Severity};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "prompts pass the GPUs one after the other because pipelining did not fit",
    doc: Doc {
        detects: "A model on several GPUs for which llama.cpp meant to keep all of them busy with \
            different parts of a prompt, and gave that up because its buffers could not be allocated.",
        costs: "Long prompts are read at the speed of one GPU instead of several. Generation of a single \
            answer is the same with and without it.",
        evidence: "\"compute buffer allocation failed, retrying without pipeline parallelism\" and layers \
            on more than one GPU.",
        fix: "A smaller `-ub` or context makes room for the buffers, of which pipelining needs four. If \
            prompts are short, leave it as it is.",
        example: "llama_context: compute buffer allocation failed, retrying without pipeline parallelism",
    },
    follows_from: &["vram-used-by-other-process", "context-kv-too-large"],
    check,
};

const ID: &str = "pipeline-parallel-off";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("pipeline-parallel-given-up") else { return Verdict::Clear };
    let split = facts
        .loads()
        .rev()
        .any(|l| l.placement() == Some(Placement::Whole) && l.gpus_used().is_some_and(|n| n > 1));
    if !split {
        return Verdict::Clear;
    }
    let fix =
        if facts.is_ollama() { Fix::option("num_batch", "256") } else { Fix::flag("-ub", "256") };
    let mut finding = Finding::problem(
        ID,
        Impact::Slower(0.15),
        0.8,
        "prompts are read by one GPU at a time: the buffers of pipelining did not fit",
    );
    // It works, and generation is as fast as ever.
    finding.severity = Severity::Info;
    finding
        .because(
            "With a pipeline, the second GPU computes one part of a prompt while the first one computes \
             the next. It needs its buffers four times; the driver had no memory for that, and the load \
             went on without.",
        )
        .seen(Evidence::line(notice.first))
        .fix(fix.why(
            "smaller parts need smaller buffers",
            "`pipeline parallelism enabled`, and more prompt tokens per second with long prompts",
        ))
        .into()
}
