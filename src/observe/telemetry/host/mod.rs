//! What the operating system counts, read from Linux's `/proc` and `/sys`.
//!
//! The files' texts are read by pure functions; only [`Roots`] and what is built on it touch the
//! file system, under a root that tests choose. Other systems have no such files, and then every
//! reading is absent.

pub mod cgroup;
mod contention;
pub mod family;
pub mod machine;
pub mod process;
pub mod processors;
mod reader;
mod roots;
pub mod tree;
mod watched;

pub use contention::{ProcessorCounters, ProcessorShares};
pub use reader::HostReader;
pub use roots::Roots;
pub use watched::ProcessReader;
