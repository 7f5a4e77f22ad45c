//! Runs nodes on devices. Owns buffers, device events and all `unsafe` of the engine.
//!
//! A backend knows operations and bytes; it knows no model and no placement. Invariant: every
//! kernel agrees with its scalar reference within a tolerance that its test names.

pub mod cpu;
