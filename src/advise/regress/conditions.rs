//! Which samples were disturbed by something other than the target, and the evidence in words.
//!
//! A disturbed round is set aside by what was seen around it, never by how fast it was: so setting
//! aside favours neither side, as long as neither causes the disturbance itself. That is tested
//! ([`one_sided`]). What was set aside is counted and told.

use serde::{Deserialize, Serialize};

use crate::advise::measure::{Conditions, Round, Side, TestRecord};
use crate::base::stats;

/// Above which a sample counts as disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Limits {
    /// Share of the processors' time that a hypervisor may give to others.
    pub stolen_share_max: f64,
    /// Share of the processors' time that other processes may use.
    pub others_share_max: f64,
}

impl Default for Limits {
    /// As recorded on a machine of two processors (fixtures/check_noise): up to these values speed
    /// does not depend on them; with a quarter of the time used by others, decode loses a fifth.
    fn default() -> Self {
        Self { stolen_share_max: 0.05, others_share_max: 0.10 }
    }
}

/// A kind of disturbance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Stolen,
    Others,
    Throttled(String),
    ForeignGpu(String),
}

/// What disturbed a sample; empty if nothing did.
fn kinds(conditions: &Conditions, limits: &Limits) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if conditions.stolen_share.is_some_and(|s| s > limits.stolen_share_max) {
        kinds.push(Kind::Stolen);
    }
    if conditions.others_share.is_some_and(|s| s > limits.others_share_max) {
        kinds.push(Kind::Others);
    }
    kinds.extend(conditions.throttled.iter().cloned().map(Kind::Throttled));
    kinds.extend(conditions.foreign_gpu_processes.iter().cloned().map(Kind::ForeignGpu));
    kinds
}

/// Whether something disturbed a sample taken under these conditions.
pub fn disturbed(conditions: &Conditions, limits: &Limits) -> bool {
    !kinds(conditions, limits).is_empty()
}

/// Whether both samples of a round are there and undisturbed; of a candidate alone, that one.
pub fn clean(round: &Round, paired: bool, limits: &Limits) -> bool {
    let fine = |side: &Option<_>| {
        side.as_ref()
            .is_some_and(|s: &crate::advise::measure::Sample| !disturbed(&s.conditions, limits))
    };
    fine(&round.candidate) && (!paired || fine(&round.baseline))
}

/// What disturbed a test's samples, one sentence for each kind.
pub fn evidence(record: &TestRecord, limits: &Limits) -> Vec<String> {
    let samples: Vec<&Conditions> = record
        .rounds
        .iter()
        .flat_map(|r| [&r.baseline, &r.candidate])
        .flatten()
        .map(|s| &s.conditions)
        .collect();
    let mut all: Vec<Kind> = samples.iter().flat_map(|c| kinds(c, limits)).collect();
    all.sort();
    all.dedup();
    let sentence = |kind: &Kind| {
        let hit: Vec<&&Conditions> =
            samples.iter().filter(|c| kinds(c, limits).contains(kind)).collect();
        let percent = |of: fn(&Conditions) -> Option<f64>| {
            100.0 * stats::median(&hit.iter().filter_map(|c| of(c)).collect::<Vec<_>>())
        };
        let during =
            format!("during {} of {} samples of {}", hit.len(), samples.len(), record.test);
        match kind {
            Kind::Stolen => format!(
                "the hypervisor gave {:.0} % of the processors' time to others {during} \
                 (allowed {:.0} %)",
                percent(|c| c.stolen_share),
                100.0 * limits.stolen_share_max
            ),
            Kind::Others => format!(
                "other programs used {:.0} % of the processors' time {during} (allowed {:.0} %)",
                percent(|c| c.others_share),
                100.0 * limits.others_share_max
            ),
            Kind::Throttled(why) => format!("throttled {during}: {why}"),
            Kind::ForeignGpu(process) => format!("{process} used the GPU {during}"),
        }
    };
    all.iter().map(sentence).collect()
}

/// Disturbed samples of either side.
pub fn counts(record: &TestRecord, limits: &Limits) -> [usize; 2] {
    [Side::Baseline, Side::Candidate].map(|side| {
        let sample = |r: &Round| match side {
            Side::Baseline => r.baseline.clone(),
            Side::Candidate => r.candidate.clone(),
        };
        let hit = |s: &crate::advise::measure::Sample| disturbed(&s.conditions, limits);
        record.rounds.iter().filter_map(sample).filter(hit).count()
    })
}

/// Probability below which an uneven share of disturbances is no accident.
const ONE_SIDED_P: f64 = 0.001;

/// Whether one side was disturbed so much more often that it may itself be the cause: a candidate
/// that heats the GPU until it is throttled, say. Counts rounds in which just one side was
/// disturbed (the exact test of McNemar 1947).
pub fn one_sided(record: &TestRecord, limits: &Limits) -> Option<Side> {
    let (mut baseline, mut candidate) = (0u32, 0u32);
    for round in &record.rounds {
        if let (Some(b), Some(c)) = (&round.baseline, &round.candidate) {
            match (disturbed(&b.conditions, limits), disturbed(&c.conditions, limits)) {
                (true, false) => baseline += 1,
                (false, true) => candidate += 1,
                _ => {}
            }
        }
    }
    let (n, most) = (baseline + candidate, baseline.max(candidate));
    // Share of the patterns of n fair coins with `most` or more on one side, then on either.
    let (mut ways, mut tail) = (1.0, 0.0);
    for k in 0..=n {
        if k >= most {
            tail += ways;
        }
        ways *= f64::from(n - k) / f64::from(k + 1);
    }
    let p = 2.0 * tail / 2.0_f64.powi(n as i32);
    (n > 0 && p < ONE_SIDED_P).then_some(if candidate > baseline {
        Side::Candidate
    } else {
        Side::Baseline
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::measure::Sample;

    fn sample(others: f64, throttled: &[&str]) -> Sample {
        let conditions = Conditions {
            others_share: Some(others),
            throttled: throttled.iter().map(ToString::to_string).collect(),
            ..Conditions::default()
        };
        Sample { conditions, ..Sample::default() }
    }

    fn record(rounds: Vec<(f64, f64)>) -> TestRecord {
        let round = |(a, b)| Round {
            candidate_first: false,
            baseline: Some(sample(a, &[])),
            candidate: Some(sample(b, &[])),
        };
        TestRecord { test: "tg32".into(), rounds: rounds.into_iter().map(round).collect() }
    }

    #[test]
    fn one_disturbed_sample_disturbs_its_round() {
        let limits = Limits::default();
        let seen = record(vec![(0.0, 0.0), (0.3, 0.0), (0.0, 0.3)]);
        let clean: Vec<bool> = seen.rounds.iter().map(|r| clean(r, true, &limits)).collect();
        assert_eq!(clean, [true, false, false]);
        assert!(disturbed(&sample(0.0, &["hot"]).conditions, &limits));
        assert!(!disturbed(&Conditions::default(), &limits), "what nobody told disturbs nothing");
    }

    #[test]
    fn evidence_says_what_how_much_and_how_often() {
        let evidence = evidence(&record(vec![(0.3, 0.0), (0.5, 0.0)]), &Limits::default());
        assert_eq!(
            evidence,
            ["other programs used 40 % of the processors' time during 2 of 4 samples of tg32 \
                 (allowed 10 %)"]
        );
    }

    #[test]
    fn a_side_that_disturbs_itself_is_noticed() {
        let limits = Limits::default();
        let candidate = |n: usize| {
            let mut rounds = vec![(0.0, 0.5); n];
            rounds.extend(vec![(0.0, 0.0); 10]);
            one_sided(&record(rounds), &limits)
        };
        assert_eq!(candidate(10), None);
        assert_eq!(candidate(11), Some(Side::Candidate));
        let both = (0..40).map(|i| if i % 2 == 0 { (0.5, 0.0) } else { (0.0, 0.5) });
        assert_eq!(one_sided(&record(both.collect()), &limits), None);
    }
}
