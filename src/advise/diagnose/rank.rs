//! Runs the rules and orders what they found: the primary cause first, consequences behind.

use super::facts::Facts;
use super::finding::{Finding, Impact, Kind};
use super::registry::RULES;
use super::rule::{NeedMore, Rule, Verdict};

/// What all rules together say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// Causes, the one that explains most first.
    pub findings: Vec<Finding>,
    /// Findings that follow from one of `findings`, with the rule that they follow from.
    pub consequences: Vec<(Finding, &'static str)>,
    /// What looks like a problem and is none.
    pub benign: Vec<Finding>,
    /// Questions that the facts leave open, by rule.
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
    for rule in rules {
        match (rule.check)(facts) {
            Verdict::Found(finding) => found.push((rule, *finding)),
            Verdict::Clear => all.clear.push(rule.id),
            Verdict::NeedMore(need) => all.open.push((rule.id, need)),
        }
    }
    let problems: Vec<&'static str> =
        found.iter().filter(|(_, f)| f.kind == Kind::Problem).map(|(r, _)| r.id).collect();
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

/// How much a finding explains, weighted by how sure it is.
fn score(finding: &Finding) -> f64 {
    let weight = match finding.impact {
        Impact::Failure => 3.0,
        Impact::NoGpu => 2.5,
        Impact::Slower(share) => 1.0 + share.clamp(0.0, 1.0),
        Impact::WrongInput => 1.5,
        Impact::Risk => 0.5,
        Impact::None => 0.1,
    };
    weight * finding.confidence
}
