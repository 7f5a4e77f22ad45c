//! The inference runtime: from a GGUF file to tokens, with a timer at every split and copy.
//!
//! Modules import only modules listed above them here. The engine knows nothing of foreign
//! engines, of rules, or of how its results are shown.

pub mod backend;
pub mod gguf;
pub mod graph;
pub mod model;
pub mod runtime;
pub mod sched;
pub mod tensor;
pub mod tokenizer;
