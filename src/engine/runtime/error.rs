//! What can go wrong between a model file and its tokens, with a hint for the person.

use crate::engine::backend::OpenCudaError;
use crate::engine::gguf::GgufError;
use crate::engine::graph::GraphError;
use crate::engine::model::ModelError;
use crate::engine::sched::ComputeError;
use crate::engine::sched::placement::PlacementError;
use crate::engine::tokenizer::TokenizerError;

use super::budget::MemoryBudget;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The file is no valid GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file holds no model that the engine can run.
    #[error("{file}: {source}")]
    Model {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: ModelError,
    },
    /// The file's tokenizer cannot be used.
    #[error("{file}: {source}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: TokenizerError,
    },
    /// A setting makes no sense.
    #[error("{setting}: {problem}")]
    Setting {
        /// The flag.
        setting: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// A GPU that was asked for cannot be used.
    #[error("-dev: {0}")]
    Cuda(#[from] OpenCudaError),
    /// A placement setting names what is not there.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The architecture built an invalid graph: a fault of the engine.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A device failed or has too little memory.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// The model does not fit.
    #[error("{source}\n{budget}")]
    DoesNotFit {
        /// Which buffer on which device lacked how many bytes.
        #[source]
        source: ComputeError,
        /// What was wanted on every device.
        budget: Box<MemoryBudget>,
        /// What would fit.
        advice: String,
    },
    /// A weight could not be read from its file.
    #[error("{file}: cannot read the weights: {source}")]
    Weights {
        /// The file.
        file: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// More tokens than the context holds.
    #[error("the KV cache is full: {wanted} more tokens do not fit into {n_ctx} ({used} in use)")]
    CacheFull {
        /// Tokens that wanted in.
        wanted: usize,
        /// Cells in use.
        used: usize,
        /// Context length.
        n_ctx: usize,
    },
    /// A request that can never run.
    #[error("request {id}: {problem}")]
    Request {
        /// Its number.
        id: usize,
        /// What is wrong.
        problem: String,
    },
}

impl RuntimeError {
    /// What the person can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Gguf(e) => e.hint().map(str::to_string),
            Self::Tokenizer { source, .. } => source.hint().map(str::to_string),
            Self::Cuda(e) => e.hint().map(str::to_string),
            Self::Compute(ComputeError::Device(e)) => e.hint().map(str::to_string),
            Self::DoesNotFit { advice, .. } => Some(advice.clone()),
            Self::CacheFull { .. } => Some("a larger context (-c) holds more tokens".to_string()),
            Self::Request { .. } => Some("shorten the prompt or raise -c".to_string()),
            _ => None,
        }
    }
}
