//! The document `gpuwhy.check/1`. Its JSON Schema is `docs/schemas/check-1.json`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::advise::measure::{Metric, TargetFacts};
use crate::advise::regress::{Attribution, Comparison, Effect, StructureChange, Verdict, together};

/// The `schema` of a check.
pub const CHECK_SCHEMA: &str = "gpuwhy.check/1";

/// What was compared, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CheckReport {
    /// Always `gpuwhy.check/1`.
    pub schema: String,
    /// The worst of structure and timing.
    pub verdict: Verdict,
    /// The workload's name.
    pub workload: String,
    /// What was compared with what.
    pub mode: CheckMode,
    /// What was compared with.
    pub baseline: SideReport,
    /// What was checked.
    pub candidate: SideReport,
    /// Facts that are not what they were, what is worse first.
    pub structure: Vec<StructureChange>,
    /// Versions, settings and machines that differ between the sides.
    pub changes: Vec<SettingChange>,
    /// The verdict on times; absent where only structure was compared.
    pub timing: Option<Comparison>,
    /// Which parts took the extra time of what regressed.
    pub attribution: Vec<TestAttribution>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// By test and metric: every sample, in the order in which they were taken.
    pub samples: BTreeMap<String, BTreeMap<Metric, SampleSeries>>,
}

/// What was compared with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckMode {
    /// Both sides ran in turn.
    Interleaved,
    /// The candidate ran, and was compared with stored sessions.
    Stored,
    /// Nothing ran: only structure was compared.
    Structure,
}

/// One side.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SideReport {
    /// The program, the address, or the file of the baseline.
    pub name: String,
    /// What it is.
    pub facts: TargetFacts,
}

/// A version, a setting or a property of the machine that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SettingChange {
    /// `version`, `setting type_k`, `machine driver`.
    pub what: String,
    /// What it was; empty where it was not told.
    pub baseline: String,
    /// What it is.
    pub candidate: String,
}

/// Where the extra time of one test went.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TestAttribution {
    /// The test.
    pub test: String,
    /// Each phase.
    pub phases: Vec<Attribution>,
}

/// The samples of one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct SampleSeries {
    /// Of the baseline.
    pub baseline: Vec<f64>,
    /// Of the candidate.
    pub candidate: Vec<f64>,
}

impl CheckReport {
    /// The worst of structure and timing.
    pub fn verdict_of(structure: &[StructureChange], timing: Option<&Comparison>) -> Verdict {
        let of_structure = structure.iter().map(|change| match change.effect {
            Effect::Worse | Effect::Changed => Verdict::Regressed,
            Effect::Better => Verdict::Improved,
        });
        let timing = timing.map(|t| t.verdict);
        together(of_structure.chain(timing).chain([Verdict::Unchanged]))
    }

    /// Everything that differs between two sides beside their structure.
    pub fn changes_of(baseline: &TargetFacts, candidate: &TargetFacts) -> Vec<SettingChange> {
        let mut changes = Vec::new();
        let mut compare = |what: String, a: Option<&String>, b: Option<&String>| {
            if a != b {
                let text = |v: Option<&String>| v.cloned().unwrap_or_default();
                changes.push(SettingChange { what, baseline: text(a), candidate: text(b) });
            }
        };
        compare("engine".into(), Some(&baseline.engine), Some(&candidate.engine));
        let versions = (&baseline.engine_version, &candidate.engine_version);
        compare("version".into(), Some(versions.0), Some(versions.1));
        compare("model".into(), Some(&baseline.model), Some(&candidate.model));
        let groups = [
            ("setting", &baseline.settings, &candidate.settings),
            ("machine", &baseline.machine, &candidate.machine),
        ];
        for (group, a, b) in groups {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                compare(format!("{group} {key}"), a.get(key), b.get(key));
            }
        }
        changes
    }
}
