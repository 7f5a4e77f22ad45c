//! What the samples say of one metric, before anything is decided: estimate, interval,
//! probabilities.
//!
//! All is in logarithms of slowness: 0.05 means that the candidate takes 5 % longer, whether the
//! metric is a time or a speed. Logarithms, because noise and changes are factors: a machine that
//! is half as fast doubles all times.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::conditions::{self, Limits};
use super::signed_rank::{Walsh, signed_rank};
use super::{bootstrap, mann_whitney};
use crate::advise::measure::{Metric, Sample, TestRecord};
use crate::base::stats;

/// What the samples say of one metric.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The candidate's slowness over the baseline's.
    pub estimate: f64,
    /// Its interval.
    pub interval: [f64; 2],
    /// Probability of what was seen or worse, if both sides are the same.
    pub p_worse: f64,
    /// Of what was seen or better.
    pub p_better: f64,
    /// The smallest change that matters.
    pub effect_min: f64,
    /// Whether the change was shown to be smaller than that.
    pub unchanged: bool,
    /// What the standard error of the estimate is read off.
    pub spread: Spread,
    /// The undisturbed values of baseline and candidate.
    pub values: [Vec<f64>; 2],
    /// Sessions of the baseline and the spread between them.
    pub between: Option<(usize, f64)>,
}

/// What the standard error of an estimate is read off; for pairs that takes a moment, and is seldom
/// asked.
#[derive(Clone, Debug)]
pub(super) enum Spread {
    Pairs(Walsh),
    Error(f64),
    Unknown,
}

impl Evidence {
    /// Of the estimate; `None` for too few samples.
    pub(super) fn standard_error(&self) -> Option<f64> {
        match &self.spread {
            Spread::Pairs(walsh) => walsh.standard_error(),
            Spread::Error(error) => Some(*error),
            Spread::Unknown => None,
        }
    }
}

/// The slowness of a value.
fn slowness(metric: Metric, value: f64) -> f64 {
    if metric.higher_is_better() { -value.ln() } else { value.ln() }
}

/// Of an interleaved comparison: the undisturbed rounds, as pairs. `alpha` is what the interval may
/// err at either end; `effect_min` is a logarithm.
pub(super) fn paired(
    record: &TestRecord,
    metric: Metric,
    limits: &Limits,
    alpha: f64,
    effect_min: f64,
) -> Evidence {
    let value = |s: &Option<Sample>| s.as_ref().and_then(|s| s.metrics.get(&metric).copied());
    let clean = record.rounds.iter().filter(|r| conditions::clean(r, true, limits));
    let (baseline, candidate): (Vec<f64>, Vec<f64>) =
        clean.filter_map(|r| value(&r.baseline).zip(value(&r.candidate))).unzip();
    let differences: Vec<f64> = baseline
        .iter()
        .zip(&candidate)
        .map(|(b, c)| slowness(metric, *c) - slowness(metric, *b))
        .collect();
    let test = signed_rank(&differences);
    let walsh = Walsh::new(&differences);
    let interval = walsh.interval(alpha);
    Evidence {
        estimate: walsh.estimate(),
        interval,
        p_worse: test.p_above,
        p_better: test.p_below,
        effect_min,
        unchanged: interval[0] > -effect_min && interval[1] < effect_min,
        spread: Spread::Pairs(walsh),
        values: [baseline, candidate],
        between: None,
    }
}

/// Standard deviation between sessions of one build on one machine that is assumed until the stored
/// sessions say otherwise: 2 %.
const SESSION_SPREAD: f64 = 0.02;

/// How many sessions that assumption weighs as much as.
const SESSION_WEIGHT: f64 = 4.0;

/// Of a candidate against stored sessions of the baseline, oldest first. Sessions of one build
/// differ by more than their samples do, so the candidate's median is compared with the medians of
/// sessions: it is one more draw from them, if nothing changed. Their variance is estimated from
/// few of them and therefore drawn towards an assumed one, with its degrees of freedom added (the
/// moderated t of Smyth 2004). The uncertainty of the medians themselves comes from the block
/// bootstrap. A change counts only if the samples tell it too, by Mann-Whitney. The minimum effect
/// is widened by what a new session may differ by in 19 of 20 cases.
pub(super) fn stored(
    sessions: &[Vec<f64>],
    candidate: Vec<f64>,
    metric: Metric,
    alpha: f64,
    effect_min: f64,
) -> Evidence {
    let median = |values: &[f64]| slowness(metric, stats::median(values));
    let medians: Vec<f64> = sessions.iter().map(|s| median(s)).collect();
    let pooled = sessions.concat();
    let nothing = candidate.is_empty() || medians.is_empty();
    let degrees = (medians.len() as f64 - 1.0).max(0.0);
    let squares =
        SESSION_WEIGHT * SESSION_SPREAD.powi(2) + degrees * stats::std_dev(&medians).powi(2);
    let spread = (squares / (SESSION_WEIGHT + degrees)).sqrt();
    let between = spread * (1.0 + 1.0 / (medians.len().max(1) as f64)).sqrt();
    let last = sessions.last().map_or(&[][..], Vec::as_slice);
    let draws = bootstrap::log_ratios(last, &candidate, bootstrap::DRAWS, 1);
    let within = stats::std_dev(&draws);
    let error = between.hypot(within);
    let estimate = if nothing { 0.0 } else { median(&candidate) - stats::mean(&medians) };

    let (mut p_worse, mut p_better, mut low, mut high) =
        (1.0, 1.0, f64::NEG_INFINITY, f64::INFINITY);
    let mut effect_min = effect_min;
    let mut unchanged = false;
    if let (false, Ok(t)) = (nothing, StudentsT::new(0.0, 1.0, SESSION_WEIGHT + degrees)) {
        let slow = |values: &[f64]| values.iter().map(|v| slowness(metric, *v)).collect::<Vec<_>>();
        let (before, now) = (slow(&pooled), slow(&candidate));
        p_worse = t.sf(estimate / error).max(mann_whitney::p_larger(&before, &now));
        p_better = t.cdf(estimate / error).max(mann_whitney::p_larger(&now, &before));
        let reach = t.inverse_cdf(1.0 - alpha) * error;
        (low, high) = (estimate - reach, estimate + reach);
        effect_min += t.inverse_cdf(0.95) * between;
        let reach_within = Normal::standard().inverse_cdf(1.0 - alpha) * within;
        unchanged = candidate.len() >= 5 && estimate.abs() + reach_within < effect_min;
    }
    Evidence {
        estimate,
        interval: [low, high],
        p_worse,
        p_better,
        effect_min,
        unchanged,
        spread: if nothing { Spread::Unknown } else { Spread::Error(error) },
        values: [pooled, candidate],
        between: Some((medians.len(), spread)),
    }
}

/// Values 3.5 robust standard deviations from the median or more, in logarithms (Iglewicz and
/// Hoaglin 1993). They are counted, not left out.
pub(super) fn outliers(values: &[f64]) -> usize {
    let logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
    let median = stats::median(&logs);
    let distances: Vec<f64> = logs.iter().map(|v| (v - median).abs()).collect();
    let robust_sd = 1.4826 * stats::median(&distances);
    distances.iter().filter(|d| **d > 3.5 * robust_sd && **d > 1e-9).count()
}
