//! The parts of a check's report that text and Markdown share.

use serde_json::Value;

use crate::advise::measure::Metric;
use crate::advise::regress::{Attribution, Effect, MetricVerdict, StructureChange, Verdict};
use crate::app::report::Table;
use crate::app::report::section::Section;
use crate::base::units::Nanos;

use super::document::{CheckMode, CheckReport};

/// Facts of the structure that a table shows; the rest is counted.
const FACTS_SHOWN: usize = 16;

/// Parts of the extra time that are told.
const PARTS_SHOWN: usize = 8;

/// One line: what came of it.
pub(super) fn headline(report: &CheckReport) -> String {
    let verdict = match report.verdict {
        Verdict::Regressed => "REGRESSED",
        Verdict::Improved => "improved",
        Verdict::Unchanged => "passed",
        Verdict::Inconclusive => "INCONCLUSIVE",
    };
    let how = match report.mode {
        CheckMode::Interleaved => "both sides run in turn",
        CheckMode::Stored => "against stored sessions",
        CheckMode::Structure => "structure alone",
    };
    format!("{verdict}: workload {}, {how}", report.workload)
}

/// What was compared with what.
pub(super) fn sides(report: &CheckReport) -> [(&'static str, String); 2] {
    [("baseline", &report.baseline), ("candidate", &report.candidate)].map(|(label, side)| {
        let facts = &side.facts;
        let mut told = vec![side.name.clone()];
        let engine = format!("{} {}", facts.engine, facts.engine_version);
        told.extend([engine.trim().to_string(), facts.model.clone()]);
        told.extend(facts.machine.get("cpu").cloned());
        told.extend(facts.machine.get("gpu").filter(|gpu| *gpu != "none").cloned());
        told.retain(|t| !t.is_empty());
        (label, told.join(", "))
    })
}

/// Every section that has something to say.
pub(super) fn sections(report: &CheckReport) -> Vec<Section> {
    let mut all = vec![structure(report), timing(report)];
    all.extend(report.attribution.iter().flat_map(|test| {
        test.phases
            .iter()
            .filter(|p| p.clear || !p.parts.is_empty())
            .map(|phase| attribution(&test.test, phase))
    }));
    all.push(changes(report));
    all.retain(|s| !s.is_empty());
    all
}

fn value(v: Option<&Value>) -> String {
    match v {
        None => "none".to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A fact that is alike in several tests is told once, with the tests that have it.
fn structure(report: &CheckReport) -> Section {
    let mut rows: Vec<(&StructureChange, Vec<&str>)> = Vec::new();
    for change in &report.structure {
        let same = rows.iter_mut().find(|(known, _)| {
            (&known.fact, &known.baseline, &known.candidate)
                == (&change.fact, &change.baseline, &change.candidate)
        });
        match same {
            Some((_, tests)) => tests.push(&change.test),
            None => rows.push((change, vec![&change.test])),
        }
    }
    rows.sort_by_key(|(change, _)| change.effect);
    let mut table = Table::new(&["fact", "baseline", "candidate", "", "tests"]);
    for (change, tests) in rows.iter().take(FACTS_SHOWN) {
        let effect = match change.effect {
            Effect::Worse => "worse",
            Effect::Changed => "changed",
            Effect::Better => "better",
        };
        table.row([
            change.fact.clone(),
            value(change.baseline.as_ref()),
            value(change.candidate.as_ref()),
            effect.to_string(),
            tests.join(", "),
        ]);
    }
    let mut notes = Vec::new();
    if rows.len() > FACTS_SHOWN {
        let rest = rows.len() - FACTS_SHOWN;
        notes.push(format!("{rest} more facts changed; --format json has them all"));
    }
    Section { title: "Structure".to_string(), table, notes }
}

/// A change in percent, above 0 for the better.
fn change(metric: &MetricVerdict) -> Option<(f64, Option<[f64; 2]>)> {
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    let interval = metric.ratio_interval.map(|i| i.map(percent));
    metric.ratio.map(|ratio| (percent(ratio), interval))
}

/// A number with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        x if x >= 1000.0 => format!("{value:.0}"),
        x if x >= 100.0 => format!("{value:.1}"),
        x if x >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn timing(report: &CheckReport) -> Section {
    let mut table = Table::new(&[
        "test",
        "metric",
        ">baseline",
        ">candidate",
        ">change",
        ">90 % interval",
        ">p",
        ">samples",
        "verdict",
    ]);
    let mut notes = Vec::new();
    let Some(timing) = &report.timing else {
        return Section { title: "Timing".to_string(), table, notes };
    };
    for test in &timing.tests {
        for m in &test.metrics {
            let told = |v: Option<f64>, metric: Metric| {
                v.map_or_else(|| "-".to_string(), |v| format!("{} {}", number(v), metric.unit()))
            };
            let change = change(m);
            table.row([
                test.test.clone(),
                m.metric.name().to_string(),
                told(m.baseline_median, m.metric),
                told(m.candidate_median, m.metric),
                change.map_or_else(|| "-".to_string(), |(c, _)| format!("{c:+.1} %")),
                change.and_then(|(_, i)| i).map_or_else(
                    || "-".to_string(),
                    |[low, high]| format!("{low:+.1} to {high:+.1} %"),
                ),
                if m.p_corrected < 0.001 {
                    "<0.001".to_string()
                } else {
                    format!("{:.3}", m.p_corrected)
                },
                format!("{}, {}", m.baseline_samples, m.candidate_samples),
                m.verdict.name().to_string(),
            ]);
            for reason in &m.reasons {
                notes.push(format!("{} {}: {reason}", test.test, m.metric.name()));
            }
            if m.outliers != [0, 0] {
                let [a, b] = m.outliers;
                notes.push(format!(
                    "{} {}: {a} far values of the baseline and {b} of the candidate; they count",
                    test.test,
                    m.metric.name()
                ));
            }
        }
        if test.rounds_disturbed > 0 {
            notes.push(format!(
                "{}: {} of {} rounds were set aside: {}",
                test.test,
                test.rounds_disturbed,
                test.rounds,
                test.disturbances.join("; ")
            ));
        }
    }
    notes.extend(timing.retried.iter().map(|error| format!("asked again after: {error}")));
    notes.dedup();
    Section { title: format!("Timing ({:.0} s of sampling)", timing.seconds), table, notes }
}

fn attribution(test: &str, phase: &Attribution) -> Section {
    let mut table = Table::new(&["part", ">baseline", ">candidate", ">extra", ">share"]);
    for part in phase.parts.iter().take(PARTS_SHOWN) {
        table.row([
            part.what.clone(),
            Nanos(part.baseline_ns).to_string(),
            Nanos(part.candidate_ns).to_string(),
            signed(part.extra_ns),
            part.share.map_or_else(|| "-".to_string(), |s| format!("{:.0} %", 100.0 * s)),
        ]);
    }
    let mut notes = Vec::new();
    match phase.unexplained_share {
        Some(share) => notes.push(format!(
            "{} of a token's time are not explained by these ({:.0} %)",
            signed(phase.unexplained_ns),
            100.0 * share
        )),
        None => notes.push("the phase as a whole did not change beyond its spread".to_string()),
    }
    let title = format!(
        "Where the extra time of {test} went: {} from {} to {} per token",
        phase.phase,
        Nanos(phase.baseline_ns),
        Nanos(phase.candidate_ns)
    );
    Section { title, table, notes }
}

fn signed(ns: f64) -> String {
    let sign = if ns < 0.0 { "-" } else { "+" };
    format!("{sign}{}", Nanos(ns.abs()))
}

fn changes(report: &CheckReport) -> Section {
    let mut table = Table::new(&["what differs", "baseline", "candidate"]);
    for change in &report.changes {
        table.row([change.what.clone(), change.baseline.clone(), change.candidate.clone()]);
    }
    Section {
        title: "What else differs between the sides".to_string(),
        table,
        notes: report.notes.clone(),
    }
}
