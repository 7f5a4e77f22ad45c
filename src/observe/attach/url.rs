//! Addresses of servers, as people write them, in one form.
//!
//! Not a URL library: it knows what stands in `OLLAMA_HOST`, on command lines and in the settings of
//! OpenAI clients. Invariant: what it yields has a scheme, a host and a port, names no user, and holds
//! no character that could end a header line.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::http::{ErrorKind, HttpError};

/// Where Ollama listens when nothing else is said.
pub const OLLAMA_PORT: u16 = 11434;

/// The address of a server: `http://127.0.0.1:8080`, with a path in front of its own where a proxy
/// adds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    tls: bool,
    host: String,
    port: u16,
    /// Empty, or `/prefix` without a slash at its end.
    path: String,
}

impl BaseUrl {
    /// Reads an address. All of it but the host may be missing: `localhost`, `:8080`, `[::1]:8080`,
    /// `http://server/prefix/`, `https://server/v1`. An address that servers listen on but nobody can
    /// connect to (`0.0.0.0`, `[::]`) becomes the loopback address. Without a scheme, a missing port is
    /// `port_default`; with one, it is the scheme's own. A `/v1` at the end is dropped, as every client
    /// here adds its own.
    pub fn parse(text: &str, port_default: u16) -> Result<Self, HttpError> {
        let text = text.trim().trim_matches(['"', '\'']).trim();
        let wrong = |what: &str| {
            HttpError::new(ErrorKind::BadAddress, format!("{text:?} is no address: {what}"))
                .hint("write it like http://127.0.0.1:8080 or https://server.example/prefix")
        };
        if text.len() > 2048 || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(wrong("it holds blanks or is too long"));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let (tls, port_default) = match scheme.as_deref() {
            None => (false, port_default),
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            Some(_) => return Err(wrong("only http and https can be spoken")),
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if path.contains(['?', '#']) {
            return Err(wrong("a query has no place in it"));
        }
        if authority.contains('@') {
            return Err(wrong("a user's name in it is not supported; give a key instead"));
        }
        let (host, port) =
            host_and_port(authority).ok_or_else(|| wrong("host or port is wrong"))?;
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/').to_string();
        Ok(Self { tls, host: reachable(host), port: port.unwrap_or(port_default), path })
    }

    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The port that it names or implies.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of one of the server's own paths, which begins with a slash.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{self}{path}")
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Where this user's Ollama is: `OLLAMA_HOST`'s value if there is one, else its default.
pub fn ollama_host(variable: Option<&str>) -> Result<BaseUrl, HttpError> {
    BaseUrl::parse(variable.unwrap_or_default(), OLLAMA_PORT)
}

/// `host`, `host:port`, `:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p != 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = match rest.strip_prefix(':') {
            Some(text) => Some(port(text)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        return Some((format!("[{address}]"), port));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((format!("[{address}]"), None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (text, None),
    };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    host.chars().all(known).then(|| (host.to_string(), port))
}

/// The host to connect to for one to listen on.
fn reachable(host: String) -> String {
    match host.as_str() {
        "" | "0.0.0.0" => "127.0.0.1".into(),
        "[::]" => "[::1]".into(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_ollama_host_is_understood() {
        for (text, url) in [
            ("", "http://127.0.0.1:11434"),
            ("localhost", "http://localhost:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:8000", "http://127.0.0.1:8000"),
            (":8000", "http://127.0.0.1:8000"),
            ("[::]:8000", "http://[::1]:8000"),
            ("::1", "http://[::1]:11434"),
            ("[fe80::1]", "http://[fe80::1]:11434"),
            ("http://box", "http://box:80"),
            ("HTTPS://box/", "https://box:443"),
            ("https://box.example:8443/llm/v1/", "https://box.example:8443/llm"),
            (" \"10.0.0.7:1\" ", "http://10.0.0.7:1"),
        ] {
            assert_eq!(ollama_host(Some(text)).unwrap().to_string(), url, "{text:?}");
        }
        assert_eq!(ollama_host(None).unwrap().port(), OLLAMA_PORT);
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_hint() {
        for text in [
            "ftp://box",
            "http://u:p@box",
            "box:port",
            "box:0",
            "box:70000",
            "[::1",
            "[::1]x",
            "a b",
            "box\r\nHost: x",
            "http://box/?a=1",
            "bö x",
            "[no]:1",
        ] {
            let error = BaseUrl::parse(text, 80).unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadAddress, "{text:?}");
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        let local = |text: &str| BaseUrl::parse(text, 1).unwrap().is_local();
        assert!(local("localhost") && local("127.0.0.2") && local("[::1]:4") && local("0.0.0.0"));
        assert!(!local("192.168.0.1") && !local("box"));
    }
}
