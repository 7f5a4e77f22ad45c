//! Verdicts on samples: regressed, improved, unchanged, or why that cannot be told.
//!
//! [`Judge`] is what a command needs: it says while samples come which tests need more, and at the
//! end a [`Comparison`]. It runs nothing and reads no clock; the same samples give the same
//! verdict. The method, its assumptions and its error rates are described in docs/check-method.md.
//! Invariant: no verdict without its numbers, and nothing set aside without being counted.

mod attribute;
mod baseline;
pub mod bootstrap;
pub mod conditions;
mod evidence;
pub mod holm;
mod judge;
pub mod mann_whitney;
pub mod signed_rank;
pub mod store;
mod structure;
mod verdict;

pub use attribute::{Attribution, PartChange, attribute};
pub use baseline::{BASELINE_SCHEMA, Baseline, Session as StoredSession, TestSession, differences};
pub use conditions::Limits;
pub use judge::{Judge, Rules, Session};
pub use structure::{Effect, StructureChange, structure_changes};
pub use verdict::{Comparison, MetricVerdict, Reason, TestVerdict, Verdict, together};
