//! The report of a log for people at a terminal.

use std::fmt::Write;

use crate::app::report::findings::findings_text;
use crate::app::report::table::Style;
use crate::app::report::text::labelled;

use super::document::LogReport;
use super::prose;

/// The report as text.
pub fn log_text(report: &LogReport, style: Style) -> String {
    let mut out = String::new();
    let mut head = |label: &str, sentence: &str| labelled(&mut out, label, sentence, style);
    head("verdict", &prose::verdict(report));
    head("what", &prose::what(report));
    if let Some(requests) = prose::requests(report) {
        head("requests", &requests);
    }
    head("read", &prose::lines(report));
    out.push_str(&findings_text(&report.findings, &report.open, "the log", style));
    let loads = prose::loads(report);
    if !loads.is_empty() {
        let _ = writeln!(out, "\n{}", style.bold("loads"));
        out.push_str(&loads.text("  ", style));
    }
    out
}
