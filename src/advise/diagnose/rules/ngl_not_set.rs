//! `ngl-not-set`: a GPU build that was not told to use the GPU.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Buffer, Dialect, Engine, LibraryKind, Load};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "no layers were asked for, so none are on the GPU",
    doc: Doc {
        detects: "A build of llama.cpp that sees a GPU loaded a model with 0 layers on it, \
            because nobody asked for any: the default of builds before the automatic fit (end of \
            2025) and of most bindings.",
        costs: "All weights are read by the CPU. With some batches the GPU helps with prompts, \
            which hides it.",
        evidence: "\"offloaded 0/N layers\" with a GPU device in the log, no estimate of a server \
            that decided so, and no option for GPU layers, or one of 0. Ollama decides by itself: \
            0 layers there are a matter of memory, or of num_gpu.",
        fix: "`-ngl 99` (all layers; newer builds take `-ngl all`), or as many as fit. \
            llama-cpp-python: `n_gpu_layers=-1`. LangChain: `n_gpu_layers`. LM Studio and others \
            call it GPU offload.",
        example: r"  Device 0: NVIDIA GeForce RTX 3060, compute capability 8.6, VMM: yes
load_tensors: offloading 0 repeating layers to GPU
load_tensors: offloaded 0/29 layers to GPU",
    },
    follows_from: &["ngl-param-misspelled", "setting-disables-gpu"],
    check,
};

const ID: &str = "ngl-not-set";

fn check(facts: &Facts) -> Verdict {
    let ollama = has_server_of_ollama(facts);
    let Some(load) = facts.last_load().filter(|_| !ollama) else { return Verdict::Clear };
    let assigned = load.load.layers_by_device.iter().map(|(_, n)| n).sum::<u64>();
    let (total, line) = match load.load.layers {
        Some(layers) if layers.offloaded == 0 && layers.total > 0 => (layers.total, layers.line),
        // A verbose log names the device of each layer, and may be cut before the sum.
        None if assigned > 0 && load.on_gpu() == Some(false) => (assigned, load.load.line),
        _ => return Verdict::Clear,
    };
    if load.load.estimate.is_some() || facts.log.engine == Engine::Vllm {
        return Verdict::Clear;
    }
    let gpu = facts.gpus().find(|d| d.library.is_some());
    let on_gpu = |b: &&Buffer| !b.is_host() && LibraryKind::from_word(&b.device).is_some();
    let buffer = load.load.buffers.iter().find(on_gpu);
    // Without a device this is a build for the CPU, or a driver that fails: other rules.
    // llama.cpp prints "offloaded 0/N" only in builds that can offload: see LINE_OF_GPU_BUILDS.
    let seen = gpu.map(|d| d.line).or(buffer.map(|b| b.line));
    let own = facts.log.engine == Engine::LlamaCpp && facts.gpu_error().is_none();
    let by_line = own && load.load.layers.is_some();
    if seen.is_none() && !by_line {
        return Verdict::Clear;
    }
    let asked = load.load.requested.gpu_layers;
    if asked.is_some_and(|a| a.value != 0) {
        return Verdict::Clear;
    }
    let name = gpu.and_then(|d| d.description.as_deref()).unwrap_or("the GPU");
    let why = if asked.is_some() {
        "The command line asks for 0 layers, so all of them are computed on the CPU."
    } else if facts.log.engine == Engine::LlamaCpp && facts.version().is_some_and(|v| v.0 >= FITS) {
        "This build puts as many layers on the GPU as fit unless it is told otherwise, so 0 \
            layers were asked for: by -ngl 0, by LLAMA_ARG_N_GPU_LAYERS, or by a program around \
            it."
    } else {
        "The build sees the GPU, but layers go there only when they are asked for. Builds before \
            the automatic fit, and bindings, ask for none by themselves."
    };
    Finding::problem(
        ID,
        // A failure would be less clear: everything works, on the CPU.
        Impact::NoGpu,
        // A model of Ollama's store without any line of its server: a binding that opened the file,
        // or a cut log.
        match (facts.is_ollama(), seen) {
            (true, _) => 0.8,
            (false, Some(_)) => 0.95,
            (false, None) => LINE_OF_GPU_BUILDS,
        },
        format!("0 of {total} layers are on {name}: none were asked for"),
    )
    .because(format!(
        "{why} A compute buffer on the GPU is still allocated: large batches of a prompt are sent \
            there, with the weights each time, which is why the GPU is not quite idle."
    ))
    .seen(Evidence::line(line))
    .seen_if(seen.map(Evidence::line))
    .seen_if(asked.map(|a| Evidence::line(a.line)))
    .fix(Fix::flag("-ngl", "99").why(
        "more than there are is all of them; a smaller number when memory does not suffice",
        format!("offloaded {total}/{total} layers to GPU"),
    ))
    .fix(
        Fix::system("llama-cpp-python", "Llama(model_path=..., n_gpu_layers=-1)")
            .why("the binding's default is 0 as well", "the same line in the log"),
    )
    .into()
}

/// How sure the line alone makes that the build can offload: a build for the CPU does not print it,
/// and one whose driver fails says so, in a part of the log that may be missing.
const LINE_OF_GPU_BUILDS: f64 = 0.85;

/// Builds of 2026 fit layers by themselves; the first of them is somewhat older than this.
const FITS: u32 = 8000;

/// Whether the log has lines of Ollama's server, which decides about layers itself. That a file
/// lies in its store does not mean that it was Ollama that opened it.
fn has_server_of_ollama(facts: &Facts) -> bool {
    let log = facts.log;
    let load = |l: &Load| {
        l.estimate.is_some() || l.requested.command.is_some() || l.size_vram_and_total.is_some()
    };
    let generation = matches!(log.dialect, Some(Dialect::OllamaB | Dialect::OllamaC));
    generation
        || log.version.is_some() && facts.is_ollama()
        || !log.settings.is_empty()
        // Its list of devices gives each an id.
        || facts.is_ollama() && log.devices.iter().any(|d| d.id.is_some())
        || log.loads.iter().any(load)
        || log.requests.kept().any(|r| r.endpoint.as_deref().is_some_and(of_ollama))
}

/// Whether a path is one of Ollama's; programs before it have their own below `/api/`.
fn of_ollama(path: &str) -> bool {
    let name = path.strip_prefix("/api/").map(|rest| rest.split(['/', '?']).next().unwrap_or(rest));
    name.is_some_and(|n| ["generate", "chat", "embed", "embeddings", "show", "tags"].contains(&n))
}
