//! Runs a model: KV cache, batching, sampling, generation.
//!
//! [`Engine::load`] turns a model file and settings into an engine; [`Engine::decode`] computes
//! logits for a batch, [`Engine::decode_top`] the largest of them; [`Generator`] keeps several requests going
//! at once; [`Planned`] says what an engine would do without making one. Everything that takes time is told
//! to one sink of events. Context overflow is explicit: a request that reaches the end of its context stops
//! there with [`Finish::ContextFull`](crate::base::event::Finish::ContextFull); nothing is shifted out silently.

mod budget;
mod cells;
mod decode;
mod devices;
mod engine;
mod error;
mod fit;
mod generate;
mod options;
mod planned;
mod read_ahead;
mod residents;
mod sampler;

pub use budget::{DeviceBudget, MemoryBudget};
pub use cells::{CellTable, SeqId};
pub use decode::{BatchToken, TopLogits};
pub use devices::{OpenedDevices, open_devices};
pub use engine::{Engine, LoadProgress, PlanSummary};
pub use error::RuntimeError;
pub use generate::{GenerationResult, Generator, Request};
pub use options::{Fit, GpuLayers, RuntimeOptions};
pub use planned::{Planned, Setup};
pub use sampler::{Sampler, SamplerOptions, TOP_MAX};
