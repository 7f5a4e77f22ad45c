//! `--update`: a new session of a baseline, and the structure of now.

use std::collections::BTreeMap;

use crate::advise::measure::{
    Progress, Run, Sample, Stop, Structure, TargetFacts, TestRecord, Workload, compare,
};
use crate::advise::regress::{Baseline, StoredSession, TestSession, conditions, store};
use crate::app::cli::failure::Failure;
use crate::app::cli::{output, stop};

use super::compare::{Cast, DETAILS, cast, stored_failure, structures};
use super::{CheckArgs, progress, targets};

/// Undisturbed samples of a session. More would say little: sessions differ by more than that.
const SAMPLES: u32 = 20;

/// Samples the target and adds a session to the baseline.
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
    let sampling = &workload.sampling;
    let wanted = SAMPLES.min(sampling.samples_max).max(sampling.samples_min);
    let limits = conditions::Limits::default();
    let mut tell = |p: &Progress<'_>| progress::show(args.quiet, p);
    let cancel = stop::on_ctrl_c();
    let run = Run { clock: clock.as_ref(), cancel, progress: &mut tell, seed: 0 };
    let recording = compare(workload, None, candidate.as_mut(), run, &mut |recording| {
        let clean = |t: &TestRecord| {
            t.rounds.iter().filter(|r| conditions::clean(r, false, &limits)).count()
        };
        recording.tests.iter().map(|t| clean(t) < wanted as usize).collect()
    });
    match &recording.stop {
        Stop::Failed(error) => return Err(Failure::new(error)),
        Stop::Cancelled => {
            return Err(Failure::new("interrupted")
                .hint(format!("{} is as it was; run --update again", path.display())));
        }
        Stop::Clear | Stop::Rounds | Stop::Time => {}
    }
    let mut tests = BTreeMap::new();
    for (record, test) in recording.tests.iter().zip(&workload.tests) {
        let samples: Vec<&Sample> =
            record.rounds.iter().filter_map(|r| r.candidate.as_ref()).collect();
        let mut details = Vec::new();
        for _ in 0..DETAILS {
            details.push(candidate.detail(test)?.parts);
        }
        tests.insert(record.test.clone(), TestSession::of(&samples, &details));
    }
    let session = StoredSession {
        engine_version: facts.engine_version.clone(),
        settings: facts.settings.clone(),
        machine: facts.machine.clone(),
        tests,
    };
    let kept =
        store::update(&path, |old| with_session(old, workload, facts, structure, &began, session));
    let kept = kept.map_err(|e| stored_failure(&e))?;
    if !args.quiet {
        output::stderr(&format!(
            "{}: {} sessions, {} tests, {} samples of each added\n",
            path.display(),
            kept.sessions.len(),
            workload.tests.len(),
            recording.tests.iter().map(|t| t.rounds.len()).max().unwrap_or(0)
        ));
    }
    Ok(())
}

fn with_session(
    old: Option<Baseline>,
    workload: &Workload,
    facts: TargetFacts,
    structure: BTreeMap<String, Structure>,
    began: &str,
    session: StoredSession,
) -> Baseline {
    let mut baseline = old.unwrap_or_else(|| Baseline::new(&workload.name, facts.clone()));
    baseline.target = facts;
    baseline.workload.clone_from(&workload.name);
    baseline.structure.extend(structure);
    baseline.add(began, session);
    baseline
}
