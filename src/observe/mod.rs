//! Watches any engine: what foreign servers log, the counters of their machine, later their
//! interfaces.
//!
//! This floor turns what it sees into facts of one form and draws no conclusions; it knows nothing
//! of the engine that this crate carries, so that foreign engines and our own are seen alike.

pub mod logs;
pub mod telemetry;
