//! The report of a session of our own engine, live or recorded, with what the rules find in it.

use crate::advise::diagnose::{Diagnosis, Facts, Severity, diagnose};
use crate::observe::session::Session;

use super::document::{Output, Report, SourceKind, Verdict};
use super::findings::{findings, open};
use super::lines::timing_lines;
use super::timing::{Totals, from_sums};

/// The report of a session as far as it has come; `None` where no engine of ours told how it set up a
/// model. With `totals`, texts and times are these; otherwise what the session kept of them.
pub fn session_report(
    session: &mut Session,
    kind: SourceKind,
    totals: Option<Totals>,
) -> Option<Report> {
    let setup = session.setup.clone()?;
    session.log.settle();
    let diagnosis = diagnose(&Facts::of_session(session));
    let mut sums = session.sums.clone();
    sums.close();
    let totals = totals.unwrap_or_else(|| kept(session));
    let mut report = from_sums(sums, setup.as_ref().clone(), totals);
    report.source.kind = kind;
    report.verdict = verdict(session, &diagnosis);
    report.findings = findings(session.log.told(), &diagnosis);
    report.open = open(&diagnosis);
    Some(report)
}

/// The lines that our engine logs when it has done its work; none where it told of no model.
pub(crate) fn session_timing_lines(session: &Session) -> Vec<String> {
    let Some(setup) = &session.setup else { return Vec::new() };
    let mut sums = session.sums.clone();
    sums.close();
    timing_lines(&from_sums(sums, setup.as_ref().clone(), kept(session)).timings)
}

/// Nothing is called well before something was computed.
fn verdict(session: &Session, diagnosis: &Diagnosis) -> Verdict {
    if diagnosis.findings.iter().any(|f| f.severity >= Severity::Warning) {
        Verdict::Problem
    } else if session.sums.phases.is_empty() {
        Verdict::Unknown
    } else {
        Verdict::Benign
    }
}

/// Texts and times of the requests that a session kept.
fn kept(session: &Session) -> Totals {
    let mut ended: Vec<_> = session.requests.ended.iter().collect();
    ended.sort_by_key(|e| e.id);
    let output = ended.iter().map(|e| {
        let start_ns = e.request.started.map_or(e.ended_ns, |s| s.0);
        Output {
            id: e.id,
            text: e.request.text.clone(),
            tokens_prompt: u64::from(e.request.prompt_tokens),
            tokens_generated: u64::from(e.generated_tokens),
            finish: e.finish,
            first_token_ns: e.request.token_ns.first().copied().unwrap_or(0),
            total_ns: e.ended_ns.saturating_sub(start_ns),
        }
    });
    let token_ns = ended.iter().map(|e| e.request.token_ns.clone()).collect();
    Totals { output: output.collect(), token_ns }
}
