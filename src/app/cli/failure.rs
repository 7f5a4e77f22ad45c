//! The one way a command fails: a line that says what, a hint that says what to do, exit code 2.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::app::report::Verdict;
use crate::engine::backend::BadDevice;
use crate::engine::model::store::StoreError;
use crate::engine::runtime::RuntimeError;

/// The exit code of findings and regressions.
pub(super) const EXIT_FINDINGS: u8 = 1;

/// The exit code of a report: a verdict is a problem where a finding is a warning or worse.
pub(super) fn of_verdict(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Problem => ExitCode::from(EXIT_FINDINGS),
        Verdict::Benign | Verdict::Unknown => ExitCode::SUCCESS,
    }
}

/// The exit code of every error.
pub(super) const EXIT_ERROR: u8 = 2;

/// The exit code of a check that could not tell.
pub(super) const EXIT_INCONCLUSIVE: u8 = 3;

/// Why a command stops.
#[derive(Debug)]
pub(super) enum Failure {
    /// Something for the person to read.
    Error {
        /// What is wrong, and with what.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Whoever read the output has enough.
    BrokenPipe,
}

impl Failure {
    /// A failure without a hint.
    pub(super) fn new(message: impl Display) -> Self {
        Self::Error { message: message.to_string(), hint: None }
    }

    /// The same failure with a hint.
    #[must_use]
    pub(super) fn hint(self, hint: impl Display) -> Self {
        match self {
            Self::Error { message, .. } => Self::Error { message, hint: Some(hint.to_string()) },
            Self::BrokenPipe => Self::BrokenPipe,
        }
    }

    /// A file that could not be read or written.
    pub(super) fn file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::new(format!("cannot {what} {}: {error}", path.display()))
    }

    /// Prints the failure and returns its exit code.
    #[allow(clippy::print_stderr, reason = "errors go to stderr")]
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::BrokenPipe => ExitCode::SUCCESS,
            Self::Error { message, hint } => {
                eprintln!("error: {message}");
                if let Some(hint) = hint {
                    eprintln!("hint: {hint}");
                }
                ExitCode::from(EXIT_ERROR)
            }
        }
    }
}

impl From<io::Error> for Failure {
    /// For output only: a file's errors name the file, see [`Failure::file`].
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(format!("cannot write the output: {error}")),
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Self::Error { message: error.to_string(), hint: error.hint() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Error { message: error.to_string(), hint: error.hint() }
    }
}

impl From<BadDevice> for Failure {
    fn from(error: BadDevice) -> Self {
        Self::new(&error).hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_error() {
        let error = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(error.hint("none"), Failure::BrokenPipe));
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, Failure::Error { .. }));
    }
}
