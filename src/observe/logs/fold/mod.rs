//! Records become a [`LogSession`]. It does not judge and reads no text but a record's fields.
//!
//! Invariant: memory is bounded whatever the number of records.

mod kind;

pub use kind::Kind;

use super::record::Record;
use super::session::LogSession;

/// Takes records in and ends in a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Fold {
    session: LogSession,
}

impl Fold {
    /// Takes one record in.
    pub(super) fn apply(&mut self, record: &Record<'_>) {
        self.session.lines.keep(record.line, record.line_text());
    }

    /// What was told; the counts of lines are left to the parser.
    pub(super) fn finish(self) -> LogSession {
        self.session
    }
}
