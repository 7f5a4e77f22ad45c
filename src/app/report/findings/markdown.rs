//! Findings to paste into an issue.

use std::fmt::Write;

use crate::app::report::document::{Finding, OpenQuestion};

use super::prose;

/// Ways to write down the first fix of a finding.
const FORMS_SHOWN: usize = 3;

/// Causes in full, then what follows from them, what is normal, and what `source` leaves open.
pub(crate) fn findings_markdown(
    findings: &[Finding],
    open: &[OpenQuestion],
    source: &str,
) -> String {
    let mut out = String::new();
    for cause in prose::causes(findings) {
        finding(&mut out, cause);
    }
    list(&mut out, "Follows from it", prose::consequences(findings));
    list(&mut out, "Normal, though it may look wrong", prose::benign(findings));
    if !open.is_empty() {
        let _ = writeln!(out, "\n### {source} does not tell\n");
        for question in open.iter().take(prose::OPEN_SHOWN) {
            let (missing, settle) = (&question.missing, &question.settle_by);
            let _ = writeln!(out, "- `{}`: {missing}. To settle it: {settle}", question.rule);
        }
    }
    out
}

fn finding(out: &mut String, finding: &Finding) {
    let _ = writeln!(out, "\n### {} ({})\n", finding.rule, prose::certainty(finding));
    let _ = writeln!(out, "{}\n\n{}\n", finding.title, finding.explanation);
    if !finding.evidence.is_empty() {
        out.push_str("```text\n");
        for evidence in &finding.evidence {
            let line = evidence.line.map_or(String::new(), |l| format!("{l}: "));
            let _ = writeln!(out, "{line}{}", evidence.text.replace("```", "'''"));
        }
        out.push_str("```\n\n");
    }
    for (i, fix) in finding.fixes.iter().enumerate() {
        let _ = write!(out, "- **{}**", prose::instruction(fix));
        if !fix.reason.is_empty() {
            let _ = write!(out, ": {}", fix.reason);
        }
        if !fix.expected.is_empty() {
            let _ = write!(out, "; expect {}", fix.expected);
        }
        out.push('\n');
        for form in fix.forms.iter().take(if i == 0 { FORMS_SHOWN } else { 0 }) {
            let text = form.text.replace('\n', "\n  ");
            let _ = writeln!(out, "\n  {}:\n\n  ```\n  {text}\n  ```", form.label);
        }
    }
}

fn list<'a>(out: &mut String, title: &str, findings: impl Iterator<Item = &'a Finding>) {
    let mut findings = findings.peekable();
    if findings.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "\n### {title}\n");
    for finding in findings {
        let _ = writeln!(out, "- `{}`: {}. {}", finding.rule, finding.title, finding.explanation);
    }
}
