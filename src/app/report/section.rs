//! A heading, a table and the sentences below it: what reports for people are made of.

use std::fmt::Write;

use super::table::{Style, Table};
use super::text::wrap;

/// A part of a report.
pub(super) struct Section {
    pub(super) title: String,
    pub(super) table: Table,
    /// Sentences below the table.
    pub(super) notes: Vec<String>,
}

impl Section {
    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.notes.is_empty()
    }

    /// For a terminal, with an empty line before it.
    pub(super) fn text(&self, style: Style) -> String {
        let mut out = format!("\n{}\n", style.bold(&self.title));
        if !self.table.is_empty() {
            out.push_str(&self.table.text("  ", style));
        }
        for note in &self.notes {
            let _ = writeln!(out, "  {}", wrap(note, "    "));
        }
        out
    }

    /// With the heading on a level of `#`.
    pub(super) fn markdown(&self, level: &str) -> String {
        let mut out = format!("\n{level} {}\n\n", self.title);
        if !self.table.is_empty() {
            out.push_str(&self.table.markdown());
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }
}
