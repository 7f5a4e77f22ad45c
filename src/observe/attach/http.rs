//! A small client for the interfaces of inference servers, over `ureq`.
//!
//! Adds what measuring and watching need and a general client does not have: limits on time and size
//! for everything, errors that say what to do, and streams with the time of every piece. It follows no
//! redirects, so that a key goes nowhere else, and uses no proxy for addresses of this machine.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::json;
use super::stream::{Framing, Stream};
use super::url::BaseUrl;
use crate::base::clock::now_ns;

/// What kind of failure an [`HttpError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The address cannot be read.
    BadAddress,
    /// No such host.
    HostNotFound,
    /// Nothing listens there.
    Refused,
    /// No answer, or no end of it, in time.
    Timeout,
    /// The server ended the connection in the middle.
    Disconnected,
    /// No secure connection came about.
    Tls,
    /// 401 or 403.
    Unauthorized,
    /// 404: no such path, or no such model.
    NotFound,
    /// 503: the server loads its model, or has no room for a request; also 429.
    Busy,
    /// Any other status that is not success; also an error told in the middle of a stream.
    Status(u16),
    /// It answered, but not as this protocol's servers do.
    Protocol,
    /// It sends more than any answer of this protocol holds.
    TooLarge,
    /// Anything else that the system says.
    Other,
}

/// Why a request had no good end.
#[derive(Clone, Debug, Error)]
#[error("{what}")]
pub struct HttpError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What went wrong, with the server's address.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl HttpError {
    pub(super) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An answer in which something is missing or of the wrong form.
    pub(super) fn protocol(whose: &dyn fmt::Display, what: &str) -> Self {
        Self::new(ErrorKind::Protocol, format!("{whose}: {what}"))
            .hint("is this the right address, and the right kind of server?")
    }

    /// Whether the same request may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Busy | ErrorKind::Disconnected)
    }

    pub(super) fn of_io(whose: &str, error: io::Error) -> Self {
        Self::of_ureq(whose, ureq::Error::from(error))
    }

    fn of_ureq(whose: &str, error: ureq::Error) -> Self {
        use io::ErrorKind as Io;
        use ureq::Error as E;
        let with =
            |kind, what: &str, hint: &str| Self::new(kind, format!("{whose}: {what}")).hint(hint);
        let refused = || {
            with(ErrorKind::Refused, "nothing listens there", "start the server, or check the port")
        };
        let tls = |error: &E| {
            with(
                ErrorKind::Tls,
                &format!("no secure connection: {error}"),
                "a server that speaks plain HTTP needs http:// in its address; a certificate of \
                 one's own is not accepted",
            )
        };
        match error {
            E::ConnectionFailed => refused(),
            E::Io(e) if e.kind() == Io::ConnectionRefused => refused(),
            E::Io(e) if matches!(e.kind(), Io::TimedOut | Io::WouldBlock) => Self::timeout(whose),
            E::Timeout(_) => Self::timeout(whose),
            E::Io(e)
                if matches!(
                    e.kind(),
                    Io::UnexpectedEof
                        | Io::ConnectionReset
                        | Io::ConnectionAborted
                        | Io::BrokenPipe
                ) =>
            {
                with(
                    ErrorKind::Disconnected,
                    "the connection ended in the middle",
                    "see the server's log: it may have crashed or run out of memory",
                )
            }
            E::HostNotFound => with(ErrorKind::HostNotFound, "no such host", "check the name"),
            E::Tls(_) | E::Rustls(_) | E::Pem(_) => tls(&error),
            // What goes wrong in the middle of a handshake comes wrapped.
            E::Io(ref e) if e.kind() == Io::InvalidData && whose.starts_with("https:") => {
                tls(&error)
            }
            E::Protocol(_) | E::Http(_) => with(
                ErrorKind::Protocol,
                &format!("what it answers is not HTTP: {error}"),
                "is this the right port? A server behind TLS needs https:// in its address",
            ),
            other => Self::new(ErrorKind::Other, format!("{whose}: {other}")),
        }
    }

    fn timeout(whose: &str) -> Self {
        Self::new(ErrorKind::Timeout, format!("{whose}: no answer in time"))
            .hint("is the server stuck, or does it load a large model? Then try again later")
    }
}

/// How long and how large an answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection to come about.
    pub connect: Duration,
    /// For a question that costs the server nothing.
    pub question: Duration,
    /// Between two pieces of a generation; loading a model and reading a prompt are one such gap.
    pub silence: Duration,
    /// For a whole generation.
    pub generation: Duration,
    /// Bytes of a document.
    pub document_bytes: u64,
    /// Bytes of a stream.
    pub stream_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            question: Duration::from_secs(20),
            silence: Duration::from_mins(5),
            generation: Duration::from_mins(30),
            document_bytes: 16 << 20,
            stream_bytes: 256 << 20,
        }
    }
}

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub enum Method<'a> {
    /// Without a document.
    Get,
    /// With a document.
    Post(&'a Value),
}

/// One server's address, with the key for it.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: BaseUrl,
    authorization: Option<String>,
    limits: Limits,
}

impl fmt::Debug for Client {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at `base`. Connects to nothing yet.
    pub fn new(base: BaseUrl, limits: Limits) -> Self {
        let mut config = Agent::config_builder()
            .user_agent(concat!("gpuwhy/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect));
        if base.is_local() {
            config = config.proxy(None);
        }
        Self { agent: config.build().into(), base, authorization: None, limits }
    }

    /// With a key that servers behind one ask for (`OPENAI_API_KEY`, `llama-server --api-key`). A blank
    /// one is none. It is sent to this server alone and printed nowhere.
    pub fn with_key(mut self, key: Option<&str>) -> Result<Self, HttpError> {
        let key = key.map(str::trim).filter(|key| !key.is_empty());
        if key.is_some_and(|key| !key.chars().all(|c| c.is_ascii_graphic())) {
            let what = format!("{}: the key for it holds a character that no key has", self.base);
            return Err(HttpError::new(ErrorKind::Unauthorized, what)
                .hint("check the variable or file that it comes from"));
        }
        self.authorization = key.map(|key| format!("Bearer {key}"));
        Ok(self)
    }

    /// The server's address.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Asks for a JSON document.
    pub fn document(&self, method: Method<'_>, path: &str) -> Result<Value, HttpError> {
        let text = self.text(method, path)?;
        serde_json::from_str(&text).map_err(|_| {
            HttpError::protocol(
                &self.base,
                &format!("what it sends for {path} is no JSON document"),
            )
        })
    }

    /// Asks for a text.
    pub fn text(&self, method: Method<'_>, path: &str) -> Result<String, HttpError> {
        self.text_within(method, path, self.limits.question)
    }

    /// The same for a request that may take as long as loading a model does.
    pub(super) fn slow_document(&self, method: Method<'_>, path: &str) -> Result<Value, HttpError> {
        let text = self.text_within(method, path, self.limits.generation)?;
        serde_json::from_str(&text)
            .map_err(|_| HttpError::protocol(&self.base, &format!("no JSON document for {path}")))
    }

    fn text_within(
        &self,
        method: Method<'_>,
        path: &str,
        time: Duration,
    ) -> Result<String, HttpError> {
        let response = self.send(method, path, time, time)?;
        let mut response = self.checked(response, path)?;
        let bytes = self.body(&mut response, self.limits.document_bytes)?;
        String::from_utf8(bytes)
            .map_err(|_| HttpError::protocol(&self.base, &format!("{path} is no UTF-8 text")))
    }

    /// Sends a document and reads the answer as it comes. Returns the stream with the time at which
    /// sending began.
    pub fn stream(
        &self,
        path: &str,
        body: &Value,
        framing: Framing,
    ) -> Result<(Stream, u64), HttpError> {
        let sent_ns = now_ns();
        let limits = &self.limits;
        let response = self.send(Method::Post(body), path, limits.generation, limits.silence)?;
        let response = self.checked(response, path)?;
        let reader: Box<dyn Read> = Box::new(response.into_body().into_reader());
        let whose = self.base.to_string();
        Ok((Stream::new(reader, framing, now_ns, whose, limits.stream_bytes), sent_ns))
    }

    fn send(
        &self,
        method: Method<'_>,
        path: &str,
        total: Duration,
        silence: Duration,
    ) -> Result<Response<Body>, HttpError> {
        let url = self.base.join(path);
        let key = self.authorization.as_deref();
        let result = match method {
            Method::Get => {
                let mut request = self.agent.get(url);
                if let Some(key) = key {
                    request = request.header("Authorization", key);
                }
                let request = request.config().timeout_global(Some(total));
                request.timeout_per_read(Some(silence)).build().call()
            }
            Method::Post(body) => {
                let mut request = self.agent.post(url).header("Content-Type", "application/json");
                if let Some(key) = key {
                    request = request.header("Authorization", key);
                }
                let request = request.config().timeout_global(Some(total));
                request.timeout_per_read(Some(silence)).build().send(body.to_string())
            }
        };
        result.map_err(|error| HttpError::of_ureq(&self.base.to_string(), error))
    }

    /// An error for every status but success, with what the server says about it.
    fn checked(
        &self,
        mut response: Response<Body>,
        path: &str,
    ) -> Result<Response<Body>, HttpError> {
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        // A server that breaks off while it tells of its error has still told the status.
        let body = self.body(&mut response, 64 << 10).unwrap_or_default();
        let said = said(&String::from_utf8_lossy(&body));
        let colon = if said.is_empty() { "" } else { ": " };
        let (kind, hint) = match status {
            401 | 403 => (ErrorKind::Unauthorized, "give the server's key (OPENAI_API_KEY)"),
            404 => (ErrorKind::NotFound, "check the model's name, and that this is such a server"),
            429 => (ErrorKind::Busy, "the server has too many requests; try again later"),
            503 if said.to_ascii_lowercase().contains("loading") => {
                (ErrorKind::Busy, "the server loads its model; try again in a moment")
            }
            503 => (ErrorKind::Busy, "the server takes no requests now; try again later"),
            300..=399 => (ErrorKind::Status(status), "it points elsewhere: give that address"),
            _ => (ErrorKind::Status(status), "see the server's log"),
        };
        let what = format!("{}: {path} was answered with {status}{colon}{said}", self.base);
        Err(HttpError::new(kind, what).hint(hint))
    }

    fn body(&self, response: &mut Response<Body>, bytes_max: u64) -> Result<Vec<u8>, HttpError> {
        let whose = self.base.to_string();
        let mut bytes = Vec::new();
        let mut reader = response.body_mut().as_reader().take(bytes_max + 1);
        reader.read_to_end(&mut bytes).map_err(|error| HttpError::of_io(&whose, error))?;
        if bytes.len() as u64 > bytes_max {
            let what = format!("{whose}: sends more than any answer of an inference server holds");
            return Err(HttpError::new(ErrorKind::TooLarge, what));
        }
        Ok(bytes)
    }

    /// An answer that ended before the server said that it is complete.
    pub(super) fn cut_off(&self) -> HttpError {
        HttpError::of_io(&self.base.to_string(), io::ErrorKind::UnexpectedEof.into())
    }

    /// An error that a server tells inside of an answer with status 200.
    pub(super) fn told(&self, said: &str) -> HttpError {
        let said = printable(said);
        HttpError::new(ErrorKind::Status(200), format!("{}: {said}", self.base))
            .hint("see the server's log")
    }
}

/// What a server says about an error: `error.message` (llama-server, vLLM), `error` (Ollama),
/// `detail` or `message`, else the beginning of the text if it is one.
fn said(body: &str) -> String {
    if let Ok(value) = serde_json::from_str::<Value>(body) {
        let paths = ["/error/message", "/error", "/message", "/detail"];
        return printable(&paths.iter().find_map(|p| json::text(&value, p)).unwrap_or_default());
    }
    if body.trim_start().starts_with('<') { String::new() } else { printable(body) }
}

/// One short line without control characters: it will be shown in a terminal.
fn printable(text: &str) -> String {
    let clean: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    json::cut(&clean, 300).to_string()
}

/// What a server says about an error in a document that it sent as a success.
pub(super) fn error_in(value: &Value) -> Option<String> {
    let error = value.get("error").filter(|error| !error.is_null())?;
    Some(said(&serde_json::json!({ "error": error }).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_found_in_all_their_forms() {
        assert_eq!(said(r#"{"error":{"code":503,"message":"Loading model"}}"#), "Loading model");
        assert_eq!(said(r#"{"error":"model 'x' not found"}"#), "model 'x' not found");
        assert_eq!(said(r#"{"object":"error","message":"too long"}"#), "too long");
        assert_eq!(said("<html>nginx</html>"), "");
        assert_eq!(said("plain\u{1b}[31m text\n"), "plain [31m text");
        assert_eq!(said(&"x".repeat(1000)).len(), 300);
    }

    #[test]
    fn a_key_is_not_shown_and_cannot_forge_headers() {
        let client = || Client::new(BaseUrl::parse("box", 1).unwrap(), Limits::default());
        let with_key = client().with_key(Some("secret-key")).unwrap();
        assert!(!format!("{with_key:?}").contains("secret"));
        let error = client().with_key(Some("a\r\nX: y")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthorized);
        assert!(client().with_key(Some(" ")).unwrap().authorization.is_none());
    }
}
