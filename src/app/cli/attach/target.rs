//! Which server is meant: told before anything is watched, with what to type where that is open.

use std::fmt::Write;

use crate::app::cli::failure::Failure;
use crate::observe::attach::{
    Client, ErrorKind, FoundServer, HttpError, NotFound, Place, Target, WatchOptions, detect, find,
};

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let failure = Self::new(&error.what);
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Finds the server, and fails where there is none, or nobody can say which one is meant.
pub(super) fn resolve(options: &WatchOptions) -> Result<Place, Failure> {
    let table = (options.processes)();
    let variable = options.ollama_variable.as_deref();
    let place = find(&options.target, &table, variable, None).map_err(|why| not_found(&why))?;
    let client = Client::new(place.address.clone(), options.limits);
    let client = client.with_key(options.key.as_deref())?;
    match detect(&client) {
        Ok(_) => Ok(place),
        // It loads, or is in the middle of something: worth waiting for.
        Err(error) if matches!(error.kind, ErrorKind::Busy | ErrorKind::Timeout) => Ok(place),
        Err(error) if options.target == Target::Here && place.process.is_none() => {
            let failure = not_found(&NotFound::Nothing);
            Err(if error.kind == ErrorKind::Refused { failure } else { error.into() })
        }
        Err(error) => Err(error.into()),
    }
}

fn not_found(why: &NotFound) -> Failure {
    match why {
        NotFound::Nothing => Failure::new("no Ollama, llama-server or vLLM runs on this machine")
            .hint(
                "start one, or give the address of one elsewhere: gpuwhy attach http://HOST:PORT",
            ),
        NotFound::NoProcess(pid) => Failure::new(format!("there is no process {pid}"))
            .hint(format!("for a port, write it with a colon: gpuwhy attach :{pid}")),
        NotFound::NoServer(pid) => {
            Failure::new(format!("process {pid} is no Ollama, llama-server or vLLM"))
                .hint("give the address at which it answers: gpuwhy attach http://HOST:PORT")
        }
        NotFound::Several(all) => {
            let mut message = format!("{} servers run on this machine:", all.len());
            for server in all {
                let _ = write!(message, "\n  {}", line(server));
            }
            Failure::new(message).hint("say which one, as written above")
        }
    }
}

/// A server with the command that attaches to it.
fn line(server: &FoundServer) -> String {
    let model = server.model.as_ref().map(|model| format!(", {model}")).unwrap_or_default();
    let (pid, name) = (server.pid, server.protocol.name());
    format!("gpuwhy attach {pid:<8} # {name} at {}{model}", server.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::attach::{BaseUrl, Protocol};

    #[test]
    fn of_several_servers_each_is_listed_with_its_command() {
        let server = |pid, protocol, model: Option<&str>| FoundServer {
            pid,
            protocol,
            address: BaseUrl::parse(":9000", 1).unwrap(),
            is_listening: true,
            other_network: false,
            model: model.map(str::to_string),
            runners: Vec::new(),
        };
        let all = vec![
            server(7, Protocol::Ollama, None),
            server(4711, Protocol::LlamaServer, Some("/m/a.gguf")),
        ];
        let Failure::Error { message, .. } = not_found(&NotFound::Several(all)) else {
            panic!("an error")
        };
        assert!(message.contains("gpuwhy attach 7 "), "{message}");
        assert!(
            message.contains(
                "gpuwhy attach 4711     # llama-server at http://127.0.0.1:9000, /m/a.gguf"
            )
        );
    }
}
