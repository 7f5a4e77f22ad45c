//! Findings for people at a terminal.

use std::fmt::Write;

use crate::app::report::document::{Finding, Fix, OpenQuestion};
use crate::app::report::table::Style;
use crate::app::report::text::wrap;

use super::prose;

/// Evidence lines of one finding that are printed; the document has all.
const EVIDENCE_SHOWN: usize = 6;

/// Ways to write down a fix that are printed.
const FORMS_SHOWN: usize = 3;

/// Characters of an evidence line that are printed.
const EVIDENCE_WIDTH: usize = 180;

/// Causes in full, then what follows from them, what is normal, and what `source` leaves open.
pub(crate) fn findings_text(
    findings: &[Finding],
    open: &[OpenQuestion],
    source: &str,
    style: Style,
) -> String {
    let mut out = String::new();
    for (i, cause) in prose::causes(findings).enumerate() {
        let number = if i == 0 { "cause".to_string() } else { format!("also {}", i + 1) };
        finding(&mut out, &number, cause, style);
    }
    list(&mut out, "follows from it", prose::consequences(findings), style);
    list(&mut out, "normal, though it may look wrong", prose::benign(findings), style);
    if !open.is_empty() {
        let _ = writeln!(out, "\n{}", style.bold(&format!("{source} does not tell")));
        for question in open.iter().take(prose::OPEN_SHOWN) {
            let _ = writeln!(
                out,
                "  {}",
                wrap(&format!("{}: {}", question.rule, question.missing), "    ")
            );
            let _ = writeln!(
                out,
                "    {}",
                wrap(&format!("to settle it: {}", question.settle_by), "      ")
            );
        }
        if let Some(more) = prose::open_not_shown(open) {
            let _ = writeln!(out, "  {more}");
        }
    }
    out
}

fn finding(out: &mut String, label: &str, finding: &Finding, style: Style) {
    let head = format!("{label}: {}", finding.rule);
    let _ = writeln!(out, "\n{} ({})", style.bold(&head), prose::certainty(finding));
    let _ = writeln!(out, "  {}", wrap(&finding.title, "  "));
    let _ = writeln!(out, "  {}", wrap(&finding.explanation, "  "));
    if !finding.evidence.is_empty() {
        let _ = writeln!(out, "  {}", style.dim("evidence"));
    }
    for evidence in finding.evidence.iter().take(EVIDENCE_SHOWN) {
        let line = evidence.line.map_or(String::new(), |l| format!("line {l}: "));
        let _ = writeln!(out, "    {line}{}", cut(&evidence.text));
    }
    if finding.evidence.len() > EVIDENCE_SHOWN {
        let _ = writeln!(out, "    … and {} more", finding.evidence.len() - EVIDENCE_SHOWN);
    }
    for (i, fix) in finding.fixes.iter().enumerate() {
        let word = if i == 0 { "fix" } else { "or" };
        // Several ways to make the same change have the same reason, which is told once.
        let told = i > 0 && finding.fixes[i - 1].reason == fix.reason;
        let sentence = if told { prose::instruction(fix) } else { fix_sentence(fix) };
        let _ = writeln!(out, "  {} {}", style.dim(word), wrap(&sentence, "      "));
        // The first fix is the one to try: it is written out, the others can be had as JSON.
        for form in fix.forms.iter().take(if i == 0 { FORMS_SHOWN } else { 0 }) {
            let _ = writeln!(out, "      {}", style.dim(&form.label));
            for line in form.text.lines() {
                let _ = writeln!(out, "        {line}");
            }
        }
    }
}

/// What to change, why, and what to expect.
fn fix_sentence(fix: &Fix) -> String {
    let mut out = prose::instruction(fix);
    for (before, part) in [(": ", &fix.reason), ("; expect ", &fix.expected)] {
        if !part.is_empty() {
            out.push_str(before);
            out.push_str(part);
        }
    }
    out
}

fn list<'a>(
    out: &mut String,
    title: &str,
    findings: impl Iterator<Item = &'a Finding>,
    style: Style,
) {
    let mut findings = findings.peekable();
    if findings.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "\n{}", style.bold(title));
    for finding in findings {
        let _ =
            writeln!(out, "  {}", wrap(&format!("{}: {}", finding.rule, finding.title), "    "));
        let _ = writeln!(out, "    {}", wrap(&finding.explanation, "    "));
    }
}

/// A line of evidence that fits a terminal; the document has the whole one.
fn cut(text: &str) -> String {
    if text.chars().count() <= EVIDENCE_WIDTH {
        return text.to_string();
    }
    let start: String = text.chars().take(EVIDENCE_WIDTH).collect();
    format!("{start} …")
}
