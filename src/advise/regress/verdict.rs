//! What a comparison says, and on which numbers it rests.

use std::fmt;

use serde::Serialize;

use crate::advise::measure::{Metric, Side, Stop};

/// What became of a metric, or of a whole comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Worse by more than chance, and by at least the minimum effect.
    Regressed,
    /// Better by more than chance, and by at least the minimum effect.
    Improved,
    /// Shown to differ by less than the minimum effect.
    Unchanged,
    /// None of these could be shown; the reasons are told.
    Inconclusive,
}

impl Verdict {
    /// As JSON spells it, and as a person reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Improved => "improved",
            Self::Unchanged => "unchanged",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// Why a verdict is inconclusive.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reason {
    /// The machine was throttled, shared or otherwise busy.
    Disturbed {
        /// Rounds that were set aside.
        rounds: usize,
        /// Of so many.
        of: usize,
        /// What disturbed them, in sentences.
        evidence: Vec<String>,
    },
    /// One side was disturbed far more often: it may be the cause itself.
    DisturbedOneSide {
        /// Which.
        side: Side,
        /// Disturbed samples of the baseline and of the candidate.
        samples: [usize; 2],
    },
    /// Too few undisturbed samples for any verdict.
    TooFewSamples {
        /// Undisturbed ones of each side.
        have: usize,
        /// Fewest with which a regression could be told in this comparison.
        need: usize,
    },
    /// The samples spread so far that the minimum effect could not be told from nothing.
    Noise {
        /// Change in percent that would have been found in 19 of 20 comparisons.
        detectable_percent: f64,
        /// The minimum effect in percent.
        effect_min_percent: f64,
    },
    /// There is a change, but whether it reaches the minimum effect is not clear.
    NearLimit {
        /// The minimum effect in percent.
        effect_min_percent: f64,
    },
    /// The change could come from differences between sessions.
    BetweenSessions {
        /// Stored sessions of the baseline.
        sessions: usize,
        /// Percent by which sessions of one build differ (one standard deviation).
        spread_percent: f64,
    },
    /// Sampling ended before the answer was clear.
    Stopped {
        /// Why.
        stop: Stop,
    },
    /// Only one of the sides measured it.
    OneSideOnly {
        /// Which.
        side: Side,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disturbed { rounds, of, evidence } => {
                write!(f, "{rounds} of {of} rounds were disturbed: {}", evidence.join("; "))
            }
            Self::DisturbedOneSide { side, samples: [baseline, candidate] } => write!(
                f,
                "the {} was disturbed far more often ({baseline} samples of the baseline, \
                 {candidate} of \
                 the candidate): it may cause that itself",
                side.name()
            ),
            Self::TooFewSamples { have, need } => {
                write!(f, "{have} undisturbed samples of each side; at least {need} are needed")
            }
            Self::Noise { detectable_percent, effect_min_percent } => write!(
                f,
                "too noisy to tell a change of {effect_min_percent:.1} % from none; with these \
                 samples \
                 {detectable_percent:.1} % would be found"
            ),
            Self::NearLimit { effect_min_percent } => write!(
                f,
                "there is a change, but whether it reaches the limit of {effect_min_percent:.1} % is \
                 not clear"
            ),
            Self::BetweenSessions { sessions, spread_percent } => write!(
                f,
                "the change is not larger than sessions of one build may differ (taken to be \
                 {spread_percent:.1} %, from {sessions} stored)"
            ),
            Self::Stopped { stop } => match stop {
                Stop::Clear | Stop::Rounds => {
                    write!(f, "all samples that the workload allows were taken")
                }
                Stop::Time => write!(f, "the time limit came first"),
                Stop::Cancelled => write!(f, "it was interrupted"),
                Stop::Failed(error) => write!(f, "sampling failed: {error}"),
            },
            Self::OneSideOnly { side } => write!(f, "only the {} measured it", side.name()),
        }
    }
}

/// One metric of one test.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct MetricVerdict {
    /// Which.
    pub metric: Metric,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it is inconclusive; else empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Median of the undisturbed samples that the verdict rests on, in the metric's unit.
    pub baseline_median: Option<f64>,
    /// The same of the candidate.
    pub candidate_median: Option<f64>,
    /// Candidate over baseline: the estimate of the change.
    pub ratio: Option<f64>,
    /// The interval of that ratio; it holds at all looks together with a probability of 90 %.
    /// Absent where the samples are too few for one.
    pub ratio_interval: Option<[f64; 2]>,
    /// Probability of signs as uneven as these, if both sides were the same; corrected for the
    /// number of metrics and of looks. A verdict needs `0.01` or less.
    pub p_corrected: f64,
    /// Undisturbed samples of the baseline that the verdict rests on.
    pub baseline_samples: usize,
    /// The same of the candidate.
    pub candidate_samples: usize,
    /// Far values among them, which count like all others: 3.5 robust standard deviations from the
    /// median or more (Iglewicz and Hoaglin 1993), of the baseline and of the candidate.
    pub outliers: [usize; 2],
    /// Change for the worse, in percent, that is found in 19 of 20 comparisons with this noise and
    /// all samples that the workload allows.
    pub detectable_percent: Option<f64>,
    /// The minimum effect in percent; wider than the workload's where stored sessions demand it.
    pub effect_min_percent: f64,
}

/// One test of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct TestVerdict {
    /// Its name.
    pub test: String,
    /// The worst of its metrics.
    pub verdict: Verdict,
    /// Each metric.
    pub metrics: Vec<MetricVerdict>,
    /// Rounds, or samples of a candidate alone, that were taken.
    pub rounds: usize,
    /// Of these, set aside because something disturbed them.
    pub rounds_disturbed: usize,
    /// What disturbed them, in sentences.
    pub disturbances: Vec<String>,
}

/// A whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Comparison {
    /// `Regressed` if any metric is; else `Inconclusive` if any is or a target failed; else
    /// `Improved` if any is.
    pub verdict: Verdict,
    /// Each test.
    pub tests: Vec<TestVerdict>,
    /// Why sampling ended.
    pub stop: Stop,
    /// Transient errors after which a target was asked again.
    pub retried: Vec<String>,
    /// Seconds of sampling.
    pub seconds: f64,
    /// Probability in percent of a false regression anywhere in the comparison that the method
    /// keeps to, and the same of a false improvement, together.
    pub alpha_percent: f64,
    /// Stored sessions of the baseline that it rests on; absent if both sides ran in turn.
    pub sessions: Option<usize>,
}

/// The verdict of several together: what is worst decides, and doubt comes before good news.
pub fn together(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let severity = |v: &Verdict| match v {
        Verdict::Unchanged => 0,
        Verdict::Improved => 1,
        Verdict::Inconclusive => 2,
        Verdict::Regressed => 3,
    };
    verdicts.into_iter().max_by_key(severity).unwrap_or(Verdict::Inconclusive)
}
