//! What changed between two logs, for people and programs.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::advise::diagnose::{Change, Diagnosis};
use crate::app::report::{Style, Table};

/// The `schema` of a comparison.
const DIFF_SCHEMA: &str = "gpuwhy.logs-diff/1";

/// What changed between two logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogDiff {
    /// Always `gpuwhy.logs-diff/1`.
    pub schema: String,
    /// The first log.
    pub before: String,
    /// The second log.
    pub after: String,
    /// Rules that found a problem in the second log only.
    pub problems_new: Vec<DiffFinding>,
    /// Rules that found a problem in the first log only.
    pub problems_gone: Vec<DiffFinding>,
    /// Differences, in the order in which one thing leads to the next.
    pub changes: Vec<DiffChange>,
}

/// A problem that only one of the logs has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffFinding {
    /// The rule.
    pub rule: String,
    /// Its line for this log.
    pub title: String,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffChange {
    /// Which part: `engine`, `devices`, `settings`, `asked`, `granted`, `graph`, `speed`.
    pub area: String,
    /// What.
    pub what: String,
    /// In the first log.
    pub before: String,
    /// In the second log.
    pub after: String,
}

/// The document from the differences and both diagnoses.
pub fn diff_report(
    names: (&str, &str),
    changes: &[Change],
    (before, after): (&Diagnosis, &Diagnosis),
) -> LogDiff {
    let only = |one: &Diagnosis, other: &Diagnosis| {
        let new = one.findings.iter().filter(|f| other.findings.iter().all(|o| o.rule != f.rule));
        new.map(|f| DiffFinding { rule: f.rule.to_string(), title: f.title.clone() }).collect()
    };
    let changes = changes.iter().map(|c| DiffChange {
        area: c.area.to_string(),
        what: c.what.clone(),
        before: c.before.clone(),
        after: c.after.clone(),
    });
    LogDiff {
        schema: DIFF_SCHEMA.to_string(),
        before: names.0.to_string(),
        after: names.1.to_string(),
        problems_new: only(after, before),
        problems_gone: only(before, after),
        changes: changes.collect(),
    }
}

/// The comparison as text.
pub fn diff_text(diff: &LogDiff, style: Style) -> String {
    let mut out = String::new();
    for (what, findings) in told(diff) {
        for finding in findings {
            let _ = writeln!(out, "{} {}: {}", style.bold(what), finding.rule, finding.title);
        }
    }
    if diff.changes.is_empty() {
        out.push_str("no difference in what these logs tell\n");
    } else {
        out.push_str(&table(diff).text("", style));
    }
    out
}

/// The comparison as Markdown.
pub fn diff_markdown(diff: &LogDiff) -> String {
    let mut out = format!("## {} against {}\n\n", diff.after, diff.before);
    for (what, findings) in told(diff) {
        for finding in findings {
            let _ = writeln!(out, "- **{what}** `{}`: {}", finding.rule, finding.title);
        }
    }
    if diff.changes.is_empty() {
        out.push_str("No difference in what these logs tell.\n");
    } else {
        let _ = write!(out, "\n{}", table(diff).markdown());
    }
    out
}

fn told(diff: &LogDiff) -> [(&'static str, &[DiffFinding]); 2] {
    [("new problem", &diff.problems_new), ("gone", &diff.problems_gone)]
}

fn table(diff: &LogDiff) -> Table {
    let mut table = Table::new(&["part", "what", "before", "after"]);
    for c in &diff.changes {
        table.row([c.area.clone(), c.what.clone(), c.before.clone(), c.after.clone()]);
    }
    table
}
