//! Which protocol an address speaks.
//!
//! Asks for what only one kind of server has, the most telling first; reads only. llama-server comes
//! before Ollama and OpenAI's interface, because it also speaks parts of theirs.

use super::http::{Client, ErrorKind, HttpError, Method};
use super::json::text;
use super::llama_server::props_of;
use super::openai::OpenAi;

/// A kind of server, by what it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Ollama's own.
    Ollama,
    /// llama-server's own.
    LlamaServer,
    /// OpenAI's, with vLLM's additions.
    Vllm,
    /// OpenAI's.
    OpenAi,
}

impl Protocol {
    /// As a person reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ollama => "Ollama",
            Self::LlamaServer => "llama-server",
            Self::Vllm => "vLLM",
            Self::OpenAi => "a server with OpenAI's interface",
        }
    }
}

/// What answers at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its version or build; empty where it does not tell.
    pub version: String,
}

/// Asks the server what it is. A server that loads its model is an error of kind
/// [`ErrorKind::Busy`]; one that asks for a key, [`ErrorKind::Unauthorized`].
pub fn detect(client: &Client) -> Result<Detected, HttpError> {
    if let Some(props) = answer(client, "/props")?.as_ref().and_then(props_of) {
        return Ok(Detected { protocol: Protocol::LlamaServer, version: props.build });
    }
    if let Some(version) = version(client, "/api/version")? {
        return Ok(Detected { protocol: Protocol::Ollama, version });
    }
    let models = OpenAi::new(client.clone(), "").models();
    let models = models.map_err(|error| match error.kind {
        ErrorKind::NotFound | ErrorKind::Protocol | ErrorKind::Status(_) => {
            let what = format!("{}: it is no server known here", client.base());
            HttpError::new(ErrorKind::Protocol, what).hint(
                "known are Ollama, llama-server, vLLM and servers with OpenAI's interface; is the \
                 port right?",
            )
        }
        _ => error,
    })?;
    let version = version(client, "/version")?;
    let is_vllm = models.iter().any(|model| model.owned_by == "vllm");
    let protocol = if is_vllm { Protocol::Vllm } else { Protocol::OpenAi };
    Ok(Detected { protocol, version: version.unwrap_or_default() })
}

fn version(client: &Client, path: &str) -> Result<Option<String>, HttpError> {
    Ok(answer(client, path)?.and_then(|value| text(&value, "/version")))
}

/// A document, or nothing where the server has none there.
fn answer(client: &Client, path: &str) -> Result<Option<serde_json::Value>, HttpError> {
    match client.document(Method::Get, path) {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind {
            // A server that loads says so on every path; a gateway without this path may too.
            ErrorKind::Busy if error.what.to_ascii_lowercase().contains("loading") => Err(error),
            ErrorKind::NotFound | ErrorKind::Status(_) | ErrorKind::Protocol | ErrorKind::Busy => {
                Ok(None)
            }
            // Behind a gateway, a path that it does not know may be forbidden; `/v1/models` tells.
            ErrorKind::Unauthorized => Ok(None),
            _ => Err(error),
        },
    }
}
