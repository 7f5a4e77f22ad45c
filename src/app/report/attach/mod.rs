//! The report of a server that was watched: what it is, what it does, how fast, and what the rules find.
//!
//! [`attach_report`] makes the document from a session; text and Markdown print it. Nothing here
//! concludes anything. Invariant: what text and Markdown say stands in the document.

mod build;
mod document;
mod sections;
#[cfg(test)]
mod tests;

pub use build::attach_report;
pub use document::*;
pub use sections::{attach_markdown, attach_text};
