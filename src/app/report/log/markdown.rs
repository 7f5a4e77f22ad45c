//! The report of a log to paste into an issue.

use std::fmt::Write;

use crate::app::report::findings::findings_markdown;

use super::document::LogReport;
use super::prose;

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
    out.push_str(&findings_markdown(&report.findings, &report.open, "The log"));
    let loads = prose::loads(report);
    if !loads.is_empty() {
        let _ = writeln!(out, "\n### Loads\n");
        out.push_str(&loads.markdown());
    }
    out
}
