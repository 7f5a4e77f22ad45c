//! Findings in reports: from a diagnosis to the document, and from there to text and Markdown.
//!
//! The same for every source: a log, a run, a server, a machine. Nothing here concludes anything.

mod build;
mod markdown;
mod prose;
mod text;

pub(crate) use build::{findings, open};
pub(crate) use markdown::findings_markdown;
pub(crate) use prose::causes;
pub(crate) use text::findings_text;
