//! Explains and repairs: facts in, findings and fixes out.
//!
//! Nothing here does input or output, and no clock is read: every answer follows from its arguments.

pub mod diagnose;
