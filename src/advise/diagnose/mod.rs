//! Facts go in, findings come out: what is wrong, what only looks wrong, and what would change it.
//!
//! One file per rule in `rules/`; `registry` lists them. A rule is a pure function of [`Facts`]. It
//! rests on the mechanism (sizes, counts, states), not on the words of one case. Invariants: the
//! first finding is the primary cause; what follows from another finding is never reported as a
//! cause of its own; a rule that cannot tell says what would settle it.

mod changes;
mod facts;
mod finding;
pub mod knobs;
mod rank;
mod registry;
mod remedy;
mod room;
mod rule;
mod rules;
#[cfg(test)]
mod scenes;
mod settle;

pub use changes::{Change, changes};
pub use facts::{
    Cause, DepthLine, Facts, Host, LoadFacts, MemorySpeed, Oom, OomCause, OomPart, Placement,
    Share, Shortfall, Sizes, WhatIf,
};
pub use finding::{Evidence, Finding, Fix, FixTarget, Impact, Kind, Place, Severity};
pub use knobs::{Form, forms};
pub use rank::{Diagnosis, diagnose};
pub use registry::RULES;
pub use rule::{Doc, NeedMore, Rule, Verdict};
