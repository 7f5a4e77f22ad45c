//! Inference servers that run already: Ollama, llama-server, vLLM and what speaks as OpenAI's interface
//! does. Clients for them, and a watcher that makes events of what they tell.
//!
//! [`discover`] finds servers among the processes of this machine and [`detect`] says which protocol an
//! address speaks; [`Ollama`], [`LlamaServer`] and [`OpenAi`] ask.
//! What costs tokens is only asked for by name: [`Generate`], and Ollama's loading and unloading;
//! everything else reads, the [`Watcher`] too. Nothing here judges. Invariant: whatever a server sends,
//! a call ends with a value or an [`HttpError`], in bounded time and memory; numbers that no server
//! can mean (negative, not finite, beyond 2^53) are absent.

mod detect;
mod discover;
mod generation;
mod http;
mod json;
mod llama_server;
mod log_follow;
mod log_place;
mod ollama;
mod openai;
mod processes;
mod prometheus;
mod stream;
mod target;
mod url;
mod watch;

pub use detect::{Detected, Protocol, detect};
pub use discover::{FoundServer, Runner, discover};
pub use generation::{Arrival, Ask, Generate, Generation, Prompt, ServerTimes};
pub use http::{Client, ErrorKind, HttpError, Limits, Method};
pub use llama_server::{LlamaServer, ModelMeta, Props, Slot};
pub use log_follow::LogFollower;
pub use log_place::{LogPlace, log_place};
pub use ollama::{ModelDetails, Ollama, RunningModel, Shown};
pub use openai::{ListedModel, OpenAi};
pub use processes::{ProcessInfo, process_table};
pub use prometheus::{Exposition, Series};
pub use stream::{Event, Framing, Stream};
pub use target::{NotFound, Place, Target, find};
pub use url::{BaseUrl, OLLAMA_PORT, ollama_host};
pub use watch::{LogChoice, ProcessSource, WatchOptions, Watcher};
