//! Explains and repairs: facts in, findings and fixes out.
//!
//! [`diagnose`] does no input or output and reads no clock: every answer follows from its arguments.
//! [`measure`] runs things, and says what came of it.

pub mod diagnose;
pub mod measure;
pub mod regress;
