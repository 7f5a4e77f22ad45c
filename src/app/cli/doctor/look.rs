//! What `doctor` asks beyond files: counters, servers that run, and what our own engine would do.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::base::clock::now_ns;
use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{Event, ServedModel, ServerFact, ServerState};
use crate::base::units::Bytes;
use crate::engine::backend::cpu::{Isa, default_threads};
use crate::engine::backend::cuda_device_count;
use crate::engine::model::store::{StoreOptions, ollama_models};
use crate::observe::attach::{
    Client, FoundServer, Limits, Ollama, Protocol, discover, process_table,
};
use crate::observe::inspect::Inspection;
use crate::observe::session::Session;
use crate::observe::telemetry::Readings;
use crate::observe::telemetry::host::{HostReader, Roots};
use crate::observe::telemetry::nvml::{Library, Reader};

/// Between the two readings of each counter.
const MOMENT: Duration = Duration::from_millis(250);

/// Processes on GPUs that are listed.
const PROCESSES_SHOWN: usize = 8;

/// Models that are listed.
const MODELS_SHOWN: usize = 20;

/// Servers that run here.
pub(super) fn servers() -> Vec<FoundServer> {
    discover(&process_table())
}

/// Processes of Ollama's server.
pub(super) fn ollama_pids(servers: &[FoundServer]) -> Vec<u32> {
    let ollama = servers.iter().filter(|s| s.protocol == Protocol::Ollama);
    ollama.map(|s| s.pid).collect()
}

/// The same in the files of another system.
pub(super) fn ollama_below(roots: &Roots) -> Vec<u32> {
    let serves = |pid: &u32| {
        let line = roots.text(&format!("proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        let program = words.next().unwrap_or_default();
        program.rsplit('/').next() == Some("ollama") && words.next() == Some("serve")
    };
    let mut pids = roots.numbers("proc").unwrap_or_default();
    pids.retain(serves);
    pids.sort_unstable();
    pids
}

/// Asks the servers that run what they have loaded, and returns Ollama's version, empty without one.
pub(super) fn ask(
    servers: &[FoundServer],
    session: &mut Session,
    machine: &mut Inspection,
) -> String {
    let mut version = String::new();
    if servers.is_empty() {
        machine.see("servers", "servers that run", "none of Ollama, llama-server or vLLM");
    }
    for server in servers {
        let name = format!("{} (process {})", server.protocol.name(), server.pid);
        let model = server.model.as_ref().map(|m| format!(", model {m}")).unwrap_or_default();
        machine.see("servers", name, format!("{}{model}", server.address));
        if server.protocol == Protocol::Ollama && version.is_empty() {
            version = ask_ollama(server, session, machine);
        }
    }
    version
}

fn ask_ollama(server: &FoundServer, session: &mut Session, machine: &mut Inspection) -> String {
    let second = Duration::from_secs(2);
    let limits = Limits { connect: second, question: second, ..Limits::default() };
    let ollama = Ollama::new(Client::new(server.address.clone(), limits), "");
    let version = match ollama.version() {
        Ok(version) => version,
        Err(error) => {
            let hint = "the server runs but does not answer there: see its log with `gpuwhy logs`";
            machine.see_with("Ollama", "version", format!("not told: {error}"), hint);
            return String::new();
        }
    };
    machine.see("Ollama", "version", version.clone());
    let running = ollama.running().unwrap_or_default();
    for model in &running {
        let bytes = |b: Option<u64>| b.map_or("?".to_string(), |b| Bytes(b).to_string());
        let value = format!("{}, {} on GPUs", bytes(model.bytes), bytes(model.vram_bytes));
        machine.see("Ollama", format!("loaded: {}", model.name), value);
    }
    let models = running.into_iter().map(|m| ServedModel {
        name: m.name,
        quantization: m.details.quantization,
        architecture: m.details.family,
        bytes: m.bytes,
        vram_bytes: m.vram_bytes,
        context_tokens: m.context_tokens,
        ..ServedModel::default()
    });
    session.take(&Event::Server(Arc::new(ServerFact {
        at_ns: now_ns(),
        engine: "ollama".to_string(),
        engine_version: version.clone(),
        url: server.address.to_string(),
        state: ServerState::Up,
        pid: Some(server.pid),
        working_pids: server.working_pids(),
        models: models.collect(),
        ..ServerFact::default()
    })));
    version
}

/// Reads the counters of machine and GPUs twice, a moment apart, and notes what a person asks for.
pub(super) fn watch(roots: &Roots, session: &mut Session, machine: &mut Inspection) {
    let mut host = HostReader::new(roots.clone(), 1);
    let (mut of_host, mut of_gpus) = (Readings::new(Source::Host), Readings::new(Source::Nvml));
    let mut reader = Reader::new(roots.clone(), 1);
    let library = Library::open();
    for reading in 0..2 {
        if reading > 0 {
            thread::sleep(MOMENT);
        }
        of_host.begin(now_ns());
        host.read(&mut of_host);
        of_gpus.begin(now_ns());
        let read = library
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|library| reader.read(library, &mut of_gpus));
        if let Err(why) = read {
            of_gpus.absent(None, None, why);
        }
        for event in of_host.take().into_iter().chain(of_gpus.take()) {
            session.take(&event);
        }
    }
    if let Some(absent) = session.absent.get(&(Source::Nvml, None, None)) {
        machine.see_with("devices", "NVML", absent.text.clone(), absent.hint.clone());
    }
    if let Some(version) = library.as_ref().ok().and_then(|l| l.driver_version().ok()) {
        machine.see("driver", "NVIDIA driver", version);
    }
    gpus(session, machine);
}

fn gpus(session: &Session, machine: &mut Inspection) {
    for gpu in session.counters.gpus() {
        let subject = Subject::Gpu(gpu);
        let bytes = |counter| session.value(subject, counter).map(|b| Bytes(b as u64));
        let name = session.name(subject).unwrap_or("unknown");
        let memory = bytes(Counter::VramFree).zip(bytes(Counter::VramTotal));
        let memory = memory.map(|(free, total)| format!(", {free} of {total} free"));
        machine.see(
            "devices",
            format!("GPU {gpu}"),
            format!("{name}{}", memory.unwrap_or_default()),
        );
    }
    let processes = session.counters.subjects().filter(|s| matches!(s, Subject::GpuProcess { .. }));
    for subject in processes.take(PROCESSES_SHOWN) {
        let Subject::GpuProcess { gpu, pid } = subject else { continue };
        let name = session.name(subject).unwrap_or("unknown");
        let holds = session.value(subject, Counter::VramUsed).map_or_else(
            || "an amount that the driver does not tell".to_string(),
            |b| Bytes(b as u64).to_string(),
        );
        machine.see("devices", format!("on GPU {gpu}: {name} (process {pid})"), holds);
    }
}

/// What `gpuwhy run` would meet here.
pub(super) fn own_engine(machine: &mut Inspection) {
    const PART: &str = "a run here";
    let threads = default_threads();
    machine.see(PART, "threads", format!("{} ({})", threads.count, threads.reason));
    machine.see(PART, "CPU kernels", Isa::detect().name());
    match cuda_device_count() {
        Ok(count) => machine.see(PART, "GPUs", format!("{count} by CUDA")),
        Err(error) => machine.see_with(PART, "GPUs", format!("none: {error}"), error.hint()),
    }
    match ollama_models(&StoreOptions::from_env().ollama_dirs) {
        Ok(models) if models.is_empty() => machine.see("Ollama", "models", "none in its store"),
        Ok(models) => {
            for model in models.iter().take(MODELS_SHOWN) {
                machine.see("Ollama", model.name.clone(), Bytes(model.size_bytes).to_string());
            }
            if models.len() > MODELS_SHOWN {
                machine.see("Ollama", "more models", (models.len() - MODELS_SHOWN).to_string());
            }
        }
        Err(error) => machine.see_with(
            "Ollama",
            "models",
            format!("its store cannot be read: {error}"),
            "run as the server's user, or name the store by OLLAMA_MODELS",
        ),
    }
}
