//! The targets that the arguments mean.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::advise::measure::http::{HttpOptions, connect};
use crate::advise::measure::{
    CommandTarget, MeasureError, OwnTarget, Target, Witnessed, Workload, split_words,
};
use crate::app::cli::failure::Failure;
use crate::observe::attach::{BaseUrl, discover, ollama_host, process_table};

use super::CheckArgs;

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Self {
        let failure = Self::new(&error.what);
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What is checked.
pub(super) fn candidate(args: &CheckArgs, flags: &[String]) -> Result<Box<dyn Target>, Failure> {
    if let Some(url) = &args.url {
        return server(args, url);
    }
    if let Some(command) = &args.command {
        return other_program("candidate", command);
    }
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(format!("cannot tell where this program lies: {e}")))?;
    Ok(own(args, "candidate", program, flags.to_vec()))
}

/// What it is compared with in turn; `None` where the baseline is stored.
pub(super) fn baseline(
    args: &CheckArgs,
    flags: &[String],
) -> Result<Option<Box<dyn Target>>, Failure> {
    if let Some(url) = &args.against_url {
        return server(args, url).map(Some);
    }
    if let Some(command) = &args.against_command {
        return other_program("baseline", command).map(Some);
    }
    if args.against.is_none() && args.against_flags.is_none() {
        return Ok(None);
    }
    let program = match &args.against {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|e| Failure::new(format!("cannot tell where this program lies: {e}")))?,
    };
    let flags = match &args.against_flags {
        Some(text) => {
            split_words(text).map_err(|e| Failure::new(format!("--against-flags '{text}': {e}")))?
        }
        None => flags.to_vec(),
    };
    Ok(Some(own(args, "baseline", program, flags)))
}

fn own(args: &CheckArgs, name: &str, program: PathBuf, flags: Vec<String>) -> Box<dyn Target> {
    let mut words: Vec<String> = args.model.name().map(str::to_string).into_iter().collect();
    words.extend(flags);
    let target = Box::new(OwnTarget::new(name, program, words));
    Box::new(Witnessed::new(target, Some(Vec::new())))
}

fn other_program(name: &str, command: &str) -> Result<Box<dyn Target>, Failure> {
    let target = Box::new(CommandTarget::new(name, command)?);
    Ok(Box::new(Witnessed::new(target, Some(Vec::new())).on(this_machine())))
}

fn server(args: &CheckArgs, url: &str) -> Result<Box<dyn Target>, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    // The name alone means the one that this user's `ollama` talks to.
    let address = match url {
        "ollama" => ollama_host(variable("OLLAMA_HOST").as_deref()).map(|a| a.to_string()),
        _ => Ok(url.to_string()),
    };
    let address = address.map_err(MeasureError::from)?;
    let options = HttpOptions {
        model: args.model.name().map(str::to_string),
        key: args.api_key.clone().or_else(|| variable("OPENAI_API_KEY")),
        ..HttpOptions::default()
    };
    let target = connect(&address, &options)?;
    // What answered is an address that can be read; a port that was not named is the server's.
    let base = BaseUrl::parse(&address, PORT_DEFAULT).map_err(MeasureError::from)?;
    if !base.is_local() {
        return Ok(Box::new(Witnessed::new(target, None)));
    }
    let processes = match args.server_pid.as_slice() {
        [] => processes_at(base.port()),
        told => Some(told.to_vec()),
    };
    Ok(Box::new(Witnessed::new(target, processes).on(this_machine())))
}

/// Where a server without a port in its address is looked for.
const PORT_DEFAULT: u16 = 8080;

/// The processes of the server that listens on a port of this machine, if one is found there.
fn processes_at(port: u16) -> Option<Vec<u32>> {
    let servers = discover(&process_table());
    let server = servers.into_iter().find(|s| s.address.port() == port && !s.other_network)?;
    let mut pids = server.working_pids();
    pids.push(server.pid);
    Some(pids)
}

/// What this program says of the machine, so that times are compared on the same one only. Unknown where
/// it cannot be asked.
fn this_machine() -> BTreeMap<String, String> {
    let program = std::env::current_exe().ok();
    let facts = program.and_then(|p| OwnTarget::new("this", p, Vec::new()).facts().ok());
    facts.map(|f| f.machine).unwrap_or_default()
}

/// Where the baseline lies: as told, or by model and workload.
pub(super) fn baseline_path(args: &CheckArgs, workload: &Workload) -> PathBuf {
    if let Some(path) = &args.baseline {
        return path.clone();
    }
    let model = args.model.name().unwrap_or("built-in");
    let of = match (&args.url, &args.command) {
        (Some(url), _) => format!("{url} {}", args.model.name().unwrap_or_default()),
        (_, Some(command)) => command.clone(),
        _ => model.to_string(),
    };
    PathBuf::from(format!(".gpuwhy/{}.{}.json", slug(&of), slug(&workload.name)))
}

/// Text as part of a file's name.
fn slug(text: &str) -> String {
    const LENGTH_MAX: usize = 60;
    let text = text.trim_start_matches("http://").trim_start_matches("https://");
    // Of a path the name tells enough.
    let text = if text.contains(' ') { text } else { text.rsplit('/').next().unwrap_or(text) };
    let mut out = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
        if c != '-' || !out.ends_with('-') {
            out.push(c);
        }
    }
    let out: String = out.trim_matches(['-', '.']).chars().take(LENGTH_MAX).collect();
    if out.is_empty() { "target".to_string() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_hold_no_separators() {
        assert_eq!(slug("synth:qwen2.5-0.5b:Q4_K_M"), "synth-qwen2.5-0.5b-Q4_K_M");
        assert_eq!(slug("/models/tiny.gguf"), "tiny.gguf");
        assert_eq!(slug("http://localhost:11434 llama3.2:3b"), "localhost-11434-llama3.2-3b");
        assert_eq!(slug("../.."), "target");
        assert_eq!(slug("bench -p {p} -o json"), "bench-p-p-o-json");
    }
}
