//! Typed statements derived from a session, each with its evidence: what rules ask.
//!
//! Facts are computed from the session when asked, never by a rule for itself when two rules need
//! them. Nothing here depends on the dialect of a log.

use crate::observe::logs::LogSession;

/// The facts of one observation.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What a log told.
    pub log: &'a LogSession,
}

impl<'a> Facts<'a> {
    /// The facts of a log.
    pub fn of_log(log: &'a LogSession) -> Self {
        Self { log }
    }
}
