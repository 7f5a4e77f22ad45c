//! `gpuwhy` answers one question: *why is my GPU not doing the work?*
//!
//! The crate is one house with floors; a floor imports only from the floors below it. The map with
//! its invariants is `docs/ARCHITECTURE.md`, and `tests/floors.rs` enforces it from the source.
//!
//! - [`base`]: units, clock, statistics, and the events that everything else exchanges.
//! - [`engine`]: reads a GGUF model, places it on devices, runs it, and times every split and copy.
//! - [`observe`]: watches any engine; reads its logs into facts of one form.
//! - [`advise`]: rules that draw findings from facts, and fixes from findings.
//! - [`app`]: the command line; the only floor that prints.

pub mod advise;
pub mod app;
pub mod base;
pub mod engine;
pub mod observe;
