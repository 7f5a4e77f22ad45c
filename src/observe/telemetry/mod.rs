//! Counters of the machine while an engine runs: the host's, a watched process's, the GPUs'.
//!
//! Only reading: nothing here judges a value, changes a setting or sends a request. Invariant: what
//! cannot be read is told as a [`crate::base::event::Absent`] with its reason, never as a failure.

mod beat;
pub mod host;
pub mod nvml;
mod readings;
mod sampler;
mod unread;

pub use beat::{Beat, thread_cpu_ns};
pub use readings::Readings;
pub use sampler::{Sampler, SamplerOptions};
pub use unread::Unread;
