//! `parallel-slots-reduced`: fewer slots than were asked for, so requests wait for each other.

use crate::advise::diagnose::facts::{Facts, LoadFacts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::LineId;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "fewer parallel slots than asked for: requests are answered one after the other",
    doc: Doc {
        detects: "`OLLAMA_NUM_PARALLEL` above one and a runner with fewer slots, because the contexts \
            of all of them did not fit or because the model's architecture allows one only.",
        costs: "Requests wait for each other although the server was set to answer several at a time. \
            Nothing says so except the number of slots.",
        evidence: "`n_seq_max`, `--parallel` or `n_slots` of the load below the setting; or, when the \
            load is not in the log, all of several requests in slot 0.",
        fix: "Make room for the contexts: a smaller `num_ctx`, a KV cache in q8_0 with flash attention, \
            a smaller model. Some architectures get one slot whatever is set.",
        example: "OLLAMA_NUM_PARALLEL:4\n\
            slot launch_slot_: id  0 | task 512 | processing task\n\
            slot launch_slot_: id  0 | task 777 | processing task",
    },
    follows_from: &[],
    check,
};

const ID: &str = "parallel-slots-reduced";

fn check(facts: &Facts) -> Verdict {
    let Some(asked) = facts.setting_number("OLLAMA_NUM_PARALLEL").filter(|&n| n > 1) else {
        return Verdict::Clear;
    };
    let told = facts.loads().rev().find_map(|l| slots(&l));
    if let Some((slots, line)) = told {
        if slots >= asked {
            return Verdict::Clear;
        }
        return finding(facts, asked, slots, Some(line), 0.95).into();
    }
    let used = slots_used(facts);
    match (used.first(), used.len()) {
        // One slot again and again. A server with free slots takes the one that was idle longest.
        (Some(0), 2..) if used.iter().all(|&s| s == 0) => {
            finding(facts, asked, 1, None, if used.len() >= 4 { 0.9 } else { 0.75 }).into()
        }
        (Some(_), 1) => Verdict::need(
            "how many slots the runner has",
            "the line with `n_slots` or `n_seq_max` from the start of the load; or more requests",
        ),
        _ => Verdict::Clear,
    }
}

/// The slot of every request that was kept.
fn slots_used(facts: &Facts) -> Vec<u32> {
    facts.log.requests.kept().filter_map(|r| r.slot).collect()
}

/// Slots of a load that runs in Ollama, and the line.
fn slots(load: &LoadFacts) -> Option<(u64, LineId)> {
    // Models for embeddings get one sequence by design.
    let arch = load.load.model.arch.as_ref();
    if arch.is_some_and(|a| a.value.contains("bert") || a.value.contains("embed")) {
        return None;
    }
    let seen = load.load.n_seq_max.or(load.load.requested.parallel)?;
    Some((seen.value, seen.line))
}

fn finding(facts: &Facts, asked: u64, slots: u64, line: Option<LineId>, sure: f64) -> Finding {
    let title = format!("{slots} of {asked} parallel slots: requests wait for each other");
    let requests = slots_used(facts).len();
    let figure = (line.is_none())
        .then(|| Evidence::figure(format!("all {requests} requests of the log ran in slot 0")));
    let setting = facts.setting("OLLAMA_NUM_PARALLEL").map(|s| Evidence::line(s.line));
    let first = facts.log.requests.kept().next().map(|r| Evidence::line(r.line));
    let ctx =
        facts.last_load().and_then(|l| l.ctx()).or(facts.setting_number("OLLAMA_CONTEXT_LENGTH"));
    let mut fixes = Vec::new();
    if let Some(half) = ctx.map(|c| c / asked.min(8)).filter(|&c| c >= 1024) {
        fixes.push(Fix::env("OLLAMA_CONTEXT_LENGTH", half.to_string()).why(
            format!("{asked} contexts of this size take what one takes now"),
            format!("{asked} slots"),
        ));
    }
    let kv = facts.setting("OLLAMA_KV_CACHE_TYPE").is_none();
    if kv || facts.setting_switch("OLLAMA_FLASH_ATTENTION") != Some(true) {
        fixes.push(
            Fix::env("OLLAMA_FLASH_ATTENTION", "1")
                .why("a quantised KV cache needs it", "room for more contexts"),
        );
        fixes.push(
            Fix::env("OLLAMA_KV_CACHE_TYPE", "q8_0")
                .why("every slot's context takes about half", "room for more contexts"),
        );
    }
    // With several users the wait is what they feel: with n slots of work, all but one wait.
    Finding::problem(ID, Impact::Slower(0.5), sure, title)
        .because(format!(
            "`OLLAMA_NUM_PARALLEL={asked}` asks for {asked} slots; the runner has {slots}. Ollama reduces \
             the number when the contexts of all do not fit the GPU, and for architectures that can do \
             one sequence only, without saying so."
        ))
        .seen_if(setting)
        .seen_if(line.map(Evidence::line))
        .seen_if(first.filter(|_| line.is_none()))
        .seen_if(figure)
        .fix_all(fixes)
}
