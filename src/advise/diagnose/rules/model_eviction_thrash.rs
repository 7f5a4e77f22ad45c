//! `model-eviction-thrash`: several models take turns, and each turn is a load.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Impact};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Load, Role};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "models push each other out of memory",
    doc: Doc {
        detects: "Two or more models are used in turn and do not fit in memory together, so each \
            one is unloaded for the other.",
        costs: "Every change of model costs a whole load before the first token.",
        evidence: "Loads that alternate between files, three or more, and messages that a model \
            was unloaded to make room, or models that were loaded again after another one. Loads \
            of the same file are reload-option-mismatch; a model that was idle for long was \
            unloaded because of keep_alive.",
        fix: "Make them fit together: a smaller context or quantisation for each, \
            OLLAMA_KV_CACHE_TYPE=q8_0 with flash attention, one slot. OLLAMA_MAX_LOADED_MODELS \
            above 1 only helps when the memory suffices. Or group requests by model.",
        example: r#"msg="model requires more gpu memory than is currently available, evicting a model to make space""#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "model-eviction-thrash";

fn check(facts: &Facts) -> Verdict {
    let loads: Vec<&Load> = facts.log.loads.iter().filter(|l| l.role == Role::Main).collect();
    let path = |l: &&Load| l.model.path.clone();
    // A model that comes back after another one was loaded in between.
    let back: Vec<&&Load> = loads
        .iter()
        .enumerate()
        .filter(|(i, load)| {
            let earlier = &loads[..*i];
            let other = earlier.last().is_some_and(|l| l.model.path != load.model.path);
            load.model.path.is_some() && other && earlier.iter().any(|l| path(l) == path(load))
        })
        .map(|(_, load)| load)
        .collect();
    let evicted = facts.notice("model-evicted");
    let confidence = match (back.len(), evicted) {
        (0, _) | (1, None) => return Verdict::Clear,
        (1, Some(_)) => 0.7,
        (_, None) => 0.75,
        (_, Some(_)) => 0.93,
    };
    let limit = facts.setting_number("OLLAMA_MAX_LOADED_MODELS");
    let mut finding = Finding::problem(
        ID,
        Impact::Slower(0.6),
        confidence,
        format!(
            "models were loaded again {} time(s) after another one had taken their place",
            back.len()
        ),
    )
    .because(
        "The server keeps as many models as fit. When the next request names another model, one \
            is unloaded, and it has to be loaded from the beginning when its turn comes again.",
    )
    .seen_if(evicted.map(|n| Evidence::line(n.first)));
    for load in back.iter().take(3) {
        finding = finding.seen(Evidence::line(load.line));
    }
    if limit == Some(1) {
        finding = finding.fix(fix_env(facts.version(), "OLLAMA_MAX_LOADED_MODELS", "2").why(
            "the limit is 1 now, so two models never stay, whatever the memory",
            "both stay in `ollama ps`",
        ));
    }
    finding
        .fix(fix_env(facts.version(), "OLLAMA_CONTEXT_LENGTH", "8192").why(
            "a smaller cache for each model, so that both fit",
            "`ollama ps` lists both models",
        ))
        .fix(
            fix_env(facts.version(), "OLLAMA_NUM_PARALLEL", "1")
                .why("the cache is reserved once for each slot", "`ollama ps` lists both models"),
        )
        .into()
}
