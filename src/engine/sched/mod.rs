//! The scheduler: places weights on devices, nodes on devices, cuts the graph into splits, copies
//! what a split needs, and times every step.
//!
//! It reproduces the passes of ggml's backend scheduler, so that what users see here is what their
//! llama.cpp or Ollama does, and it keeps the cause of every decision as readable text. Splitting
//! ([`split`]), allocating ([`Allocation`]) and computing ([`Scheduler::compute`]) are separate, so
//! that a model can be split from its header without allocating a byte.

mod alloc;
mod assign;
mod cause;
mod compute;
mod cut;
mod dump;
mod facts;
pub mod placement;
mod rows;
mod spread;
mod timer;

#[cfg(test)]
mod tests;

pub use alloc::{Allocation, CopyStep, Home, allocate};
pub use assign::{Assignment, Capabilities, Residence, WeightPart};
pub use cause::Cause;
pub use compute::{ComputeError, ComputeMode, Prepared, Scheduler, UbatchInfo, device_facts};
pub use cut::{Begins, Split, SplitInput, SplitPlan, split};
pub use dump::dump;
pub use facts::plan_fact;
pub use spread::spread;
