//! Sentences about findings that text and Markdown share.

use crate::app::report::document::{Finding, FindingKind, Fix, OpenQuestion, Severity};

/// Open questions that are printed; the document has all.
pub(super) const OPEN_SHOWN: usize = 3;

/// How many questions are not printed.
pub(super) fn open_not_shown(open: &[OpenQuestion]) -> Option<String> {
    let more = open.len().checked_sub(OPEN_SHOWN).filter(|n| *n > 0)?;
    Some(format!("… and {more} more (--format json lists them)"))
}

/// Problems that are causes, the primary one first.
pub(crate) fn causes(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    let problems = findings.iter().filter(|f| f.kind == FindingKind::Problem);
    problems.filter(|f| f.follows_from.is_none())
}

/// Problems that follow from a cause.
pub(super) fn consequences(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|f| f.follows_from.is_some())
}

/// What looks wrong but is not.
pub(super) fn benign(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|f| f.kind == FindingKind::Benign)
}

/// How bad and how sure, in words.
pub(super) fn certainty(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    };
    format!("{severity}, {:.0} % sure", finding.confidence * 100.0)
}

/// What to change, as one sentence.
pub(super) fn instruction(fix: &Fix) -> String {
    let (name, value) = (&fix.name, &fix.value);
    match fix.target.as_str() {
        "system" if value.is_empty() => name.clone(),
        "system" => format!("{name}: {value}"),
        "env" if value.is_empty() => format!("unset {name}"),
        "env" => format!("set {name}={value} for the server"),
        "option" if value.is_empty() => format!("leave out the request option {name}"),
        "option" => format!("request option {name}: {value}"),
        "modelfile" => format!("in the Modelfile: PARAMETER {name} {value}"),
        _ if value.is_empty() => format!("add {name}"),
        _ => format!("{name} {value}"),
    }
}
