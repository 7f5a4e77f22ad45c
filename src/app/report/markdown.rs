//! A report to paste into an issue.

use std::fmt::Write;

use super::document::Report;
use super::findings::findings_markdown;
use super::headline::headlines;
use super::sections::sections;

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let source = &report.source;
    let _ = writeln!(out, "## {} {} report\n", source.engine, source.engine_version);
    for (label, sentence) in headlines(report) {
        let _ = writeln!(out, "- **{label}**: {sentence}");
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "- **warning**: {warning}");
    }
    out.push_str(&findings_markdown(&report.findings, &report.open, "This session"));
    for section in sections(report) {
        out.push_str(&section.markdown("###"));
    }
    for output in &report.output {
        let _ = writeln!(
            out,
            "\n<details><summary>output {} ({} tokens)</summary>\n\n{}\n</details>",
            output.id,
            output.tokens_generated,
            fenced(&output.text)
        );
    }
    out
}

/// A code block whose fence is longer than any in the text.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", text.trim_end_matches('\n'))
}
