//! A report for people: the answer first, then the tables.

use std::fmt::Write;

use super::document::Report;
use super::findings::findings_text;
use super::headline::headlines;
use super::sections::sections;
use super::table::Style;

/// Column at which a line of prose is broken.
const WIDTH: usize = 100;

/// The report as text.
pub fn text(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for (label, sentence) in headlines(report) {
        labelled(&mut out, label, &sentence, style);
    }
    for warning in &report.warnings {
        labelled(&mut out, "warning", warning, style);
    }
    out.push_str(&findings_text(&report.findings, &report.open, "this session", style));
    for section in sections(report) {
        out.push_str(&section.text(style));
    }
    out
}

/// A sentence beside its label.
pub(super) fn labelled(out: &mut String, label: &str, sentence: &str, style: Style) {
    let label = style.bold(&format!("{label:10}"));
    let _ = writeln!(out, "{label}{}", wrap(sentence, &" ".repeat(10)));
}

/// Breaks a sentence at spaces; further lines begin with `indent`.
pub(super) fn wrap(sentence: &str, indent: &str) -> String {
    let room = WIDTH.saturating_sub(indent.len()).max(20);
    let (mut out, mut column) = (String::new(), 0);
    for word in sentence.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > room {
            out.push('\n');
            out.push_str(indent);
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}
