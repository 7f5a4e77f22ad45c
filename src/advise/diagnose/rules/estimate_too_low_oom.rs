//! `estimate-too-low-oom`: the GPU's memory is exhausted although the plan said that it suffices.

use crate::advise::diagnose::facts::{Facts, LoadFacts, Oom, OomCause, OomPart};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{Engine, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "GPU memory runs out at load or at run time: less was planned than is needed",
    doc: Doc {
        detects: "An allocation of GPU memory that fails and ends the load or the request, although \
            the engine had decided that the layers fit.",
        costs: "The model does not load, or a request ends with an error; a server answers 500.",
        evidence: "\"cudaMalloc failed: out of memory\" (ROCm prints the same), \"unable to allocate \
            CUDA0 buffer\", \"CUDA error: out of memory\", a failed allocation of Vulkan or Metal, at \
            the end of a load or after it. A server that lays layers out by trial prints the same and \
            goes on: that is no failure. When the context's cache or a huge compute buffer is what \
            does not fit, those rules say so.",
        fix: "Fewer layers (`num_gpu`, `-ngl`), or a reserve: `OLLAMA_GPU_OVERHEAD` in bytes for every \
            GPU; `LLAMA_ARG_FIT_TARGET` in MiB from 0.30 on, `-fitt` for llama.cpp. A smaller batch \
            and context need less.",
        example: "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 3120.00 MiB on device 0: \
            cudaMalloc failed: out of memory\n\
            msg=\"error loading llama server\" error=\"llama runner process has terminated: cudaMalloc \
            failed: out of memory\"",
    },
    follows_from: &["metal-working-set-exceeded"],
    check,
};

const ID: &str = "estimate-too-low-oom";

fn check(facts: &Facts) -> Verdict {
    let oom = facts.gpu_oom().filter(|o| o.fatal && o.cause() == OomCause::Plan);
    oom.map(|oom| finding(facts, &oom)).into()
}

fn finding(facts: &Facts, oom: &Oom) -> Finding {
    let size = oom.bytes.map(|b| format!(" {} for", Bytes(b))).unwrap_or_default();
    let place = oom.device.as_ref().map_or(String::new(), |d| {
        let number = d.chars().all(|c| c.is_ascii_digit());
        if number { format!(" on GPU {d}") } else { format!(" on {d}") }
    });
    let when = if oom.at_run_time { "while it ran" } else { "at load" };
    let what = match oom.part {
        OomPart::Unknown => size.trim_end_matches(" for").to_string(),
        part => format!("{size} {}", part.name()),
    };
    let what = if what.is_empty() { place } else { format!(":{what}{place}") };
    let title = format!("out of GPU memory {when}{what}");
    let held = oom.load.as_ref().map(|l| held(l)).unwrap_or_default();
    let why = match (oom.at_run_time, oom.part) {
        (true, _) => format!(
            "The model was loaded and then asked for more memory than was left.{held} What grows while \
             it runs (workspaces of the libraries, a longer batch, other programs) was not planned for."
        ),
        (false, OomPart::Compute) => format!(
            "Weights and cache were placed; then the compute buffer did not fit.{held} Fewer layers on \
             this GPU, or a smaller batch, leave room for it."
        ),
        (false, _) => format!(
            "The layers were chosen by an estimate that is below what they need on this GPU.{held}"
        ),
    };
    let failed = oom.load.as_ref().and_then(LoadFacts::failed);
    // The driver itself says that there is no memory; whose fault it is, the estimate's or another
    // program's, is less sure.
    Finding::problem(ID, Impact::Failure, 0.85, title)
        .because(why)
        .seen(Evidence::line(oom.line))
        .seen_if(failed.map(|(line, _)| Evidence::line(line)))
        .seen_if(oom.load.and_then(|l| l.load.layers).map(|l| Evidence::line(l.line)))
        .fix_all(fixes(facts, oom))
}

fn held(load: &LoadFacts) -> String {
    let parts: Vec<String> = load
        .gpus_with_weights()
        .iter()
        .map(|gpu| format!("{gpu} held {}", Bytes(load.allocated_on(gpu))))
        .collect();
    if parts.is_empty() { String::new() } else { format!(" By then {}.", parts.join(", ")) }
}

fn fixes(facts: &Facts, oom: &Oom) -> Vec<Fix> {
    let mut fixes = Vec::new();
    let layers = oom.load.and_then(|l| l.share()).map(|(s, _)| s.offloaded);
    let fewer = layers.filter(|&n| n > 1).map(|n| fewer_layers(oom, n));
    let own = matches!(facts.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
    let expected = "the load succeeds";
    if let Some(n) = fewer {
        let text = n.to_string();
        let fix = if own { Fix::flag("-ngl", text) } else { Fix::option("num_gpu", text) };
        fixes.push(fix.why(
            format!("{} layers are too many; {n} leave room for what failed", layers.unwrap_or(0)),
            expected,
        ));
    }
    // A fifth more than what failed, at least 512 MiB, is where to begin.
    let reserve = oom.bytes.filter(|_| oom.part == OomPart::Compute).unwrap_or(512 << 20);
    let reserve = reserve.clamp(512 << 20, 8 << 30);
    if own && fewer.is_none() {
        fixes.push(
            Fix::system(
                "fewer layers",
                "a smaller -ngl (n_gpu_layers of a binding); with several GPUs \
                a -ts that gives this one less",
            )
            .why("what is on the GPU already leaves no room for this allocation", expected),
        );
    }
    if own && facts.fits_by_itself() == Some(false) {
        // Nothing to reserve: this build takes what it is told.
    } else if own {
        fixes.push(Fix::flag("-fitt", (reserve >> 20).to_string()).why(
            "MiB that newer llama.cpp keeps free on every GPU when it chooses layers by itself (without \
             -ngl)",
            expected,
        ));
    } else if facts.ollama_since(Version(0, 30, 0)) == Some(true) {
        fixes.push(
            Fix::env("LLAMA_ARG_FIT_TARGET", (reserve >> 20).to_string())
                .why("MiB that are kept free on every GPU when layers are placed", expected),
        );
    } else if facts.ollama_since(Version(0, 1, 45)) != Some(false) {
        fixes.push(Fix::env("OLLAMA_GPU_OVERHEAD", reserve.to_string()).why(
            format!("{} of every GPU are left out of the plan", Bytes(reserve)),
            "fewer layers in the plan, and a load that succeeds",
        ));
    }
    if let Some(load) = oom.load
        && let Some(sizes) = load.sizes()
    {
        fixes.extend(room::fewer_sequences(&load, &sizes));
    }
    if oom.at_run_time {
        fixes.push(
            Fix::system(
                "see who holds it",
                "nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv",
            )
            .why(
                "another program may have taken what was free when the model was loaded",
                "one program",
            ),
        );
    }
    if facts.log.engine == Engine::Ollama && fixes.len() < 2 {
        fixes.push(
            Fix::option("num_gpu", "a few layers fewer than the log says").why(
                "the number that is offloaded stands in `offloaded N/M layers to GPU`",
                expected,
            ),
        );
    }
    fixes
}

/// Layers that make room for what failed on its GPU, with the same number on every GPU.
fn fewer_layers(oom: &Oom, offloaded: u64) -> u64 {
    let Some(load) = oom.load else { return offloaded - 1 };
    let gpus = load.gpus_used().unwrap_or(1).max(1) as u64;
    let held: u64 = load.gpus_with_weights().iter().map(|g| load.allocated_on(g)).sum();
    let layer = (held / offloaded).max(1);
    let less = oom.bytes.map_or(gpus, |bytes| bytes.div_ceil(layer) * gpus);
    offloaded.saturating_sub(less.clamp(1, offloaded - 1)).max(1)
}
