//! Servers over HTTP as targets: Ollama, llama-server, and what speaks as OpenAI's interface does.
//!
//! [`connect`] finds out what answers at an address. A sample sends requests and watches them. What is
//! measured by whose clock:
//!
//! - *Time to first token* and *inter-token latency* by ours, because that is what a client waits:
//!   network, queue and all. A request has a connection of its own, whose making is in that time.
//! - *Prompt and decode speed* by the server's own clock where it tells (Ollama and llama-server do),
//!   otherwise by ours, from sending to the first piece and from the first piece to the last.
//!   [`TargetFacts::settings`] says which, as `timed_by`. Tokens are always the server's count.
//! - *Throughput* by ours, from the first request's start to the last one's end.
//! - *Load time* by ours, of Ollama alone: it is told to unload the model and then to load it.
//!   llama-server and the others cannot be told to, so that a test that asks for it lacks that metric.
//!
//! Servers keep what they read of earlier prompts. So every prompt begins with words that no other one
//! began with (see `prompts`), and llama-server is told not to use what it kept. A depth is a prompt of
//! that length which llama-server is asked to read and keep before the timed request; for other servers
//! it is part of the timed request's prompt, and nothing but decoding is measured then.
//!
//! Invariant: every request that had a good end is in a sample; one that ended early or read less than
//! it was given is asked again or an error, never a slower or faster sample.

mod fleet;
mod llama_server;
mod ollama;
mod openai;
mod prompts;
mod readings;
mod text;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::advise::measure::{MeasureError, Target, TargetFacts};
use crate::observe::attach::{
    BaseUrl, Client, ErrorKind, HttpError, Limits, LlamaServer, OLLAMA_PORT, Ollama, OpenAi,
    Protocol, detect,
};

use self::prompts::Prompts;

/// Where a server without a port in its address is looked for, unless it is Ollama.
const PORT_DEFAULT: u16 = 8080;

/// What [`connect`] may be told.
#[derive(Clone, Default)]
pub struct HttpOptions {
    /// How messages name it; its address where nothing is said.
    pub name: Option<String>,
    /// The model; may be missing where the server has one alone, or has one alone loaded.
    pub model: Option<String>,
    /// The key that the server asks for.
    pub key: Option<String>,
    /// What it speaks; asked of the server where nothing is said.
    pub protocol: Option<Protocol>,
    /// Tokens of context to ask Ollama for (`num_ctx`).
    pub context_tokens: Option<u32>,
    /// How long and how large an answer may be.
    pub limits: Limits,
    /// Begins every prompt, so that no server has kept it from an earlier run; taken from the clock
    /// where nothing is said.
    pub salt: Option<u64>,
}

impl std::fmt::Debug for HttpOptions {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpOptions")
            .field("name", &self.name)
            .field("model", &self.model)
            .field("protocol", &self.protocol)
            .field("context_tokens", &self.context_tokens)
            .finish_non_exhaustive()
    }
}

/// Connects to the server at an address, in any form that [`BaseUrl::parse`] takes. Asks it what it
/// is and what models it has; costs no tokens.
pub fn connect(address: &str, options: &HttpOptions) -> Result<Box<dyn Target>, MeasureError> {
    let port = match options.protocol {
        Some(Protocol::Ollama) => OLLAMA_PORT,
        _ => PORT_DEFAULT,
    };
    let base = BaseUrl::parse(address, port)?;
    let name = options.name.clone().unwrap_or_else(|| base.to_string());
    let client = Client::new(base, options.limits).with_key(options.key.as_deref())?;
    let (protocol, version) = match (options.protocol, detect(&client)) {
        (None, found) => found.map(|found| (found.protocol, found.version))?,
        // llama-server and Ollama also speak OpenAI's interface, and a gateway may hide what they are.
        (Some(said), Ok(found)) => (said, found.version),
        (Some(said), Err(error)) if error.kind == ErrorKind::Protocol => (said, String::new()),
        (Some(_), Err(error)) => return Err(error.into()),
    };
    let salt = options.salt.unwrap_or_else(salt_of_clock);
    let prompts = Prompts::new(salt);
    let model = options.model.as_deref();
    Ok(match protocol {
        Protocol::LlamaServer => {
            let server = LlamaServer::new(client);
            Box::new(llama_server::LlamaServerTarget::new(name, server, prompts)?)
        }
        Protocol::Ollama => {
            let model = choose(&client, model, &loaded_or_installed(&client)?)?;
            let server = Ollama::new(client, &model).with_context(options.context_tokens);
            Box::new(ollama::OllamaTarget::new(name, server, version, prompts))
        }
        Protocol::Vllm | Protocol::OpenAi => {
            let listed = OpenAi::new(client.clone(), "").models()?;
            let names: Vec<String> = listed.iter().map(|m| m.id.clone()).collect();
            let model = choose(&client, model, &names)?;
            let listed = listed.into_iter().find(|m| m.id == model).unwrap_or_default();
            let is_vllm = protocol == Protocol::Vllm;
            let knows_more = is_vllm || listed.owned_by == "llamacpp";
            let server = OpenAi::new(client, &model).with_extensions(knows_more);
            Box::new(openai::OpenAiTarget::new(name, server, is_vllm, version, listed, prompts))
        }
    })
}

/// A number that no earlier run had.
fn salt_of_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Ollama's loaded models if there are any, else all that it has.
fn loaded_or_installed(client: &Client) -> Result<Vec<String>, HttpError> {
    let ollama = Ollama::new(client.clone(), "");
    let loaded: Vec<String> = ollama.running()?.into_iter().map(|m| m.name).collect();
    if loaded.is_empty() { ollama.installed() } else { Ok(loaded) }
}

/// The model that was named, or the only one there is.
fn choose(client: &Client, named: Option<&str>, all: &[String]) -> Result<String, MeasureError> {
    match (named, all) {
        (Some(name), _) => Ok(name.to_string()),
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(MeasureError::new(format!("{}: it has no model", client.base()))
            .hint("have it load one, or name one")),
        (None, several) => {
            let some: Vec<&str> = several.iter().take(8).map(String::as_str).collect();
            let what = format!("{}: it has {} models", client.base(), several.len());
            Err(MeasureError::new(what).hint(format!("name one of them: {}", some.join(", "))))
        }
    }
}

impl From<HttpError> for MeasureError {
    fn from(error: HttpError) -> Self {
        let transient = error.is_transient();
        Self { what: error.what, hint: error.hint, transient }
    }
}

/// What is known of any server before it is asked.
fn facts_of(client: &Client, engine: &str, version: &str, model: &str) -> TargetFacts {
    let mut facts = TargetFacts {
        engine: engine.to_string(),
        engine_version: version.to_string(),
        model: model.to_string(),
        ..TargetFacts::default()
    };
    // Of another machine nothing is known but its name; of this one, the caller knows more.
    if !client.base().is_local() {
        facts.machine.insert("server".into(), client.base().to_string());
    }
    facts
}
