//! `removed-option`: settings that earlier versions knew.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::{Fault, judge_flag, judge_option};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::Version;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a setting was taken out of this version",
    doc: Doc {
        detects: "A variable, option or flag that earlier versions knew and this one does not.",
        costs: "It has no effect; a program may refuse to start because of a flag.",
        evidence: "\"the argument has been removed\", an option or argument that the engine calls \
            invalid and that older versions had (use_mlock, low_vram, f16_kv, tfs_z, --no-mmap, \
            --draft-max).",
        fix: "Take it out, or use its successor: `--load-mode` for --mlock and --no-mmap, \
            `--spec-draft-n-max` for --draft-max, OLLAMA_KV_CACHE_TYPE for f16_kv.",
        example: r#"error while handling argument "--draft-max": the argument has been removed. use --spec-draft-n-max or --spec-ngram-mod-n-max"#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "removed-option";

fn check(facts: &Facts) -> Verdict {
    if let Some(notice) = facts.notice("removed-argument") {
        let instead = notice.fields.get("instead").map_or("", String::as_str);
        let title = "a flag was removed in this build, which does not start with it".to_string();
        return Finding::problem(ID, Impact::Failure, 0.95, title)
            .because(format!("llama.cpp refuses it and says: {instead}"))
            .seen(Evidence::line(notice.first))
            .fix(
                Fix::system("change the flag", instead.to_string())
                    .why("the successor of the flag", "the program starts"),
            )
            .into();
    }
    if let Some(notice) = facts.notice("invalid-option") {
        let name = notice.fields.get("name").map_or("", String::as_str);
        // What the engine calls invalid it does not have; the newest version's list tells whether
        // an older one had it.
        let version = facts.version().unwrap_or(Version(u32::MAX, 0, 0));
        if let Some(Fault::Removed(instead)) = judge_option(name, "", Some(version)) {
            return found(notice.first, name, &instead, false).into();
        }
    }
    let Some(notice) = facts.notice("unknown-argument") else { return Verdict::Clear };
    let name = notice.fields.get("argument").map_or("", String::as_str);
    match judge_flag(name, None) {
        Some(Fault::Removed(instead)) => found(notice.first, name, &instead, true).into(),
        _ => Verdict::Clear,
    }
}

fn found(line: crate::observe::logs::LineId, name: &str, instead: &str, refused: bool) -> Finding {
    let impact = if refused { Impact::Failure } else { Impact::Risk };
    let successor =
        if instead.is_empty() { String::new() } else { format!(" Use {instead} instead.") };
    let title = format!("{name} was removed from this version");
    let finding = Finding::problem(ID, impact, 0.9, title)
        .because(format!("Earlier versions had {name}; this one does not.{successor}"))
        .seen(Evidence::line(line));
    let fix = Fix::system("take it out", format!("remove {name}")).why(
        if instead.is_empty() { "it has no successor" } else { successor.trim() },
        "no message",
    );
    finding.fix(fix)
}
