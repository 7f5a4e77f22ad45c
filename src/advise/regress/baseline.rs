//! What a check compares with: the structure of a target and the samples of its last sessions, in one
//! JSON file that people read and version control merges.
//!
//! A session holds what was sampled in one run of `check --update`. Numbers of one kind stand on one
//! line each, so that a new session is a new block of lines. Invariant: timings are only handed out for
//! the machine on which they were taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::advise::measure::{Conditions, Metric, Part, Sample, Structure, TargetFacts};

/// The `schema` of a baseline.
pub const BASELINE_SCHEMA: &str = "gpuwhy.baseline/1";

/// Sessions that are kept of each machine; the oldest go first.
const SESSIONS_MAX: usize = 10;

/// Facts of a machine that timings depend on. Others, like the driver's version or the
/// kernels that were chosen, are what a check shall find out about.
const FINGERPRINT: [&str; 6] = ["cpu", "processors", "memory", "gpu", "os", "host"];

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Always `gpuwhy.baseline/1`.
    pub schema: String,
    /// The workload's name.
    pub workload: String,
    /// What was measured last.
    pub target: TargetFacts,
    /// By test: the facts that do not vary.
    pub structure: BTreeMap<String, Structure>,
    /// By the time when they began, in UTC.
    pub sessions: BTreeMap<String, Session>,
}

/// The samples of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The engine's version.
    pub engine_version: String,
    /// Settings that decide about speed.
    pub settings: BTreeMap<String, String>,
    /// What it ran on.
    pub machine: BTreeMap<String, String>,
    /// By test.
    pub tests: BTreeMap<String, TestSession>,
}

/// The samples of one test in one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestSession {
    /// The values of each metric in the order in which they were taken; `null` where a sample has none.
    pub metrics: BTreeMap<Metric, Vec<Option<f64>>>,
    /// What else went on, for each sample.
    pub conditions: Vec<Conditions>,
    /// Nanoseconds per token of each part, by phase: from runs in which every node was timed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

impl TestSession {
    /// What is kept of samples and of detailed runs.
    pub fn of(samples: &[&Sample], details: &[Vec<Part>]) -> Self {
        let mut metrics = BTreeMap::new();
        for metric in Metric::ALL {
            let values: Vec<Option<f64>> =
                samples.iter().map(|s| s.metrics.get(&metric).map(|v| short(*v))).collect();
            if values.iter().any(Option::is_some) {
                metrics.insert(metric, values);
            }
        }
        let mut detail: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
        for (run, parts) in details.iter().enumerate() {
            for part in parts {
                let values = detail
                    .entry(part.phase.clone())
                    .or_default()
                    .entry(part.what.clone())
                    .or_insert_with(|| vec![0.0; details.len()]);
                values[run] += short(part.ns_per_token);
            }
        }
        let conditions = samples.iter().map(|s| rounded(&s.conditions)).collect();
        Self { metrics, conditions, detail }
    }

    /// The samples again, without parts.
    pub fn samples(&self) -> Vec<Sample> {
        let count = self.metrics.values().map(Vec::len).max().unwrap_or(0);
        (0..count)
            .map(|i| Sample {
                metrics: self
                    .metrics
                    .iter()
                    .filter_map(|(m, values)| Some((*m, (*values.get(i)?)?)))
                    .filter(|(_, v)| v.is_finite() && *v > 0.0)
                    .collect(),
                parts: Vec::new(),
                conditions: self.conditions.get(i).cloned().unwrap_or_default(),
            })
            .collect()
    }

    /// The parts of each detailed run.
    pub fn details(&self) -> Vec<Vec<Part>> {
        let runs = self.detail.values().flat_map(BTreeMap::values).map(Vec::len).max();
        let parts_of = |run: usize| {
            let phases = self.detail.iter();
            let all = phases.flat_map(|(phase, parts)| parts.iter().map(move |p| (phase, p)));
            all.filter_map(|(phase, (what, values))| {
                Some(Part {
                    phase: phase.clone(),
                    what: what.clone(),
                    ns_per_token: *values.get(run)?,
                })
            })
            .collect()
        };
        (0..runs.unwrap_or(0)).map(parts_of).collect()
    }
}

/// Six digits are more than any timing is worth.
fn short(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

fn rounded(conditions: &Conditions) -> Conditions {
    let share = |s: Option<f64>| s.map(|s| (s * 1e4).round() / 1e4);
    Conditions {
        stolen_share: share(conditions.stolen_share),
        others_share: share(conditions.others_share),
        ..conditions.clone()
    }
}

impl Baseline {
    /// A baseline without sessions.
    pub fn new(workload: &str, target: TargetFacts) -> Self {
        Self {
            schema: BASELINE_SCHEMA.to_string(),
            workload: workload.to_string(),
            target,
            structure: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// Adds a session that began at `began`; of those on the same machine the oldest go.
    pub fn add(&mut self, began: &str, session: Session) {
        let machine = session.machine.clone();
        // Two runs within a second are two sessions.
        let mut key = began.to_string();
        let mut n = 2;
        while self.sessions.contains_key(&key) {
            key = format!("{began}-{n}");
            n += 1;
        }
        self.sessions.insert(key, session);
        let same: Vec<String> = self
            .sessions
            .iter()
            .filter(|(_, s)| differences(&s.machine, &machine).is_empty())
            .map(|(at, _)| at.clone())
            .collect();
        for old in same.iter().rev().skip(SESSIONS_MAX) {
            self.sessions.remove(old);
        }
    }

    /// The sessions that were taken on this machine, oldest first.
    pub fn sessions_on<'a>(
        &'a self,
        machine: &'a BTreeMap<String, String>,
    ) -> impl DoubleEndedIterator<Item = (&'a String, &'a Session)> + 'a {
        self.sessions.iter().filter(|(_, s)| differences(&s.machine, machine).is_empty())
    }
}

/// In what two machines differ, in words; nothing where timings can be compared.
pub fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<String> {
    let of = |m: &BTreeMap<String, String>, key: &str| {
        m.get(key).cloned().unwrap_or_else(|| "not told".to_string())
    };
    FINGERPRINT
        .iter()
        .filter(|key| a.get(**key) != b.get(**key))
        .map(|key| format!("{key}: {} then, {} now", of(a, key), of(b, key)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpu: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("cpu".to_string(), cpu.to_string())])
    }

    fn session(cpu: &str) -> Session {
        Session {
            engine_version: "1".to_string(),
            settings: BTreeMap::new(),
            machine: machine(cpu),
            tests: BTreeMap::new(),
        }
    }

    #[test]
    fn samples_and_details_come_back() {
        let sample = |v: f64, load: Option<f64>| {
            let mut metrics = BTreeMap::from([(Metric::DecodeTokensPerS, v)]);
            metrics.extend(load.map(|l| (Metric::LoadMs, l)));
            let conditions = Conditions { others_share: Some(0.123_456), ..Conditions::default() };
            Sample { metrics, parts: Vec::new(), conditions }
        };
        let (a, b) = (sample(10.123_456_7, None), sample(11.0, Some(5.0)));
        let part = |what: &str, ns| Part {
            phase: "decode".to_string(),
            what: what.to_string(),
            ns_per_token: ns,
        };
        let details = [vec![part("x", 1.0)], vec![part("x", 2.0), part("y", 3.0)]];
        let kept = TestSession::of(&[&a, &b], &details);
        let back = kept.samples();
        assert_eq!(back[0].metrics[&Metric::DecodeTokensPerS], 10.1235);
        assert!(!back[0].metrics.contains_key(&Metric::LoadMs));
        assert_eq!(back[1].metrics[&Metric::LoadMs], 5.0);
        assert_eq!(back[1].conditions.others_share, Some(0.1235));
        let details = kept.details();
        assert_eq!(details[0], [part("x", 1.0), part("y", 0.0)]);
        assert_eq!(details[1], [part("x", 2.0), part("y", 3.0)]);
    }

    #[test]
    fn the_oldest_sessions_of_a_machine_go() {
        let mut baseline = Baseline::new("w", TargetFacts::default());
        baseline.add("2026-01-01T00:00:00Z", session("other"));
        for day in 1..=12 {
            baseline.add(&format!("2026-02-{day:02}T00:00:00Z"), session("this"));
        }
        let this = machine("this");
        let days: Vec<&String> = baseline.sessions_on(&this).map(|s| s.0).collect();
        assert_eq!((days.len(), days[0].as_str()), (10, "2026-02-03T00:00:00Z"));
        assert_eq!(baseline.sessions_on(&machine("other")).count(), 1);
        baseline.add("2026-02-12T00:00:00Z", session("this"));
        assert!(baseline.sessions.contains_key("2026-02-12T00:00:00Z-2"));
        assert_eq!(differences(&machine("a"), &machine("b")), ["cpu: a then, b now"]);
    }
}
