//! Finds servers among the processes of this machine. Pure: the table of processes is an argument.
//!
//! Known are `ollama serve` with its runners (a `llama-server` of Ollama's own, `ollama runner`, before
//! that `ollama_llama_server`), `llama-server` by itself, and vLLM however it was started. What a process
//! listens on is believed before what its command line says. Nothing is asked of any of them.

use std::collections::{BTreeMap, BTreeSet};

use super::detect::Protocol;
use super::processes::ProcessInfo;
use super::url::{BaseUrl, OLLAMA_PORT};

const LLAMA_SERVER_PORT: u16 = 8080;
const VLLM_PORT: u16 = 8000;

/// A server that runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundServer {
    /// Its process.
    pub pid: u32,
    /// What it will speak.
    pub protocol: Protocol,
    /// Where it should answer.
    pub address: BaseUrl,
    /// Whether the address was read from what it listens on, and not from its command line.
    pub is_listening: bool,
    /// Whether it is in a network of its own, as in a container; then the address may reach nothing, or
    /// something else.
    pub other_network: bool,
    /// The model on its command line: a file, or a name.
    pub model: Option<String>,
    /// Processes that compute for it.
    pub runners: Vec<Runner>,
}

impl FoundServer {
    /// The processes to watch: those that compute, or the server where it does so itself.
    pub fn working_pids(&self) -> Vec<u32> {
        if self.runners.is_empty() {
            return vec![self.pid];
        }
        self.runners.iter().map(|runner| runner.pid).collect()
    }
}

/// A process that computes for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// Its process.
    pub pid: u32,
    /// Where it answers, if it does: as llama-server does. Ollama's older runners speak something of
    /// their own.
    pub address: Option<BaseUrl>,
    /// The model's file, if its command line says.
    pub model: Option<String>,
    /// Tokens of context on its command line, of all its slots together.
    pub context_tokens: Option<u64>,
    /// Layers on GPUs on its command line.
    pub gpu_layers: Option<u64>,
    /// Requests at once on its command line.
    pub slots: Option<u64>,
}

/// What a command line starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    OllamaServe,
    /// Ollama's own runner, which is no server for others.
    OllamaRunner,
    LlamaServer,
    Vllm,
}

/// All servers, in the order of their processes.
pub fn discover(table: &[ProcessInfo]) -> Vec<FoundServer> {
    let by_pid: BTreeMap<u32, &ProcessInfo> = table.iter().map(|p| (p.pid, p)).collect();
    // Who started a process in which vLLM computes is vLLM, whatever its own command line says.
    let cores = table.iter().filter(|p| is_engine_core(p));
    let starters: BTreeSet<u32> = cores.map(|core| core.parent).collect();
    let programs: BTreeMap<u32, Program> = table
        .iter()
        .filter_map(|p| Some((p.pid, program(p, starters.contains(&p.pid))?)))
        .collect();
    // The nearest process above that is a server: of a runner, its Ollama; of vLLM's helpers, vLLM.
    let server_above = |pid: u32| {
        let mut seen = BTreeSet::from([pid]);
        let mut next = by_pid.get(&pid)?.parent;
        while seen.insert(next) {
            if programs.get(&next).is_some_and(|p| *p != Program::OllamaRunner) {
                return Some(next);
            }
            next = by_pid.get(&next)?.parent;
        }
        None
    };
    let mut found: Vec<FoundServer> = programs
        .iter()
        .filter(|(pid, program)| {
            **program != Program::OllamaRunner && server_above(**pid).is_none()
        })
        .filter_map(|(pid, program)| server(by_pid.get(pid)?, *program))
        .collect();
    for server in &mut found {
        let mine = table.iter().filter(|p| top(p.pid, &server_above) == Some(server.pid));
        server.runners = mine.filter_map(|p| runner(p, programs.get(&p.pid).copied())).collect();
    }
    found
}

/// The outermost server above a process; nothing for one whose parents form a ring.
fn top(pid: u32, server_above: &impl Fn(u32) -> Option<u32>) -> Option<u32> {
    let mut seen = BTreeSet::from([pid]);
    let mut last = server_above(pid)?;
    while seen.insert(last) {
        let Some(next) = server_above(last) else { return Some(last) };
        last = next;
    }
    None
}

/// What a process is, by its command line. Interpreters are looked through.
fn program(process: &ProcessInfo, has_engine_core: bool) -> Option<Program> {
    let args = &process.args;
    let name = |i: usize| args.get(i).map(|arg| file_name(arg)).unwrap_or_default();
    match (name(0), args.get(1).map(String::as_str).unwrap_or_default()) {
        ("ollama", "serve") => return Some(Program::OllamaServe),
        ("ollama", "runner") | ("ollama_llama_server", _) => return Some(Program::OllamaRunner),
        ("llama-server", _) => return Some(Program::LlamaServer),
        _ => {}
    }
    let at = usize::from(name(0).starts_with("python"));
    let is_vllm = (name(at) == "vllm" && args.get(at + 1).is_some_and(|a| a == "serve"))
        || args.iter().any(|arg| arg.starts_with("vllm.entrypoints."))
        || (has_engine_core && !is_engine_core(process));
    is_vllm.then_some(Program::Vllm)
}

/// Whether it is the process in which vLLM computes, by the name that it gives itself.
fn is_engine_core(process: &ProcessInfo) -> bool {
    ["VLLM::EngineCore", "VLLM::Worker"].iter().any(|name| {
        process.name.starts_with(name) || process.args.first().is_some_and(|a| a.starts_with(name))
    })
}

fn server(process: &ProcessInfo, program: Program) -> Option<FoundServer> {
    let (protocol, port_default) = match program {
        Program::OllamaServe => (Protocol::Ollama, OLLAMA_PORT),
        Program::LlamaServer => (Protocol::LlamaServer, LLAMA_SERVER_PORT),
        Program::Vllm => (Protocol::Vllm, VLLM_PORT),
        Program::OllamaRunner => return None,
    };
    let said = option(process, &["--port"]).and_then(|p| p.parse().ok()).filter(|p| *p != 0);
    let port = listens(process, said).or(said).unwrap_or(port_default);
    let model = match program {
        Program::Vllm => vllm_model(process),
        _ => option(process, &["-m", "--model", "-hf", "--hf-repo"]),
    };
    Some(FoundServer {
        pid: process.pid,
        protocol,
        address: local(port)?,
        is_listening: !process.ports.is_empty(),
        other_network: process.other_network,
        model,
        runners: Vec::new(),
    })
}

/// A process below a server, if it computes for it.
fn runner(process: &ProcessInfo, program: Option<Program>) -> Option<Runner> {
    let speaks = program == Some(Program::LlamaServer);
    if !speaks && program != Some(Program::OllamaRunner) && !is_engine_core(process) {
        return None;
    }
    let count = |names: &[&str]| option(process, names)?.parse().ok();
    let said = option(process, &["--port"]).and_then(|p| p.parse().ok());
    let port = listens(process, said).or(said).filter(|_| speaks);
    Some(Runner {
        pid: process.pid,
        address: port.and_then(local),
        model: option(process, &["-m", "--model"]),
        context_tokens: count(&["-c", "--ctx-size"]),
        gpu_layers: count(&["-ngl", "--n-gpu-layers", "--gpu-layers"]),
        slots: count(&["-np", "--parallel"]),
    })
}

/// The port that it listens on: the one that it was told, if it listens there, else its lowest.
fn listens(process: &ProcessInfo, said: Option<u16>) -> Option<u16> {
    said.filter(|port| process.ports.contains(port)).or_else(|| process.ports.iter().min().copied())
}

fn local(port: u16) -> Option<BaseUrl> {
    BaseUrl::parse(&format!("127.0.0.1:{port}"), port).ok()
}

/// `vllm serve MODEL` or `--model MODEL`.
fn vllm_model(process: &ProcessInfo) -> Option<String> {
    let after = process.args.iter().position(|arg| arg == "serve").map(|at| at + 1);
    let positional = after.and_then(|at| process.args.get(at)).filter(|arg| !arg.starts_with('-'));
    positional.cloned().or_else(|| option(process, &["--model"]))
}

/// Options of servers that say how they work, in all their spellings, by the first one's name. Keys and
/// prompts are not among them.
const TELLING: [&[&str]; 16] = [
    &["--n-gpu-layers", "--gpu-layers", "-ngl"],
    &["--ctx-size", "-c"],
    &["--parallel", "-np"],
    &["--threads", "-t"],
    &["--batch-size", "-b"],
    &["--ubatch-size", "-ub"],
    &["--flash-attn", "-fa"],
    &["--cache-type-k", "-ctk"],
    &["--cache-type-v", "-ctv"],
    &["--tensor-split", "-ts"],
    &["--device", "-dev"],
    &["--sleep-idle-seconds"],
    &["--max-num-seqs"],
    &["--max-model-len"],
    &["--gpu-memory-utilization"],
    &["--tensor-parallel-size", "-tp"],
];

/// What a server's command line says of how it works, by name without dashes.
pub(super) fn telling_options(process: &ProcessInfo) -> Vec<(String, String)> {
    let told = TELLING.iter().filter_map(|names| {
        let value = option(process, names)?;
        Some((names[0].trim_start_matches('-').to_string(), value.chars().take(200).collect()))
    });
    told.collect()
}

/// The last value of an option on the command line, as `--name value` or `--name=value`.
fn option(process: &ProcessInfo, names: &[&str]) -> Option<String> {
    let value_of = |(i, arg): (usize, &String)| {
        if names.contains(&arg.as_str()) {
            return process.args.get(i + 1).cloned();
        }
        let (name, value) = arg.split_once('=')?;
        names.contains(&name).then(|| value.to_string())
    };
    process.args.iter().enumerate().filter_map(value_of).next_back()
}

/// The file's name in a path of any system, without `.exe`.
fn file_name(path: &str) -> &str {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name.strip_suffix(".exe").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, command: &str, ports: &[u16]) -> ProcessInfo {
        ProcessInfo {
            pid,
            parent,
            name: String::new(),
            args: command.split_whitespace().map(str::to_string).collect(),
            ports: ports.to_vec(),
            other_network: false,
        }
    }

    fn urls(found: &[FoundServer]) -> Vec<(u32, String)> {
        found.iter().map(|s| (s.pid, s.address.to_string())).collect()
    }

    #[test]
    fn an_ollama_has_its_runners_of_every_generation() {
        let blob = "/usr/share/ollama/.ollama/models/blobs/sha256-2b";
        let table = [
            process(1, 0, "/sbin/init", &[]),
            process(10, 1, "/usr/local/bin/ollama serve", &[11434]),
            process(
                11,
                10,
                &format!(
                    "/usr/local/bin/ollama runner --model {blob} --ctx-size 8192 \
                --batch-size 512 --n-gpu-layers 29 --threads 8 --parallel 4 --port 40213"
                ),
                &[40213],
            ),
            process(
                12,
                10,
                &format!(
                    "/usr/lib/ollama/llama-server --model {blob} --port 40300 \
                --host 127.0.0.1 -c 4096 -np 1"
                ),
                &[],
            ),
            process(
                13,
                10,
                &format!(
                    "/tmp/ollama1/runners/cuda_v12/ollama_llama_server --model \
                {blob} --port 40400"
                ),
                &[],
            ),
            process(20, 1, "ollama run llama3", &[]),
        ];
        let found = discover(&table);
        assert_eq!(urls(&found), [(10, "http://127.0.0.1:11434".into())]);
        let ollama = &found[0];
        assert_eq!(ollama.protocol, Protocol::Ollama);
        assert_eq!(ollama.working_pids(), [11, 12, 13]);
        let [first, child, old] = &ollama.runners[..] else { panic!("{ollama:?}") };
        assert_eq!(
            (first.context_tokens, first.gpu_layers, first.slots),
            (Some(8192), Some(29), Some(4))
        );
        assert_eq!(first.model.as_deref(), Some(blob));
        assert_eq!(first.address, None, "it does not speak as llama-server does");
        assert_eq!(child.address.as_ref().unwrap().port(), 40300);
        assert_eq!(old.address, None);
    }

    #[test]
    fn servers_by_themselves_are_found_where_they_listen() {
        let table = [
            process(5, 1, "./llama-server -m /m/a.gguf --port 9000", &[9000]),
            process(6, 1, "llama-server -hf x/y --port 9001", &[9100, 9050]),
            process(7, 1, "C:\\llama\\llama-server.exe -m b.gguf", &[]),
            process(8, 1, "/usr/bin/python3 /usr/local/bin/vllm serve meta/x --port=8100", &[]),
            process(9, 1, "python -m vllm.entrypoints.openai.api_server --model m/y", &[8000]),
            process(30, 1, "vim llama-server.cpp", &[]),
            process(31, 1, "grep vllm serve", &[]),
        ];
        let found = discover(&table);
        let at = |pid: u32| found.iter().find(|s| s.pid == pid).unwrap();
        assert_eq!(found.len(), 5, "{found:?}");
        assert_eq!((at(5).address.port(), at(5).is_listening), (9000, true));
        assert_eq!(at(6).address.port(), 9050, "where it listens goes before what it was told");
        assert_eq!((at(7).address.port(), at(7).is_listening), (8080, false));
        assert_eq!((at(8).address.port(), at(8).model.as_deref()), (8100, Some("meta/x")));
        assert_eq!((at(9).address.port(), at(9).model.as_deref()), (8000, Some("m/y")));
        assert_eq!(at(5).working_pids(), [5]);
    }

    #[test]
    fn vllm_is_known_by_the_processes_that_compute_for_it() {
        let mut core = process(41, 40, "VLLM::EngineCore_0", &[]);
        core.name = "VLLM::EngineCor".into();
        let table = [
            process(40, 1, "python3 my_server.py", &[8000]),
            core,
            process(42, 41, "VLLM::Worker_TP0", &[]),
            process(43, 41, "VLLM::Worker_TP1", &[]),
        ];
        let found = discover(&table);
        assert_eq!(urls(&found), [(40, "http://127.0.0.1:8000".into())]);
        assert_eq!(found[0].working_pids(), [41, 42, 43]);
    }

    #[test]
    fn odd_tables_are_no_trouble() {
        let mut empty = process(3, 3, "", &[]);
        empty.args.clear();
        // Its own parent, a ring of parents, an option without a value, a port that is none.
        let table = [
            empty,
            process(1, 2, "llama-server --port", &[]),
            process(2, 1, "llama-server --port 99999", &[]),
            process(4, 77, "llama-server --port 0", &[]),
        ];
        let found = discover(&table);
        assert_eq!(urls(&found), [(4, "http://127.0.0.1:8080".into())]);
        assert_eq!(discover(&[]), []);
    }
}
