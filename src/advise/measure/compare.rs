//! Drives a workload over one target or two, round by round, until the answer is clear.
//!
//! In a round every test that is still open runs once on each side, the sides right after one
//! another, so that both meet the same machine. Which side runs first is drawn by lot in every
//! round: so the test of signs ([`super::super::regress`]) is exact whatever the noise, also when
//! the machine grows slower or has bursts that last from one round into the next. (In ABBA order
//! the middle two are neighbours, and a burst that hits both of them looks like a difference.) What
//! counts as clear is the caller's to say: this module judges nothing and prints nothing.
//! Invariant: every sample that was taken is in the [`Recording`], however the run ended.

use std::sync::atomic::{AtomicBool, Ordering};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::sample::{Part, Sample};
use super::target::{MeasureError, Target};
use super::workload::{Test, Workload};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What is compared with.
    Baseline,
    /// What changed.
    Candidate,
}

impl Side {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Candidate => "candidate",
        }
    }
}

/// One sample of each side, taken one right after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Whether the candidate ran first.
    pub candidate_first: bool,
    /// Absent where the baseline is stored samples.
    pub baseline: Option<Sample>,
    /// The candidate's.
    pub candidate: Option<Sample>,
}

/// All samples of one test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestRecord {
    /// The test's name.
    pub test: String,
    /// In the order in which they were taken. Only the last can lack a sample, if the run was
    /// stopped.
    pub rounds: Vec<Round>,
}

/// Why no more samples were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", content = "what")]
pub enum Stop {
    /// All that was asked is clear.
    #[default]
    Clear,
    /// As many rounds as the workload allows.
    Rounds,
    /// The workload's time limit.
    Time,
    /// The caller asked for it.
    Cancelled,
    /// A target failed, and asking again did not help; the error in words.
    Failed(String),
}

/// What was sampled, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// One for each test of the workload, in its order.
    pub tests: Vec<TestRecord>,
    /// Why it ended.
    pub stop: Stop,
    /// How often a target was asked once more after a transient error; those errors in words.
    pub retried: Vec<String>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// What happens meanwhile.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A sample that does not count.
    WarmUp {
        /// Of which test.
        test: &'a str,
        /// On which side.
        side: Side,
    },
    /// A sample.
    Sampled {
        /// Of which test.
        test: &'a str,
        /// On which side.
        side: Side,
        /// Of which round, from 1.
        round: usize,
        /// It.
        sample: &'a Sample,
    },
    /// A transient error; the target is asked again.
    Retry {
        /// Which side failed.
        side: Side,
        /// With what.
        error: &'a MeasureError,
        /// Seconds until then.
        wait_s: f64,
    },
    /// A round ended.
    Round {
        /// Which, from 1.
        round: usize,
        /// Tests that are still open.
        open: usize,
    },
}

/// What a run needs beside its targets.
pub struct Run<'a> {
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Set by another thread to stop after the sample that is running.
    pub cancel: &'a AtomicBool,
    /// Told what happens.
    pub progress: &'a mut dyn FnMut(&Progress<'_>),
    /// Draws the order of the sides.
    pub seed: u64,
}

/// Rounds beyond the workload's most, for those that the caller sets aside as disturbed: half as
/// many.
pub fn rounds_max(samples_max: u32) -> usize {
    samples_max as usize + samples_max as usize / 2
}

/// Seconds before asking a target again, in turn; after the last its error stands.
const RETRY_WAITS_S: [f64; 3] = [1.0, 3.0, 9.0];

/// Longest wait between two looks at the cancel flag.
const CANCEL_LATENCY_S: f64 = 0.2;

/// Samples `workload` on both targets, or on the candidate alone. After each round `open` is asked
/// which tests need more; one that was closed stays so.
pub fn compare<'a>(
    workload: &'a Workload,
    baseline: Option<&'a mut dyn Target>,
    candidate: &'a mut dyn Target,
    run: Run<'_>,
    open: &mut dyn FnMut(&Recording) -> Vec<bool>,
) -> Recording {
    let begun_s = run.clock.now_s();
    let tests = workload.tests.iter();
    let recording = Recording {
        tests: tests.map(|t| TestRecord { test: t.name.clone(), rounds: vec![] }).collect(),
        ..Recording::default()
    };
    let mut driver = Driver { workload, baseline, candidate, run, begun_s, recording };
    driver.recording.stop = match driver.rounds(open) {
        Ok(stop) | Err(stop) => stop,
    };
    driver.recording.seconds = driver.run.clock.now_s() - begun_s;
    driver.recording
}

/// The parts of each side's time, baseline's first: `times` samples in detail of each, in turn; one of
/// each where neither tells any.
pub fn details(
    test: &Test,
    baseline: &mut dyn Target,
    candidate: &mut dyn Target,
    times: usize,
) -> Result<[Vec<Vec<Part>>; 2], MeasureError> {
    let mut parts = [Vec::new(), Vec::new()];
    for i in 0..times {
        let sides = if i % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in sides {
            let target: &mut dyn Target = if side == 0 { baseline } else { candidate };
            parts[side].push(target.detail(test)?.parts);
        }
        if parts.iter().flatten().all(Vec::is_empty) {
            break;
        }
    }
    Ok(parts)
}

/// The parts of a candidate alone; none where it tells none.
pub fn details_alone(
    test: &Test,
    candidate: &mut dyn Target,
    times: usize,
) -> Result<Vec<Vec<Part>>, MeasureError> {
    let mut parts = Vec::new();
    for _ in 0..times {
        let told = candidate.detail(test)?.parts;
        if told.is_empty() {
            break;
        }
        parts.push(told);
    }
    Ok(parts)
}

struct Driver<'a, 'r> {
    workload: &'a Workload,
    baseline: Option<&'a mut dyn Target>,
    candidate: &'a mut dyn Target,
    run: Run<'r>,
    begun_s: f64,
    recording: Recording,
}

impl Driver<'_, '_> {
    fn rounds(&mut self, open: &mut dyn FnMut(&Recording) -> Vec<bool>) -> Result<Stop, Stop> {
        let workload = self.workload;
        for test in &workload.tests {
            for _ in 0..workload.sampling.warmup {
                for side in self.order(false) {
                    (self.run.progress)(&Progress::WarmUp { test: &test.name, side });
                    self.sample(side, test)?;
                }
            }
        }
        let mut lots = SplitMix64::seed_from_u64(self.run.seed);
        let mut still = vec![true; workload.tests.len()];
        for round in 0..rounds_max(workload.sampling.samples_max) {
            for (i, test) in workload.tests.iter().enumerate().filter(|(i, _)| still[*i]) {
                self.round(i, test, lots.next_u64() & 1 == 1)?;
            }
            for (was, is) in still.iter_mut().zip(open(&self.recording)) {
                *was &= is;
            }
            let count = still.iter().filter(|s| **s).count();
            (self.run.progress)(&Progress::Round { round: round + 1, open: count });
            if count == 0 {
                return Ok(Stop::Clear);
            }
        }
        Ok(Stop::Rounds)
    }

    /// The sides that there are, in the order in which they run.
    fn order(&self, candidate_first: bool) -> Vec<Side> {
        match (&self.baseline, candidate_first) {
            (None, _) => vec![Side::Candidate],
            (Some(_), true) => vec![Side::Candidate, Side::Baseline],
            (Some(_), false) => vec![Side::Baseline, Side::Candidate],
        }
    }

    fn round(&mut self, at: usize, test: &Test, candidate_first: bool) -> Result<(), Stop> {
        let number = self.recording.tests[at].rounds.len();
        for side in self.order(candidate_first) {
            let sample = self.sample(side, test)?;
            let round = number + 1;
            (self.run.progress)(&Progress::Sampled {
                test: &test.name,
                side,
                round,
                sample: &sample,
            });
            let rounds = &mut self.recording.tests[at].rounds;
            if rounds.len() == number {
                rounds.push(Round { candidate_first, ..Round::default() });
            }
            match side {
                Side::Baseline => rounds[number].baseline = Some(sample),
                Side::Candidate => rounds[number].candidate = Some(sample),
            }
        }
        Ok(())
    }

    fn sample(&mut self, side: Side, test: &Test) -> Result<Sample, Stop> {
        let mut waits = RETRY_WAITS_S.iter();
        loop {
            self.may_go_on()?;
            let target: &mut dyn Target = match (side, &mut self.baseline) {
                (Side::Baseline, Some(baseline)) => *baseline,
                _ => self.candidate,
            };
            let error = match target.sample(test) {
                Ok(sample) => return Ok(sample),
                Err(error) => error,
            };
            // Ctrl-C ends a child as well; that is no fault of the target.
            self.may_go_on()?;
            let Some(&wait_s) = waits.next().filter(|_| error.transient) else {
                return Err(Stop::Failed(format!("{}: {error}", side.name())));
            };
            (self.run.progress)(&Progress::Retry { side, error: &error, wait_s });
            self.recording.retried.push(format!("{}: {error}", side.name()));
            let until_s = self.run.clock.now_s() + wait_s;
            while self.run.clock.now_s() < until_s {
                self.may_go_on()?;
                let left_s = until_s - self.run.clock.now_s();
                self.run.clock.sleep(left_s.clamp(0.001, CANCEL_LATENCY_S));
            }
        }
    }

    fn may_go_on(&self) -> Result<(), Stop> {
        if self.run.cancel.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        if self.run.clock.now_s() - self.begun_s > self.workload.sampling.time_max_s {
            return Err(Stop::Time);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::mock::{Machine, Mock, Scripted};
    use super::super::sample::Metric;
    use super::*;

    fn mock(machine: &Rc<Machine>, name: &str) -> Mock {
        Mock::new(name, machine).metric(Metric::DecodeTokensPerS, 50.0)
    }

    fn workload(tests: usize) -> Workload {
        let test = |i| format!("[[test]]\nname = 't{i}'\ngenerate_tokens = 32\n");
        let tests: String = (0..tests).map(test).collect();
        Workload::parse("w.toml", &format!("name = 'w'\ndescription = 'd'\n{tests}")).unwrap()
    }

    /// Runs to the end of the rounds and tells what happened, in short.
    fn drive(
        workload: &Workload,
        a: &mut Mock,
        b: &mut Mock,
        machine: &Machine,
        open: &mut dyn FnMut(&Recording) -> Vec<bool>,
    ) -> (Recording, Vec<String>) {
        let mut seen = Vec::new();
        let cancel = AtomicBool::new(false);
        let mut progress = |p: &Progress<'_>| {
            seen.push(match p {
                Progress::WarmUp { test, side } => format!("warm {test} {}", side.name()),
                Progress::Sampled { test, side, .. } => format!("{test} {}", side.name()),
                Progress::Retry { side, wait_s, .. } => format!("retry {} {wait_s}", side.name()),
                Progress::Round { open, .. } => format!("open {open}"),
            });
        };
        let run = Run { clock: machine, cancel: &cancel, progress: &mut progress, seed: 3 };
        let recording = compare(workload, Some(a), b, run, open);
        (recording, seen)
    }

    #[test]
    fn lots_decide_who_is_first_and_rounds_stop_when_told() {
        let machine = Machine::new(1, vec![]);
        let (mut a, mut b) = (mock(&machine, "a"), mock(&machine, "b"));
        let mut closing =
            |r: &Recording| vec![r.tests[0].rounds.len() < 10, r.tests[1].rounds.len() < 4];
        let (recording, seen) = drive(&workload(2), &mut a, &mut b, &machine, &mut closing);
        assert_eq!(recording.stop, Stop::Clear);
        assert_eq!(recording.tests.iter().map(|t| t.rounds.len()).collect::<Vec<_>>(), [10, 4]);
        let firsts = recording.tests.iter().flat_map(|t| &t.rounds).filter(|r| r.candidate_first);
        assert!((3..12).contains(&firsts.count()), "the lot falls on one side");
        assert_eq!(
            &seen[..4],
            ["warm t0 baseline", "warm t0 candidate", "warm t1 baseline", "warm t1 candidate"]
        );
        assert_eq!(a.samples_taken(), 10 + 4 + 2);
    }

    #[test]
    fn transient_errors_are_asked_again_and_others_end_it_with_what_there_is() {
        let machine = Machine::new(1, vec![]);
        let mut a = mock(&machine, "a").at(3, Scripted::Busy).at(4, Scripted::Busy);
        let mut b = mock(&machine, "b").at(6, Scripted::Broken);
        let (recording, seen) = drive(&workload(1), &mut a, &mut b, &machine, &mut |_| vec![true]);
        assert_eq!(recording.stop, Stop::Failed("candidate: b: scripted failure".into()));
        assert_eq!(recording.retried.len(), 2);
        assert!(seen.contains(&"retry baseline 1".to_string()), "{seen:?}");
        assert!(seen.contains(&"retry baseline 3".to_string()), "{seen:?}");
        let candidates = recording.tests[0].rounds.iter().filter(|r| r.candidate.is_some());
        assert_eq!(candidates.count(), 4, "all that was sampled is kept");
        // Four times busy is an error.
        let mut a = (2..6).fold(mock(&machine, "a"), |m, at| m.at(at, Scripted::Busy));
        let mut b = mock(&machine, "b");
        let (recording, _) = drive(&workload(1), &mut a, &mut b, &machine, &mut |_| vec![true]);
        assert!(matches!(recording.stop, Stop::Failed(_)), "{:?}", recording.stop);
    }

    #[test]
    fn time_rounds_and_cancelling_end_it() {
        let machine = Machine::new(1, vec![]);
        let (mut a, mut b) = (mock(&machine, "a"), mock(&machine, "b"));
        let mut limited = workload(1);
        let (recording, _) = drive(&limited, &mut a, &mut b, &machine, &mut |_| vec![true]);
        assert_eq!(recording.stop, Stop::Rounds);
        assert_eq!(recording.tests[0].rounds.len(), rounds_max(limited.sampling.samples_max));
        limited.sampling.time_max_s = 20.0;
        let (recording, _) = drive(&limited, &mut a, &mut b, &machine, &mut |_| vec![true]);
        assert_eq!(recording.stop, Stop::Time);
        assert!(recording.seconds > 20.0 && recording.seconds < 22.0, "{}", recording.seconds);

        let cancel = AtomicBool::new(false);
        let mut progress = |p: &Progress<'_>| {
            if matches!(p, Progress::Sampled { round: 4, .. }) {
                cancel.store(true, Ordering::Relaxed);
            }
        };
        let run = Run { clock: &*machine, cancel: &cancel, progress: &mut progress, seed: 3 };
        let recording = compare(&limited, Some(&mut a), &mut b, run, &mut |_| vec![true]);
        assert_eq!((recording.stop, recording.tests[0].rounds.len()), (Stop::Cancelled, 4));
    }

    #[test]
    fn a_candidate_alone_is_sampled_against_what_is_stored() {
        let machine = Machine::new(1, vec![]);
        let mut b = mock(&machine, "b");
        let cancel = AtomicBool::new(false);
        let run = Run { clock: &*machine, cancel: &cancel, progress: &mut |_| {}, seed: 3 };
        let mut open = |r: &Recording| vec![r.tests[0].rounds.len() < 7];
        let recording = compare(&workload(1), None, &mut b, run, &mut open);
        assert_eq!(recording.tests[0].rounds.len(), 7);
        assert!(
            recording.tests[0].rounds.iter().all(|r| r.baseline.is_none() && r.candidate.is_some())
        );
    }
}
