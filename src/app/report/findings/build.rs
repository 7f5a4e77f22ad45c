//! From a diagnosis to the findings of a document.

use crate::advise::diagnose::{
    Diagnosis, Evidence, Finding, Fix, FixTarget, Kind, Place, Severity, forms,
};
use crate::app::report::document as doc;
use crate::observe::logs::{LineId, LogSession};

/// Causes, then what follows from them, then what only looks wrong; `session` is the log that the
/// diagnosis refers to.
pub(crate) fn findings(session: &LogSession, diagnosis: &Diagnosis) -> Vec<doc::Finding> {
    let causes = diagnosis.findings.iter().map(|f| (f, None));
    let consequences = diagnosis.consequences.iter().map(|(f, cause)| (f, Some(*cause)));
    let benign = diagnosis.benign.iter().map(|f| (f, None));
    let all = causes.chain(consequences).chain(benign);
    all.map(|(f, cause)| finding(session, f, cause)).collect()
}

/// Questions that the facts leave open.
pub(crate) fn open(diagnosis: &Diagnosis) -> Vec<doc::OpenQuestion> {
    let open = diagnosis.open.iter().map(|(rule, need)| doc::OpenQuestion {
        rule: (*rule).to_string(),
        missing: need.missing.clone(),
        settle_by: need.settle_by.clone(),
    });
    open.collect()
}

fn finding(session: &LogSession, finding: &Finding, cause: Option<&str>) -> doc::Finding {
    let kind = match finding.kind {
        Kind::Problem => doc::FindingKind::Problem,
        Kind::Benign => doc::FindingKind::Benign,
    };
    let severity = match finding.severity {
        Severity::Error => doc::Severity::Error,
        Severity::Warning => doc::Severity::Warning,
        Severity::Info => doc::Severity::Info,
    };
    doc::Finding {
        rule: finding.rule.to_string(),
        kind,
        severity,
        confidence: finding.confidence,
        title: finding.title.clone(),
        explanation: finding.explanation.clone(),
        evidence: finding.evidence.iter().map(|e| evidence(session, e)).collect(),
        fixes: finding.fixes.iter().map(|f| fix(session, f)).collect(),
        follows_from: cause.map(ToString::to_string),
    }
}

fn evidence(session: &LogSession, evidence: &Evidence) -> doc::Evidence {
    let line = evidence.line.filter(|l| *l != LineId::default());
    let logged = line.and_then(|l| session.lines.get(l)).map(|l| l.text.to_string());
    let text = match (evidence.text.is_empty(), logged) {
        (true, logged) => logged.unwrap_or_default(),
        (false, Some(logged)) => format!("{}: {logged}", evidence.text),
        (false, None) => evidence.text.clone(),
    };
    let source = match &evidence.place {
        None => "log",
        Some(Place::Counter(..)) => "sample",
        Some(Place::Device(_) | Place::Split { .. }) => "span",
        Some(Place::Layer(_)) => "setup",
        Some(Place::Server) => "server",
    };
    doc::Evidence { source: source.to_string(), line: line.map(|l| l.0), text }
}

fn fix(session: &LogSession, fix: &Fix) -> doc::Fix {
    let os = session.os.as_ref().map(|o| o.value.as_str());
    let mut written = forms(fix, session.engine, os);
    // A flag and a command are already what a person types.
    if matches!(fix.target, FixTarget::Flag | FixTarget::System) {
        written.clear();
    }
    let written = written
        .into_iter()
        .map(|(form, text)| doc::FixForm { label: form.name().to_string(), text });
    let target = match fix.target {
        FixTarget::Env => "env",
        FixTarget::Option => "option",
        FixTarget::Modelfile => "modelfile",
        FixTarget::Flag => "flag",
        FixTarget::System => "system",
    };
    doc::Fix {
        target: target.to_string(),
        name: fix.name.clone(),
        value: fix.value.clone(),
        reason: fix.reason.clone(),
        expected: fix.expected.clone(),
        forms: written.collect(),
    }
}
