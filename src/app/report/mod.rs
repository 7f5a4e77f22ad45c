//! The report of a run: what ran where, why, and how long it took.
//!
//! [`Accumulator`] sums up events while they happen, [`Report`] is the document that follows from
//! the sums and from what the engine says about itself, and `text` and `markdown` print it. Nothing
//! here runs a model or draws a conclusion. Invariant: every time in the report is a sum of spans,
//! and what no span covers is shown as unaccounted.

mod accumulate;
pub mod attach;
pub mod check;
mod contention;
mod cuts;
mod doctor;
mod document;
mod facts;
mod findings;
mod headline;
mod lines;
pub mod log;
mod markdown;
mod planned;
mod process;
mod section;
mod sections;
mod session;
mod stalled;
mod stalls;
mod table;
mod text;
mod timing;

#[cfg(test)]
mod tests;

pub use accumulate::Accumulator;
pub use contention::contention;
pub use doctor::{DoctorFact, DoctorReport, doctor_markdown, doctor_report, doctor_text};
pub use document::*;
pub use facts::engine_facts;
pub(crate) use facts::{model_facts, type_bytes};
pub(crate) use headline::count;
pub(crate) use lines::load_lines;
pub use markdown::markdown;
pub use planned::plan_report;
pub use process::{peak_rss_bytes, rss_bytes};
pub use session::session_report;
pub(crate) use session::session_timing_lines;
pub use table::{Style, Table};
pub use text::text;
pub use timing::{Totals, build};
