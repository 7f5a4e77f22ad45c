//! Looks at the samples while they come, decides what is clear, and says the verdict.
//!
//! At every look each metric that is still open is tested for a change, and for being the same
//! within the minimum effect (two one-sided tests, Schuirmann 1987). What was decided stays
//! decided. Invariant: whatever the noise, the probability that a comparison of two equal sides
//! ends with any false regression is at most half of [`Rules::alpha_percent`].

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, Normal};

use super::conditions::{self, Limits};
use super::evidence::{self, Evidence};
use super::holm::{Looks, holm};
use super::verdict::{Comparison, MetricVerdict, Reason, TestVerdict, Verdict, together};
use crate::advise::measure::{Metric, Recording, Sample, Sampling, Side, Stop, TestRecord};
use crate::base::stats;

/// By which rules verdicts are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// How many samples there are, and which effect matters.
    pub sampling: Sampling,
    /// Probability of any false change in a comparison of equals, in percent; half of it is for
    /// regressions.
    pub alpha_percent: f64,
    /// Probability, in percent, that a metric is called unchanged although it changed by the
    /// minimum effect for the worse; the same for the better.
    pub missed_percent: f64,
    /// When a sample counts as disturbed.
    pub limits: Limits,
}

impl Rules {
    /// The rules for a workload, with the usual error rates and limits.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, alpha_percent: 1.0, missed_percent: 5.0, limits: Limits::default() }
    }

    fn alpha(&self) -> f64 {
        self.alpha_percent / 100.0
    }

    fn effect_min(&self) -> f64 {
        (self.sampling.effect_min_percent / 100.0).ln_1p()
    }
}

/// The samples of one earlier session of a baseline, by the name of the test.
pub type Session = BTreeMap<String, Vec<Sample>>;

/// Judges one comparison.
#[derive(Debug)]
pub struct Judge {
    rules: Rules,
    /// The baseline's sessions, oldest first; `None` where both sides run.
    history: Option<Vec<Session>>,
    looks: Looks,
    looked_at: u32,
    share_spent: f64,
    /// By test and metric: what is clear.
    clear: BTreeMap<(usize, Metric), MetricVerdict>,
}

/// A metric that is still open, at a look.
struct Open {
    test: usize,
    metric: Metric,
    evidence: Evidence,
    p_corrected: f64,
}

impl Judge {
    /// Of two sides that run in turn.
    pub fn interleaved(rules: Rules) -> Self {
        let looks = Looks::new(rules.sampling.samples_min, rules.sampling.samples_max);
        let clear = BTreeMap::new();
        Self { rules, history: None, looks, looked_at: 0, share_spent: 0.0, clear }
    }

    /// Of a candidate against stored sessions of the baseline, oldest first.
    pub fn against(rules: Rules, history: Vec<Session>) -> Self {
        Self { history: Some(history), ..Self::interleaved(rules) }
    }

    /// Which tests need more samples: to be called after every round. Between looks this only
    /// counts.
    pub fn still_open(&mut self, recording: &Recording) -> Vec<bool> {
        let open = self.open_tests(recording);
        let counts: Vec<u32> = (recording.tests.iter().zip(&open))
            .filter(|(_, open)| **open)
            .map(|(test, _)| self.clean_count(test) as u32)
            .collect();
        let mean = counts.iter().sum::<u32>() / (counts.len().max(1) as u32);
        if self.looks.after(self.looked_at).is_some_and(|at| mean >= at) {
            self.looked_at = mean;
            self.look(recording, self.looks.share(mean));
        }
        let full = |t: &TestRecord| self.clean_count(t) as u32 >= self.looks.last();
        let open = self.open_tests(recording);
        open.iter().zip(&recording.tests).map(|(open, t)| *open && !full(t)).collect()
    }

    /// The verdict on all that was sampled.
    pub fn finish(mut self, recording: &Recording) -> Comparison {
        if self.share_spent < 1.0 {
            self.look(recording, 1.0);
        }
        let rest: BTreeMap<(usize, Metric), MetricVerdict> = self
            .weigh(recording, 1.0, 1.0)
            .iter()
            .map(|open| ((open.test, open.metric), self.unclear(open, recording)))
            .collect();
        self.clear.extend(rest);
        let tests: Vec<TestVerdict> =
            (0..recording.tests.len()).map(|i| self.test_verdict(i, recording)).collect();
        // A target that failed has not shown that it is as good as before.
        let failed = matches!(recording.stop, Stop::Failed(_)).then_some(Verdict::Inconclusive);
        Comparison {
            verdict: together(tests.iter().map(|t| t.verdict).chain(failed)),
            tests,
            stop: recording.stop.clone(),
            retried: recording.retried.clone(),
            seconds: recording.seconds,
            alpha_percent: self.rules.alpha_percent,
            sessions: self.history.as_ref().map(Vec::len),
        }
    }

    fn paired(&self) -> bool {
        self.history.is_none()
    }

    fn clean_count(&self, record: &TestRecord) -> usize {
        let clean = |r: &&_| conditions::clean(r, self.paired(), &self.rules.limits);
        record.rounds.iter().filter(clean).count()
    }

    /// Every metric that any sample of that test has.
    fn metrics(&self, test: usize, recording: &Recording) -> Vec<Metric> {
        let record = &recording.tests[test];
        let sampled = record.rounds.iter().flat_map(|r| [&r.baseline, &r.candidate]).flatten();
        let stored = self.history.iter().flatten().filter_map(|s| s.get(&record.test)).flatten();
        let samples: Vec<&Sample> = sampled.chain(stored).collect();
        let has = |m: &Metric| samples.iter().any(|s| s.metrics.contains_key(m));
        Metric::ALL.into_iter().filter(has).collect()
    }

    fn open_tests(&self, recording: &Recording) -> Vec<bool> {
        let undecided = |test: usize| {
            let metrics = self.metrics(test, recording);
            metrics.is_empty() || metrics.iter().any(|m| !self.clear.contains_key(&(test, *m)))
        };
        (0..recording.tests.len()).map(undecided).collect()
    }

    fn evidence(&self, record: &TestRecord, metric: Metric, alpha: f64) -> Evidence {
        let (limits, effect_min) = (&self.rules.limits, self.rules.effect_min());
        let Some(history) = &self.history else {
            return evidence::paired(record, metric, limits, alpha, effect_min);
        };
        let values = |samples: Vec<&Sample>| -> Vec<f64> {
            let clean = samples.iter().filter(|s| !conditions::disturbed(&s.conditions, limits));
            clean.filter_map(|s| s.metrics.get(&metric).copied()).collect()
        };
        let sessions: Vec<Vec<f64>> = history
            .iter()
            .filter_map(|s| s.get(&record.test))
            .map(|samples| values(samples.iter().collect()))
            .filter(|values| !values.is_empty())
            .collect();
        let candidate = values(record.rounds.iter().filter_map(|r| r.candidate.as_ref()).collect());
        evidence::stored(&sessions, candidate, metric, alpha, effect_min)
    }

    /// Tests every metric that is open. `spend` is the share of the budget for this look, `spent`
    /// all shares with it.
    fn weigh(&self, recording: &Recording, spend: f64, spent: f64) -> Vec<Open> {
        let mut open = Vec::new();
        let mut settled = 0;
        let interval_alpha =
            self.rules.missed_percent / 100.0 * if spend > 0.0 { spend } else { spent };
        for test in 0..recording.tests.len() {
            for metric in self.metrics(test, recording) {
                match self.clear.get(&(test, metric)) {
                    // What was rejected leaves the family; what was found unchanged does not.
                    Some(clear) => settled += usize::from(clear.verdict == Verdict::Unchanged),
                    None => open.push(Open {
                        test,
                        metric,
                        evidence: self.evidence(&recording.tests[test], metric, interval_alpha),
                        p_corrected: 1.0,
                    }),
                }
            }
        }
        let both = |e: &Evidence| (2.0 * e.p_worse.min(e.p_better)).min(1.0);
        let mut p: Vec<f64> = open.iter().map(|o| both(&o.evidence)).collect();
        p.resize(open.len() + settled, 1.0);
        for (open, p) in open.iter_mut().zip(holm(&p)) {
            // A look may spend a share of the level: the same as a probability divided by that
            // share.
            open.p_corrected = if spend > 0.0 { (p / spend).min(1.0) } else { 1.0 };
        }
        open
    }

    fn look(&mut self, recording: &Recording, share: f64) {
        let spend = (share - self.share_spent).max(0.0);
        if spend == 0.0 {
            return;
        }
        self.share_spent = share;
        for open in self.weigh(recording, spend, share) {
            let e = &open.evidence;
            let significant = open.p_corrected <= self.rules.alpha();
            // A change against stored sessions has the uncertainty of sessions in its test already.
            let matters = e.estimate.abs() >= self.rules.effect_min();
            let verdict = match (significant && matters, e.unchanged) {
                (true, _) if e.estimate > 0.0 => Verdict::Regressed,
                (true, _) => Verdict::Improved,
                (false, true) => Verdict::Unchanged,
                (false, false) => continue,
            };
            let told = self.tell(&open, verdict, Vec::new(), recording);
            self.clear.insert((open.test, open.metric), told);
        }
    }

    fn tell(
        &self,
        open: &Open,
        verdict: Verdict,
        reasons: Vec<Reason>,
        recording: &Recording,
    ) -> MetricVerdict {
        let e = &open.evidence;
        let [baseline, candidate] = &e.values;
        let enough = !baseline.is_empty() && !candidate.is_empty();
        // Back from slowness to the metric's own direction.
        let sign = if open.metric.higher_is_better() { -1.0 } else { 1.0 };
        let mut interval = e.interval.map(|v| (sign * v).exp());
        interval.sort_by(f64::total_cmp);
        let median = |values: &[f64]| (!values.is_empty()).then(|| stats::median(values));
        MetricVerdict {
            metric: open.metric,
            verdict,
            reasons,
            baseline_median: median(baseline),
            candidate_median: median(candidate),
            ratio: enough.then(|| (sign * e.estimate).exp()),
            ratio_interval: e.interval.iter().all(|v| v.is_finite()).then_some(interval),
            p_corrected: open.p_corrected,
            baseline_samples: baseline.len(),
            candidate_samples: candidate.len(),
            outliers: [evidence::outliers(baseline), evidence::outliers(candidate)],
            detectable_percent: self
                .detectable(open, recording)
                .map(f64::exp_m1)
                .map(|v| 100.0 * v),
            effect_min_percent: 100.0 * e.effect_min.exp_m1(),
        }
    }

    /// The slowdown that would be found in 19 of 20 comparisons with this noise and all samples.
    fn detectable(&self, open: &Open, recording: &Recording) -> Option<f64> {
        let family: usize =
            (0..recording.tests.len()).map(|t| self.metrics(t, recording).len()).sum();
        let most = f64::from(self.looks.last());
        let n = open.evidence.values[1].len() as f64;
        // Sessions do not become more alike with more samples.
        let gain = if self.paired() { (n / most).sqrt().min(1.0) } else { 1.0 };
        let error = open.evidence.standard_error()? * gain;
        let level = self.rules.alpha() / 2.0 * self.looks.share_of_last() / family.max(1) as f64;
        let normal = Normal::standard();
        let (z, power) = (normal.inverse_cdf(1.0 - level), normal.inverse_cdf(0.95));
        Some(((z + power) * error).max(self.rules.effect_min() + power * error))
    }

    /// The fewest pairs whose signs alone can show a change in a family of `metrics`.
    fn samples_needed(&self, metrics: usize) -> usize {
        (2.0 * metrics.max(1) as f64 / self.rules.alpha()).log2().ceil() as usize
    }

    fn unclear(&self, open: &Open, recording: &Recording) -> MetricVerdict {
        let e = &open.evidence;
        let record = &recording.tests[open.test];
        let told = self.tell(open, Verdict::Inconclusive, Vec::new(), recording);
        let mut reasons = Vec::new();
        let (have, rounds) = (e.values[0].len().min(e.values[1].len()), record.rounds.len());
        let family: usize =
            (0..recording.tests.len()).map(|t| self.metrics(t, recording).len()).sum();
        let need = if self.paired() { self.samples_needed(family) } else { 5 };
        if let Some(side) = self.side_alone(record, open.metric) {
            reasons.push(Reason::OneSideOnly { side });
        } else {
            let disturbed = rounds - self.clean_count(record);
            if disturbed * 4 >= rounds.max(1) {
                let evidence = conditions::evidence(record, &self.rules.limits);
                reasons.push(Reason::Disturbed { rounds: disturbed, of: rounds, evidence });
            }
            let effect_min_percent = told.effect_min_percent;
            let changed = 2.0 * e.p_worse.min(e.p_better) <= self.rules.alpha();
            match (e.between, told.detectable_percent) {
                _ if have < need => reasons.push(Reason::TooFewSamples { have, need }),
                (Some((sessions, spread)), _) => {
                    let spread_percent = 100.0 * spread.exp_m1();
                    reasons.push(Reason::BetweenSessions { sessions, spread_percent });
                }
                _ if changed => reasons.push(Reason::NearLimit { effect_min_percent }),
                (None, Some(detectable_percent)) => {
                    reasons.push(Reason::Noise { detectable_percent, effect_min_percent });
                }
                (None, None) => {}
            }
        }
        reasons.push(Reason::Stopped { stop: recording.stop.clone() });
        MetricVerdict { reasons, ..told }
    }

    /// The only side that measured this metric, if one did not.
    fn side_alone(&self, record: &TestRecord, metric: Metric) -> Option<Side> {
        let has = |s: &Sample| s.metrics.contains_key(&metric);
        let candidate = record.rounds.iter().filter_map(|r| r.candidate.as_ref()).any(has);
        let stored = self.history.iter().flatten().filter_map(|s| s.get(&record.test)).flatten();
        let baseline =
            record.rounds.iter().filter_map(|r| r.baseline.as_ref()).chain(stored).any(has);
        match (baseline, candidate) {
            (true, false) => Some(Side::Baseline),
            (false, true) => Some(Side::Candidate),
            _ => None,
        }
    }

    fn test_verdict(&self, test: usize, recording: &Recording) -> TestVerdict {
        let record = &recording.tests[test];
        let of_test = self.clear.iter().filter(|((t, _), _)| *t == test);
        let mut metrics: Vec<MetricVerdict> = of_test.map(|(_, v)| v.clone()).collect();
        if let Some(side) = conditions::one_sided(record, &self.rules.limits) {
            let samples = conditions::counts(record, &self.rules.limits);
            for metric in &mut metrics {
                // Undisturbed rounds are no fair choice then; they may not acquit the side that
                // causes the disturbance, nor convict the other.
                let unfair = match side {
                    Side::Candidate => metric.verdict != Verdict::Regressed,
                    Side::Baseline => metric.verdict != Verdict::Improved,
                };
                if unfair {
                    metric.verdict = Verdict::Inconclusive;
                    metric.reasons.push(Reason::DisturbedOneSide { side, samples });
                }
            }
        }
        TestVerdict {
            test: record.test.clone(),
            verdict: together(metrics.iter().map(|m| m.verdict)),
            metrics,
            rounds: record.rounds.len(),
            rounds_disturbed: record.rounds.len() - self.clean_count(record),
            disturbances: conditions::evidence(record, &self.rules.limits),
        }
    }
}
