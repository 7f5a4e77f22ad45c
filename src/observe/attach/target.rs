//! Which server is meant, and where it is now.
//!
//! Pure: processes and the user's `OLLAMA_HOST` are arguments, and nothing is asked of any server. The
//! same question is asked again when a server is gone, so that one that was started anew, with another
//! process id or port, is found again. Invariant: of several servers none is taken by guess.

use super::detect::Protocol;
use super::discover::{FoundServer, discover};
use super::http::HttpError;
use super::processes::ProcessInfo;
use super::url::{BaseUrl, ollama_host};

/// Which server is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one that runs on this machine.
    Here,
    /// The one at an address, here or elsewhere.
    Url(BaseUrl),
    /// The one that is this process, or for which it computes.
    Pid(u32),
}

impl Target {
    /// Reads what a person types: nothing, a process id, or an address.
    pub fn parse(text: &str) -> Result<Self, HttpError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Here);
        }
        match text.parse() {
            Ok(pid) => Ok(Self::Pid(pid)),
            Err(_) => BaseUrl::parse(text, PORT_DEFAULT).map(Self::Url),
        }
    }
}

/// Where a server without a port in its address is looked for: llama-server's port.
const PORT_DEFAULT: u16 = 8080;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it should answer.
    pub address: BaseUrl,
    /// Its process with what computes for it, where it runs here and the system tells.
    pub process: Option<FoundServer>,
}

/// Why no server can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// None of the known kinds runs here.
    Nothing,
    /// There is no such process.
    NoProcess(u32),
    /// It is a process, but no server of a known kind.
    NoServer(u32),
    /// There are several, and nobody said which.
    Several(Vec<FoundServer>),
}

/// Finds the target. `before` is where it was, if it was found before.
pub fn find(
    target: &Target,
    table: &[ProcessInfo],
    ollama_variable: Option<&str>,
    before: Option<&Place>,
) -> Result<Place, NotFound> {
    let all = discover(table);
    match (target, before) {
        (Target::Url(address), _) => Ok(at(address, table, all)),
        (Target::Pid(pid), None) => of_process(*pid, table, all),
        (Target::Pid(_), Some(before)) => again(before, all),
        (Target::Here, Some(before)) if before.process.is_some() => again(before, all),
        (Target::Here, Some(before)) => Ok(at(&before.address, table, all)),
        (Target::Here, None) => here(all, table, ollama_variable),
    }
}

/// The server at an address, with its process if that is on this machine.
fn at(address: &BaseUrl, table: &[ProcessInfo], all: Vec<FoundServer>) -> Place {
    let mut place = Place { address: address.clone(), process: None };
    if !address.is_local() {
        return place;
    }
    let port = address.port();
    let known = all.into_iter().find(|s| s.address.port() == port && !s.other_network);
    place.process = known.or_else(|| {
        // One of an unknown kind: what listens there is all that is known of it.
        let owner = table.iter().find(|p| p.ports.contains(&port) && !p.other_network)?;
        Some(FoundServer {
            pid: owner.pid,
            protocol: Protocol::OpenAi,
            address: address.clone(),
            is_listening: true,
            other_network: false,
            model: None,
            runners: Vec::new(),
        })
    });
    place
}

fn of_process(pid: u32, table: &[ProcessInfo], all: Vec<FoundServer>) -> Result<Place, NotFound> {
    let is_it = |s: &FoundServer| s.pid == pid || s.runners.iter().any(|r| r.pid == pid);
    if let Some(server) = all.into_iter().find(is_it) {
        return Ok(Place { address: server.address.clone(), process: Some(server) });
    }
    let known = table.iter().any(|p| p.pid == pid);
    Err(if known { NotFound::NoServer(pid) } else { NotFound::NoProcess(pid) })
}

/// The server that took the place of one that is gone: of the same kind, and best with the same port,
/// then with the same model, then the only one that there is.
fn again(before: &Place, all: Vec<FoundServer>) -> Result<Place, NotFound> {
    let Some(was) = &before.process else { return Err(NotFound::Nothing) };
    let mut same: Vec<FoundServer> =
        all.into_iter().filter(|s| s.protocol == was.protocol).collect();
    let alike: [&dyn Fn(&FoundServer) -> bool; 3] =
        [&|s| s.pid == was.pid, &|s| s.address.port() == was.address.port(), &|s| {
            s.model.is_some() && s.model == was.model
        }];
    let best = alike.iter().find_map(|is_like| same.iter().position(is_like));
    let best = best.or((same.len() == 1).then_some(0));
    let Some(best) = best else {
        return Err(if same.is_empty() { NotFound::Nothing } else { NotFound::Several(same) });
    };
    let server = same.swap_remove(best);
    Ok(Place { address: server.address.clone(), process: Some(server) })
}

/// The only server on this machine; where none is seen, where the user's Ollama should be.
fn here(
    mut all: Vec<FoundServer>,
    table: &[ProcessInfo],
    ollama_variable: Option<&str>,
) -> Result<Place, NotFound> {
    match all.len() {
        0 => {
            let Ok(address) = ollama_host(ollama_variable) else { return Err(NotFound::Nothing) };
            // Somebody who set it means it; the default is only worth a question where something
            // listens that could not be seen as an Ollama.
            let said = ollama_variable.is_some_and(|value| !value.trim().is_empty());
            let listens = table.iter().any(|p| p.ports.contains(&address.port()));
            if said || listens || table.is_empty() {
                return Ok(at(&address, table, all));
            }
            Err(NotFound::Nothing)
        }
        1 => {
            let server = all.swap_remove(0);
            Ok(Place { address: server.address.clone(), process: Some(server) })
        }
        _ => Err(NotFound::Several(all)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, command: &str, ports: &[u16]) -> ProcessInfo {
        ProcessInfo {
            pid,
            parent,
            args: command.split_whitespace().map(str::to_string).collect(),
            ports: ports.to_vec(),
            ..ProcessInfo::default()
        }
    }

    fn found(target: &Target, table: &[ProcessInfo], before: Option<&Place>) -> (u32, u16) {
        let place = find(target, table, None, before).unwrap();
        (place.process.map_or(0, |p| p.pid), place.address.port())
    }

    #[test]
    fn what_a_person_types_is_a_process_or_an_address() {
        assert_eq!(Target::parse(" ").unwrap(), Target::Here);
        assert_eq!(Target::parse("4711").unwrap(), Target::Pid(4711));
        let Target::Url(url) = Target::parse(":11434").unwrap() else { panic!("no address") };
        assert_eq!(url.port(), 11434);
        assert!(Target::parse("ftp://x").is_err());
    }

    #[test]
    fn the_only_one_is_taken_and_of_several_none() {
        let ollama = process(10, 1, "ollama serve", &[11434]);
        let llama = process(20, 1, "llama-server -m a.gguf --port 9000", &[9000]);
        let table = [ollama.clone(), llama.clone()];
        assert_eq!(found(&Target::Here, &table[..1], None), (10, 11434));
        let Err(NotFound::Several(all)) = find(&Target::Here, &table, None, None) else {
            panic!("one was taken")
        };
        assert_eq!(all.len(), 2);
        assert_eq!(found(&Target::Pid(20), &table, None), (20, 9000));
        let url = Target::parse("http://localhost:9000").unwrap();
        assert_eq!(found(&url, &table, None), (20, 9000));
        assert_eq!(find(&Target::Pid(7), &table, None, None), Err(NotFound::NoProcess(7)));
        let shell = process(7, 1, "bash", &[]);
        assert_eq!(find(&Target::Pid(7), &[shell], None, None), Err(NotFound::NoServer(7)));
    }

    #[test]
    fn without_a_process_the_users_ollama_is_asked_if_it_may_be_there() {
        assert_eq!(
            find(&Target::Here, &[process(1, 0, "init", &[])], None, None),
            Err(NotFound::Nothing)
        );
        let proxy = [process(5, 1, "docker-proxy", &[11434])];
        assert_eq!(found(&Target::Here, &proxy, None), (5, 11434));
        let said = find(&Target::Here, &proxy, Some("box:1234"), None).unwrap();
        assert_eq!((said.address.to_string().as_str(), said.process), ("http://box:1234", None));
    }

    #[test]
    fn one_that_was_started_anew_is_found_again() {
        let first = [process(20, 1, "llama-server -m a.gguf --port 9000", &[9000])];
        let place = find(&Target::Pid(20), &first, None, None).unwrap();
        let after = |command: &str, port: u16| {
            let table = [process(31, 1, command, &[port]), process(2, 1, "ollama serve", &[11434])];
            find(&Target::Pid(20), &table, None, Some(&place)).map(|p| p.process.unwrap().pid)
        };
        assert_eq!(after("llama-server -m b.gguf --port 9000", 9000), Ok(31));
        assert_eq!(after("llama-server -m a.gguf --port 9001", 9001), Ok(31));
        assert_eq!(after("llama-server -m c.gguf --port 9002", 9002), Ok(31));
        assert_eq!(after("bash", 9000), Err(NotFound::Nothing));
        // Two others of its kind, neither of them like it: nobody knows.
        let two = [
            process(41, 1, "llama-server -m x.gguf --port 1", &[1]),
            process(42, 1, "llama-server -m y.gguf --port 2", &[2]),
        ];
        let several = find(&Target::Here, &two, None, Some(&place));
        assert!(matches!(several, Err(NotFound::Several(all)) if all.len() == 2));
    }
}
