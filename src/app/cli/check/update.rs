//! `--update`: a new session of a baseline, and the structure of now.

use std::collections::BTreeMap;

use crate::advise::measure::{
    Clock, Progress, Run, Sample, Stop, Structure, Target, TargetFacts, TestRecord, Workload,
    compare, details_alone,
};
use crate::advise::regress::{Baseline, Limits, StoredSession, TestSession, conditions, store};
use crate::app::cli::failure::Failure;
use crate::app::cli::{output, stop};

use super::compare::{Cast, DETAILS, cast, stored_failure, structures};
use super::{CheckArgs, progress, targets};

/// Undisturbed samples of a session. More would say little: sessions differ by more than that.
const SAMPLES: u32 = 20;

/// Takes on the structure of now, and unless that is all that is wanted, samples the target and adds a
/// session.
pub(super) fn update(
    args: &CheckArgs,
    workload: &Workload,
    flags: &[String],
) -> Result<(), Failure> {
    let Cast { clock, mut candidate, .. } = cast(args, flags)?;
    let path = targets::baseline_path(args, workload);
    // A file that cannot be read is told before anything is measured.
    store::load(&path).map_err(|e| stored_failure(&e))?;
    let began = output::utc_now();
    let structure = structures(candidate.as_mut(), workload)?;
    let facts = candidate.facts()?;
    let tests = if args.structure_only {
        None
    } else {
        Some(sampled(args, workload, clock.as_ref(), candidate.as_mut())?)
    };
    let session = tests.map(|tests| StoredSession {
        engine_version: facts.engine_version.clone(),
        settings: facts.settings.clone(),
        machine: facts.machine.clone(),
        tests,
    });
    let change = |old| renewed(old, workload, facts, structure, session.map(|s| (began, s)));
    let kept = store::update(&path, change).map_err(|e| stored_failure(&e))?;
    if !args.quiet {
        let (sessions, tests) = (kept.sessions.len(), kept.structure.len());
        let told = format!("{}: {tests} tests, {sessions} sessions\n", path.display());
        output::stderr(&told);
    }
    Ok(())
}

/// The samples of a session, with detailed runs where the target tells parts.
fn sampled(
    args: &CheckArgs,
    workload: &Workload,
    clock: &dyn Clock,
    candidate: &mut dyn Target,
) -> Result<BTreeMap<String, TestSession>, Failure> {
    let sampling = &workload.sampling;
    let wanted = SAMPLES.min(sampling.samples_max).max(sampling.samples_min) as usize;
    let limits = Limits::default();
    let clean =
        |t: &TestRecord| t.rounds.iter().filter(|r| conditions::clean(r, false, &limits)).count();
    let mut tell = |p: &Progress<'_>| progress::show(args.quiet, p);
    let run = Run { clock, cancel: stop::on_ctrl_c(), progress: &mut tell, seed: 0 };
    let recording = compare(workload, None, candidate, run, &mut |recording| {
        recording.tests.iter().map(|t| clean(t) < wanted).collect()
    });
    match &recording.stop {
        Stop::Failed(error) => return Err(Failure::new(error)),
        Stop::Cancelled => {
            return Err(Failure::new("interrupted").hint("the baseline is as it was"));
        }
        Stop::Clear | Stop::Rounds | Stop::Time => {}
    }
    let mut tests = BTreeMap::new();
    for (record, test) in recording.tests.iter().zip(&workload.tests) {
        let of = clean(record);
        if of < wanted {
            output::stderr(&format!(
                "warning: {}: {of} undisturbed samples of {} that were taken, {wanted} were \
                 wanted; disturbed ones are kept and not compared with\n",
                record.test,
                record.rounds.len()
            ));
        }
        let samples: Vec<&Sample> =
            record.rounds.iter().filter_map(|r| r.candidate.as_ref()).collect();
        let details = details_alone(test, candidate, DETAILS)?;
        tests.insert(record.test.clone(), TestSession::of(&samples, &details));
    }
    Ok(tests)
}

fn renewed(
    old: Option<Baseline>,
    workload: &Workload,
    facts: TargetFacts,
    structure: BTreeMap<String, Structure>,
    session: Option<(String, StoredSession)>,
) -> Baseline {
    let mut baseline = old.unwrap_or_else(|| Baseline::new(&workload.name, facts.clone()));
    baseline.target = facts;
    baseline.workload.clone_from(&workload.name);
    baseline.structure.extend(structure);
    if let Some((began, session)) = session {
        baseline.add(&began, session);
    }
    baseline
}
