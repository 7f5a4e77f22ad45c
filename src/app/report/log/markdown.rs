//! The report of a log to paste into an issue.

use std::fmt::Write;

use crate::app::report::document::Finding;

use super::document::LogReport;
use super::prose;

/// Ways to write down the first fix of a finding.
const FORMS_SHOWN: usize = 3;

/// The report as Markdown.
pub fn log_markdown(report: &LogReport) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "## gpuwhy on a log\n");
    let _ = writeln!(out, "- **verdict**: {}", prose::verdict(report));
    let _ = writeln!(out, "- **what**: {}", prose::what(report));
    if let Some(requests) = prose::requests(report) {
        let _ = writeln!(out, "- **requests**: {requests}");
    }
    let _ = writeln!(out, "- **read**: {}", prose::lines(report));
    for cause in prose::causes(report) {
        finding(&mut out, cause);
    }
    list(&mut out, "Follows from it", prose::consequences(report));
    list(&mut out, "Normal, though it may look wrong", prose::benign(report));
    if !report.open.is_empty() {
        let _ = writeln!(out, "\n### The log does not tell\n");
        for open in report.open.iter().take(prose::OPEN_SHOWN) {
            let (missing, settle) = (&open.missing, &open.settle_by);
            let _ = writeln!(out, "- `{}`: {missing}. To settle it: {settle}", open.rule);
        }
    }
    let loads = prose::loads(report);
    if !loads.is_empty() {
        let _ = writeln!(out, "\n### Loads\n");
        out.push_str(&loads.markdown());
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
