//! `queue-full`: the queue of the server is full.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "requests are refused because too many are waiting",
    doc: Doc {
        detects: "The server refuses requests with status 503 because its queue is full.",
        costs: "Clients fail or retry, while the GPU is busy with those before them.",
        evidence: "\"server busy, please try again. maximum pending requests exceeded\", or \
            access lines with status 503.",
        fix: "More requests at a time where memory allows (OLLAMA_NUM_PARALLEL, `-np`), fewer \
            from the client, or a longer queue (OLLAMA_MAX_QUEUE), which only makes them wait.",
        example: "server busy, please try again.  maximum pending requests exceeded",
    },
    follows_from: &[],
    check,
};

const ID: &str = "queue-full";

fn check(facts: &Facts) -> Verdict {
    let busy = facts.notice("queue-full");
    let refused = facts.log.requests.kept().find(|r| r.status == Some(503));
    let Some(line) = busy.map(|n| n.first).or(refused.map(|r| r.line)) else {
        return Verdict::Clear;
    };
    let confidence = if busy.is_some() { 0.9 } else { 0.6 };
    let slots = facts.setting_number("OLLAMA_NUM_PARALLEL").unwrap_or(1);
    let queue = facts.setting_number("OLLAMA_MAX_QUEUE").unwrap_or(512);
    Finding::problem(
        ID,
        Impact::Failure,
        confidence,
        "requests are refused: more are waiting than the queue holds",
    )
    .because(format!(
        "{slots} request(s) are computed at a time and up to {queue} wait. More than that are \
            refused with status 503. They wait for the GPU, they do not load it more."
    ))
    .seen(Evidence::line(line))
    .fix(fix_env(facts.version(), "OLLAMA_NUM_PARALLEL", (slots * 2).to_string()).why(
        "several requests share one pass over the weights, so the sum of tokens per second rises; \
            the cache grows with it",
        "fewer requests wait",
    ))
    .fix(
        Fix::system(
            "limit the clients",
            "send at most as many requests at a time as there are slots",
        )
        .why("a longer queue only makes all of them wait longer", "no status 503"),
    )
    .into()
}
