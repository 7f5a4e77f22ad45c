//! Watches any engine: what foreign servers log and answer, and the counters of their machine.
//!
//! This floor turns what it sees into facts of one form and draws no conclusions; it knows nothing
//! of the engine that this crate carries, so that foreign engines and our own are seen alike.

pub mod attach;
pub mod inspect;
pub mod logs;
pub mod record;
pub mod session;
pub mod telemetry;
