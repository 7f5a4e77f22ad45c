//! Runs the rules and orders what they found: the primary cause first, consequences behind.

use super::facts::Facts;
use super::finding::{Finding, Fix, FixTarget, Impact, Kind};
use super::knobs::flag_for_build;
use super::registry::RULES;
use super::rule::{NeedMore, Rule, Verdict};
use crate::observe::logs::Engine;

/// What all rules together say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// Causes, the one that explains most first.
    pub findings: Vec<Finding>,
    /// Findings that follow from one of `findings`, with the rule that they follow from.
    pub consequences: Vec<(Finding, &'static str)>,
    /// What looks like a problem and is none.
    pub benign: Vec<Finding>,
    /// Questions that the facts leave open, by rule, each thing to do once; none that a finding has
    /// answered.
    pub open: Vec<(&'static str, NeedMore)>,
    /// Rules that found nothing.
    pub clear: Vec<&'static str>,
}

/// Asks every rule.
pub fn diagnose(facts: &Facts) -> Diagnosis {
    diagnose_with(RULES, facts)
}

fn diagnose_with(rules: &'static [&'static Rule], facts: &Facts) -> Diagnosis {
    let mut all = Diagnosis::default();
    let mut found: Vec<(&Rule, Finding)> = Vec::new();
    let mut open: Vec<(&Rule, NeedMore)> = Vec::new();
    for rule in rules {
        match (rule.check)(facts) {
            Verdict::Found(finding) => found.push((rule, without_idle_fixes(facts, *finding))),
            Verdict::Clear => all.clear.push(rule.id),
            Verdict::NeedMore(need) => open.push((rule, need)),
        }
    }
    let problems: Vec<&'static str> =
        found.iter().filter(|(_, f)| f.kind == Kind::Problem).map(|(r, _)| r.id).collect();
    for (rule, need) in open {
        let answered = rule.follows_from.iter().any(|c| problems.contains(c));
        let asked = all.open.iter().any(|(_, n)| n.settle_by == need.settle_by);
        if !answered && !asked {
            all.open.push((rule.id, need));
        }
    }
    for (rule, finding) in found {
        let cause = rule.follows_from.iter().find(|c| problems.contains(c));
        match (finding.kind, cause) {
            (Kind::Benign, _) => all.benign.push(finding),
            (Kind::Problem, Some(cause)) => all.consequences.push((finding, cause)),
            (Kind::Problem, None) => all.findings.push(finding),
        }
    }
    all.findings.sort_by(|a, b| score(b).total_cmp(&score(a)));
    all
}

/// Leaves out fixes that stand there twice, and variables that the log shows set to that value, and
/// writes flags as the build at hand takes them.
fn without_idle_fixes(facts: &Facts, mut finding: Finding) -> Finding {
    let mut kept: Vec<Fix> = Vec::new();
    let build = facts.version().filter(|_| facts.log.engine == Engine::LlamaCpp).map(|v| v.0);
    for fix in std::mem::take(&mut finding.fixes) {
        let fix = flag_for_build(build, fix);
        let twice = kept
            .iter()
            .any(|k| (k.target, &k.name, &k.value) == (fix.target, &fix.name, &fix.value));
        let set = fix.target == FixTarget::Env
            && facts.log.setting(&fix.name).is_some_and(|s| same_value(&s.value, &fix.value));
        if !twice && !set {
            kept.push(fix);
        }
    }
    finding.fixes = kept;
    finding
}

/// Switches are written `1`, `true` or `on`.
fn same_value(a: &str, b: &str) -> bool {
    let plain = |v: &str| match v.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => "1".to_string(),
        "false" | "off" | "no" => "0".to_string(),
        other => other.to_string(),
    };
    plain(a) == plain(b)
}

/// How much a finding explains, weighted by how sure it is.
fn score(finding: &Finding) -> f64 {
    let weight = match finding.impact {
        Impact::Failure => 3.0,
        Impact::NoGpu => 2.5,
        Impact::Slower(share) if was_watched(finding) => 1.25 + share.clamp(0.0, 1.0),
        Impact::Slower(share) => 1.0 + share.clamp(0.0, 1.0),
        Impact::WrongInput => 1.5,
        Impact::Risk => 0.5,
        Impact::None => 0.1,
    };
    weight * finding.confidence
}

/// Whether a finding rests on what was measured while somebody watched, not on a log's sizes: a share
/// of the time that was seen beats one that was estimated.
fn was_watched(finding: &Finding) -> bool {
    finding.evidence.iter().any(|e| e.place.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::logs::{LineId, LogSession, Setting};

    /// Otherwise two findings could explain each other away, and no cause would be left.
    #[test]
    fn no_rule_follows_from_itself() {
        fn reaches(from: &'static str, to: &str, depth: usize) -> bool {
            let rule = RULES.iter().find(|r| r.id == from);
            let next = rule.map_or(&[][..], |r| r.follows_from);
            depth < RULES.len() && next.iter().any(|n| *n == to || reaches(n, to, depth + 1))
        }
        let cyclic: Vec<_> =
            RULES.iter().filter(|r| reaches(r.id, r.id, 0)).map(|r| r.id).collect();
        assert!(cyclic.is_empty(), "{cyclic:?}");
    }

    #[test]
    fn what_rules_follow_from_exists() {
        for rule in RULES {
            for cause in rule.follows_from {
                assert!(RULES.iter().any(|r| r.id == *cause), "{}: no rule {cause}", rule.id);
            }
        }
    }

    /// Questions come once, and not beside their answer.
    #[test]
    fn open_questions_are_those_that_matter() {
        fn asks(_: &Facts) -> Verdict {
            Verdict::need("what it is", "look")
        }
        fn finds(_: &Facts) -> Verdict {
            Finding::problem("cause", Impact::Risk, 0.5, "title").into()
        }
        const DOC: crate::advise::diagnose::Doc = crate::advise::diagnose::Doc {
            detects: "",
            costs: "",
            evidence: "",
            fix: "",
            example: "",
        };
        const fn rule(
            id: &'static str,
            follows_from: &'static [&'static str],
            check: fn(&Facts) -> Verdict,
        ) -> Rule {
            Rule { id, title: "", doc: DOC, follows_from, check }
        }
        static FIRST: Rule = rule("first", &[], asks);
        static SECOND: Rule = rule("second", &[], asks);
        static ANSWERED: Rule = rule("answered", &["cause"], asks);
        static CAUSE: Rule = rule("cause", &[], finds);
        static ALL: [&Rule; 4] = [&ANSWERED, &FIRST, &SECOND, &CAUSE];
        static ALONE: [&Rule; 1] = [&ANSWERED];
        let log = LogSession::default();
        let facts = Facts::of_log(&log);
        let open = |rules: &'static [&'static Rule]| -> Vec<&'static str> {
            diagnose_with(rules, &facts).open.iter().map(|(id, _)| *id).collect()
        };
        assert_eq!(open(&ALL), ["first"]);
        assert_eq!(open(&ALONE), ["answered"]);
    }

    #[test]
    fn a_share_that_was_measured_beats_one_that_was_estimated() {
        use crate::advise::diagnose::finding::{Evidence, Place};
        let estimated = Finding::problem("log", Impact::Slower(0.6), 0.9, "title");
        let measured = Finding::problem("live", Impact::Slower(0.5), 0.9, "title")
            .seen(Evidence::at(Place::Server, "seen"));
        assert!(score(&measured) > score(&estimated));
        let failure = Finding::problem("fails", Impact::Failure, 0.9, "title");
        assert!(score(&failure) > score(&measured));
    }

    #[test]
    fn a_fix_is_proposed_once_and_not_when_it_is_made() {
        let mut log = LogSession::default();
        let value = "true".to_string();
        let setting = Setting { value, line: LineId(1) };
        log.settings.insert("OLLAMA_FLASH_ATTENTION".to_string(), setting);
        let finding = Finding::problem("x", Impact::Risk, 0.5, "title")
            .fix(Fix::env("OLLAMA_FLASH_ATTENTION", "1"))
            .fix(Fix::env("OLLAMA_NUM_PARALLEL", "1"))
            .fix(Fix::env("OLLAMA_NUM_PARALLEL", "1"));
        let kept = without_idle_fixes(&Facts::of_log(&log), finding).fixes;
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].name, "OLLAMA_NUM_PARALLEL");
    }
}
