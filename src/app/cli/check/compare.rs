//! From targets to the report of a check.

use std::collections::BTreeMap;
use std::path::Path;

use crate::advise::measure::{
    Clock, Metric, Part, Progress, RealClock, Recording, Run, Sample, Side, Stop, Structure,
    Target, Workload, compare, details, details_alone,
};
use crate::advise::regress::{
    Baseline, Comparison, Judge, Rules, Session, StoredSession, Verdict, attribute, conditions,
    differences, store, structure_changes,
};
use crate::app::cli::failure::Failure;
use crate::app::cli::{output, stop};
use crate::app::report::check::{
    CHECK_SCHEMA, CheckMode, CheckReport, SampleSeries, SideReport, TestAttribution,
};

use super::{CheckArgs, mock, progress, targets};

/// Detailed runs of each side from which extra time is attributed.
pub(super) const DETAILS: usize = 4;

/// What a command works with.
pub(super) struct Cast {
    pub(super) clock: Box<dyn Clock>,
    pub(super) baseline: Option<Box<dyn Target>>,
    pub(super) candidate: Box<dyn Target>,
}

/// The targets that the arguments mean, scripted ones too.
pub(super) fn cast(args: &CheckArgs, flags: &[String]) -> Result<Cast, Failure> {
    if let Some(path) = &args.mock {
        let mocks = mock::read(path)?;
        return Ok(Cast {
            clock: Box::new(mocks.machine),
            baseline: mocks.baseline.map(|m| Box::new(m) as Box<dyn Target>),
            candidate: Box::new(mocks.candidate),
        });
    }
    Ok(Cast {
        clock: Box::new(RealClock),
        baseline: targets::baseline(args, flags)?,
        candidate: targets::candidate(args, flags)?,
    })
}

/// The structure of each test.
pub(super) fn structures(
    target: &mut dyn Target,
    workload: &Workload,
) -> Result<BTreeMap<String, Structure>, Failure> {
    let tests = workload.tests.iter();
    tests.map(|test| Ok((test.name.clone(), target.structure(test)?))).collect()
}

/// What is compared with: a target that runs in turn, or a file.
enum Reference {
    Target(Box<dyn Target>),
    Stored(Box<Baseline>),
}

/// Compares, and tells.
pub(super) fn check(
    args: &CheckArgs,
    workload: &Workload,
    flags: &[String],
) -> Result<CheckReport, Failure> {
    let Cast { clock, baseline, mut candidate } = cast(args, flags)?;
    let path = targets::baseline_path(args, workload);
    let mut reference = match baseline {
        Some(target) => Reference::Target(target),
        None => Reference::Stored(Box::new(stored(&path)?)),
    };
    let (mut report, mut compared) =
        compare_structure(workload, &mut reference, candidate.as_mut(), &path)?;
    if !args.structure_only {
        let clock = clock.as_ref();
        compared &=
            compare_times(args, workload, clock, &mut reference, candidate.as_mut(), &mut report);
    }
    report.verdict = CheckReport::verdict_of(&report.structure, report.timing.as_ref());
    // What could not be compared has not been shown to be the same.
    if !compared && report.verdict != Verdict::Regressed {
        report.verdict = Verdict::Inconclusive;
    }
    Ok(report)
}

fn stored(path: &Path) -> Result<Baseline, Failure> {
    let baseline = store::load(path).map_err(|e| stored_failure(&e))?;
    baseline.ok_or_else(|| {
        Failure::new(format!("there is no baseline {}", path.display()))
            .hint("make one with --update, or compare with --against PROGRAM or --against-flags")
    })
}

/// The report with the structure compared, and whether the baseline knows all tests; notes tell which
/// it does not know.
fn compare_structure(
    workload: &Workload,
    reference: &mut Reference,
    candidate: &mut dyn Target,
    path: &Path,
) -> Result<(CheckReport, bool), Failure> {
    let after = structures(candidate, workload)?;
    let facts = candidate.facts()?;
    let (name, reference_facts, before) = match reference {
        Reference::Target(target) => {
            let before = structures(target.as_mut(), workload)?;
            (target.name().to_string(), target.facts()?, before)
        }
        Reference::Stored(b) => (path.display().to_string(), b.target.clone(), b.structure.clone()),
    };
    let same_machine = differences(&reference_facts.machine, &facts.machine).is_empty();
    let (mut structure, mut notes) = (Vec::new(), Vec::new());
    for (test, after) in &after {
        match before.get(test) {
            Some(before) => {
                structure.extend(structure_changes(test, before, after, same_machine));
            }
            None => notes.push(format!("the baseline does not know test {test}; --update adds it")),
        }
    }
    let knows_all = notes.is_empty();
    let report = CheckReport {
        schema: CHECK_SCHEMA.to_string(),
        verdict: Verdict::Inconclusive,
        workload: workload.name.clone(),
        mode: CheckMode::Structure,
        changes: CheckReport::changes_of(&reference_facts, &facts),
        baseline: SideReport { name, facts: reference_facts },
        candidate: SideReport { name: candidate.name().to_string(), facts },
        structure,
        timing: None,
        attribution: Vec::new(),
        notes,
        samples: BTreeMap::new(),
    };
    Ok((report, knows_all))
}

/// Compares times; false where the baseline's were taken on another machine.
fn compare_times(
    args: &CheckArgs,
    workload: &Workload,
    clock: &dyn Clock,
    reference: &mut Reference,
    candidate: &mut dyn Target,
    report: &mut CheckReport,
) -> bool {
    let rules = Rules::new(workload.sampling);
    let (mut judge, stored) = match &*reference {
        Reference::Target(_) => (Judge::interleaved(rules), Vec::new()),
        Reference::Stored(b) => {
            let machine = &report.candidate.facts.machine;
            let sessions: Vec<&StoredSession> = b.sessions_on(machine).map(|s| s.1).collect();
            if sessions.is_empty() {
                report.notes.push(refusal(b, machine));
                return false;
            }
            (Judge::against(rules, sessions.iter().map(|s| history(s)).collect()), sessions)
        }
    };
    report.mode = match reference {
        Reference::Target(_) => CheckMode::Interleaved,
        Reference::Stored(_) => CheckMode::Stored,
    };
    let stored_details: BTreeMap<String, Vec<Vec<Part>>> = stored
        .last()
        .map(|s| s.tests.iter().map(|(test, t)| (test.clone(), t.details())).collect())
        .unwrap_or_default();
    let last_session: BTreeMap<String, Vec<Sample>> =
        stored.last().map(|s| history(s)).unwrap_or_default();
    drop(stored);
    let mut tell = |p: &Progress<'_>| progress::show(args.quiet, p);
    let run = Run {
        clock,
        cancel: stop::on_ctrl_c(),
        progress: &mut tell,
        seed: crate::base::clock::now_ns(),
    };
    let is_paired = matches!(reference, Reference::Target(_));
    let beside: Option<&mut dyn Target> = match reference {
        Reference::Target(target) => Some(target.as_mut()),
        Reference::Stored(_) => None,
    };
    let recording = compare(workload, beside, candidate, run, &mut |recording| {
        let open = judge.still_open(recording);
        // A machine that others use all the time does not become quiet by waiting for it.
        if hopeless(recording, is_paired, &rules) { vec![false; open.len()] } else { open }
    });
    if let Stop::Failed(error) = &recording.stop {
        report.notes.push(format!("sampling stopped: {error}"));
    }
    report.samples = series(&recording, &last_session);
    let timing = judge.finish(&recording);
    report.attribution =
        explain(args, workload, &timing, reference, candidate, &stored_details, &mut report.notes);
    report.timing = Some(timing);
    true
}

/// Rounds after which a machine that was disturbed in each of them is given up.
const ROUNDS_HOPELESS: usize = 12;

fn hopeless(recording: &Recording, is_paired: bool, rules: &Rules) -> bool {
    let rounds = || recording.tests.iter().flat_map(|t| &t.rounds);
    let of_each = recording.tests.iter().all(|t| t.rounds.len() >= ROUNDS_HOPELESS);
    of_each && !rounds().any(|r| conditions::clean(r, is_paired, &rules.limits))
}

fn history(session: &StoredSession) -> Session {
    session.tests.iter().map(|(test, t)| (test.clone(), t.samples())).collect()
}

/// Why a baseline's times are not compared with.
fn refusal(baseline: &Baseline, machine: &BTreeMap<String, String>) -> String {
    match baseline.sessions.values().next_back() {
        None => "the baseline has no session; --update adds one".to_string(),
        Some(last) => format!(
            "times are not compared: the baseline's were taken on another machine ({}); --update adds \
             a session of this one, --structure-only leaves times out",
            differences(&last.machine, machine).join("; ")
        ),
    }
}

/// Every sample, by test and metric. Against stored sessions the baseline's are those of the last.
fn series(
    recording: &Recording,
    stored: &BTreeMap<String, Vec<Sample>>,
) -> BTreeMap<String, BTreeMap<Metric, SampleSeries>> {
    let mut all: BTreeMap<String, BTreeMap<Metric, SampleSeries>> = BTreeMap::new();
    for record in &recording.tests {
        let of_test = all.entry(record.test.clone()).or_default();
        let mut add = |sample: &Sample, side: Side| {
            for (metric, value) in &sample.metrics {
                let series = of_test.entry(*metric).or_default();
                match side {
                    Side::Baseline => series.baseline.push(*value),
                    Side::Candidate => series.candidate.push(*value),
                }
            }
        };
        for sample in stored.get(&record.test).into_iter().flatten() {
            add(sample, Side::Baseline);
        }
        for round in &record.rounds {
            if let Some(sample) = &round.baseline {
                add(sample, Side::Baseline);
            }
            if let Some(sample) = &round.candidate {
                add(sample, Side::Candidate);
            }
        }
    }
    all
}

/// Takes the extra time of what regressed apart, in detailed runs of both sides, or of the candidate
/// alone and those that the baseline keeps.
fn explain(
    args: &CheckArgs,
    workload: &Workload,
    timing: &Comparison,
    reference: &mut Reference,
    candidate: &mut dyn Target,
    stored: &BTreeMap<String, Vec<Vec<Part>>>,
    notes: &mut Vec<String>,
) -> Vec<TestAttribution> {
    let mut all = Vec::new();
    let regressed = timing.tests.iter().filter(|t| t.verdict == Verdict::Regressed);
    for test in regressed.filter_map(|t| workload.tests.iter().find(|w| w.name == t.test)) {
        if !args.quiet {
            output::stderr(&format!("{}: looking where the extra time went\n", test.name));
        }
        let sides = match reference {
            Reference::Target(target) => details(test, target.as_mut(), candidate, DETAILS),
            Reference::Stored(_) => details_alone(test, candidate, DETAILS)
                .map(|ours| [stored.get(&test.name).cloned().unwrap_or_default(), ours]),
        };
        match sides {
            Ok([before, after]) if before.iter().chain(&after).all(Vec::is_empty) => {
                notes.push(format!("{}: the target does not tell where its time goes", test.name));
            }
            Ok([before, after]) => {
                let phases = attribute(&before, &after);
                all.push(TestAttribution { test: test.name.clone(), phases });
            }
            Err(error) => notes.push(format!("{}: not attributed: {error}", test.name)),
        }
    }
    all
}

/// What to tell about a baseline's file.
pub(super) fn stored_failure(error: &store::StoreError) -> Failure {
    Failure::new(error).hint(error.hint())
}
