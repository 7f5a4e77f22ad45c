//! `prompt-reprocessed`: a cache that cannot be used for what follows.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the whole prompt is computed again at every turn",
    doc: Doc {
        detects: "The server computes a prompt from its beginning although most of it was in the \
            cache, because the model's memory cannot be taken back to an earlier point.",
        costs: "The time to the first token grows with the whole conversation instead of the last \
            message.",
        evidence: "\"forcing full prompt re-processing due to lack of cache data\" of \
            llama-server (models with a sliding window or recurrent layers), or \"kv cache cannot \
            shift, clearing cache\" of Ollama.",
        fix: "llama-server: `--swa-full` for models with a sliding window (costs memory), more \
            checkpoints (`--ctx-checkpoints`), one slot per client. Keep the beginning of the \
            prompt unchanged: no time or ids in it.",
        example: "slot update_slots: id  0 | task 85 | forcing full prompt re-processing due to \
            lack of cache data (likely due to SWA or hybrid/recurrent memory, ...)",
    },
    follows_from: &[],
    check,
};

const ID: &str = "prompt-reprocessed";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("prompt-reprocessed") else { return Verdict::Clear };
    let all = &facts.log.requests.all;
    // Once may be a new conversation in the slot; again and again is the fault.
    let confidence = if notice.count >= 2 { 0.85 } else { 0.6 };
    let of = if all.count > 0 { format!(" in {} requests", all.count) } else { String::new() };
    Finding::problem(
        ID,
        Impact::Slower(0.3),
        confidence,
        format!("prompts were computed from the beginning {} time(s){of}", notice.count),
    )
    .because(
        "Layers with a sliding window or a recurrent state do not keep what is needed to go on \
            from an earlier point of the prompt. When the new prompt differs before the last \
            saved point, all of it is computed again.",
    )
    .seen(Evidence::line(notice.first))
    .fix(Fix::flag("--swa-full", "").why(
        "keeps the whole cache of layers with a sliding window; costs memory, no help for \
            recurrent ones",
        "the message is gone, and prompt tokens per turn are few",
    ))
    .fix(
        Fix::flag("--ctx-checkpoints", "32").why(
            "more points to go back to",
            "`restored context checkpoint` instead of the message",
        ),
    )
    .fix(
        Fix::system(
            "keep the beginning unchanged",
            "put what changes (time, ids, search results) last",
        )
        .why("everything after the first difference is computed again", ""),
    )
    .into()
}
