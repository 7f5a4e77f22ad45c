//! Why something could not be read, before it is known when and of what.

use std::io;

use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{Absent, AbsentReason};

/// A reason, in a program's words and in a person's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Unread {
    /// For programs.
    pub reason: AbsentReason,
    /// What is the case.
    pub text: String,
    /// What can be done; empty when nothing can.
    pub hint: String,
}

impl Unread {
    /// A reason with words.
    pub fn new(reason: AbsentReason, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason, text: text.into(), hint: hint.into() }
    }

    /// A file of the system that could not be read.
    pub fn file(path: &str, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => AbsentReason::NotSupported,
            io::ErrorKind::PermissionDenied => AbsentReason::NoPermission,
            _ => AbsentReason::Unreadable,
        };
        let hint = match reason {
            AbsentReason::NoPermission => "run as the same user, or as root, to see it",
            _ => "",
        };
        Self::new(reason, format!("/{path}: {error}"), hint)
    }

    /// A file whose text was not as expected.
    pub fn text_of(path: &str) -> Self {
        Self::new(AbsentReason::NotSupported, format!("/{path} does not tell it"), "")
    }

    /// The event, now that it is known of what and when.
    pub fn absent(
        self,
        at_ns: u64,
        source: Source,
        subject: Option<Subject>,
        counter: Option<Counter>,
    ) -> Absent {
        let Self { reason, text, hint } = self;
        Absent { at_ns, source, subject, counter, reason, text, hint }
    }
}
