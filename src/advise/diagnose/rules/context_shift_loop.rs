//! `context-shift-loop`: generation runs into the end of the context and shifts, repeatedly.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::fix_context;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::Engine;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the context is full again and again while an answer is generated",
    doc: Doc {
        detects: "While answers are generated the context fills up repeatedly, and each time the \
            oldest half is dropped.",
        costs: "Every shift costs time, and the model forgets the beginning, its instructions \
            included; an answer that never ends goes on for minutes.",
        evidence: "\"context limit hit - shifting\" of Ollama or \"slot context shift\" of \
            llama-server, several times, above all within one request. One shift in a long \
            conversation is designed behaviour.",
        fix: "A larger context (`num_ctx`, `-c`), or an end to the answer: `num_predict` or `-n`, \
            a stop word, and the right chat template, whose end token the model needs to stop. \
            llama-server shifts only with --context-shift in newer builds.",
        example: r#"level=DEBUG source=cache.go:231 msg="context limit hit - shifting" id=0 limit=4096 input=4096 keep=4 discard=2046"#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "context-shift-loop";

fn check(facts: &Facts) -> Verdict {
    let all = &facts.log.requests.all;
    let worst = facts.log.requests.kept().max_by_key(|r| r.shifts);
    let Some(worst) = worst.filter(|r| r.shifts > 0) else { return Verdict::Clear };
    // One shift each in long conversations is how it is meant; two in one answer, or several in a
    // short log, are a context that is too small or an answer without an end.
    if worst.shifts < 2 && all.shifts < 3 {
        return Verdict::Clear;
    }
    let in_one = worst.shifts;
    let limit = facts.last_load().and_then(|l| {
        let per_slot = l.load.n_ctx_seq.map(|c| c.value);
        let slots = l.load.n_seq_max.or(l.load.requested.parallel).map_or(1, |s| s.value.max(1));
        let all = l.load.n_ctx.or(l.load.requested.ctx).map(|c| c.value / slots);
        per_slot.or(all)
    });
    let size = limit.map(|l| format!(" of {l} tokens")).unwrap_or_default();
    let mut finding = Finding::problem(
        ID,
        Impact::WrongInput,
        if in_one >= 2 { 0.9 } else { 0.7 },
        format!("the context{size} was full {} times during generation", all.shifts),
    )
    .because(format!(
        "Each time, the older half of what is in the context is dropped and generation goes on; \
            {in_one} time(s) within one request. The model then no longer sees the beginning. An \
            answer that goes on so long usually does not end by itself: a missing end token in \
            the template, or no limit."
    ))
    .seen(Evidence::line(worst.line))
    .seen_if(facts.notice("token-repeat-limit").map(|n| Evidence::line(n.first)));
    for fix in fix_context(facts.log, limit.unwrap_or(4096) * 2) {
        finding = finding.fix(fix.why("holds prompt and answer", "no shift during an answer"));
    }
    let end = if facts.log.engine == Engine::Ollama {
        Fix::option("num_predict", "2048")
    } else {
        Fix::flag("-n", "2048")
    };
    finding.fix(end.why("an answer that does not end by itself ends here", "answers stop")).into()
}
