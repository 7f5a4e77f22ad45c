//! The CPU backend: instruction set dispatch, a thread pool of its own, and the kernels.
//!
//! All threads of the pool run every kernel together (single program, multiple data): each takes
//! its share of rows by its [`Worker`] index, and a barrier stands between nodes. Kernels are
//! `unsafe fn`s over [`TensorRef`]s; the caller vouches for the memory behind them.

mod device;
mod executor;
pub mod isa;
pub mod kernels;
pub mod limits;
pub mod pool;
mod steps;
mod threads;
mod view;

pub use device::CpuDevice;
pub(super) use executor::{Executor, host_supports};
pub use isa::Isa;
pub use pool::{ThreadPool, Worker};
pub use threads::{ThreadChoice, Threads, allowed_processors, default_threads, oversubscribed};
pub use view::TensorRef;
