//! The report of a log: the verdict first, then the evidence, then the fix to copy.
//!
//! [`build_log_report`] makes the document from a session and its diagnosis; text and Markdown print
//! it. Nothing here concludes anything. Invariant: what text and Markdown say stands in the document.

mod build;
mod diff;
mod document;
mod markdown;
mod prose;
mod redact;
#[cfg(test)]
mod tests;
mod text;

pub use build::build_log_report;
pub use diff::{DiffChange, DiffFinding, LogDiff, diff_markdown, diff_report, diff_text};
pub use document::*;
pub use markdown::log_markdown;
pub use redact::Redactor;
pub use text::log_text;
