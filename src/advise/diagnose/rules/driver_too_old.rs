//! `driver-too-old`: the runtime refuses a driver that is older than itself.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::remedy;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::Notice;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the driver is older than what the engine's GPU libraries need",
    doc: Doc {
        detects: "The CUDA or ROCm runtime of the engine refuses to start because the installed \
            driver is older than the runtime.",
        costs: "No GPU work is possible until the driver is updated: everything runs on the CPU, \
            though the card is listed.",
        evidence: "The runtime's own words or numbers: CUDA error 35 (\"CUDA driver version is \
            insufficient for CUDA runtime version\"), Ollama's \"NVIDIA driver too old\", \"AMD \
            driver is too old\", or CUDA error 222 (\"the provided PTX was compiled with an \
            unsupported toolchain\"), which means that the driver cannot compile code of a newer \
            toolkit. Errors 803 and 804 are about a driver and a library that do not belong \
            together: see driver-container-mismatch.",
        fix: "Update the driver: CUDA 12 libraries need 525 or newer, CUDA 13 libraries 580; \
            Ollama from 0.30 on asks for 550, and 570 for cards of compute capability 5.0 to 6.2. \
            Where the driver cannot be updated, use an older release of the engine, or its Vulkan \
            backend.",
        example: r"ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version",
    },
    follows_from: &[],
    check,
};

const ID: &str = "driver-too-old";

fn check(facts: &Facts) -> Verdict {
    // The runtime itself says so: nothing else can be meant.
    let certain = ["cuda-driver-too-old", "cuda-ptx-too-new", "amd-driver-too-old"];
    if let Some(notice) = facts.any_notice(&certain) {
        // Without any NVIDIA driver the runtime says the same; next to an AMD card that is likely.
        let other = facts.notice("amdgpu-present").is_some() && facts.gpus().next().is_none();
        let runtime = notice.fields.get("code").is_some_and(|c| c == "35");
        return found(facts, notice, if other && runtime { 0.4 } else { 0.95 }).into();
    }
    // This text also stands for a driver that is not there at all.
    if let Some(notice) = facts.notice("cuda-driver-too-old-or-missing") {
        return found(facts, notice, 0.7).into();
    }
    // A warning that the library for old drivers is chosen; releases 0.7 to 0.11.10 did not ship
    // it.
    let old = facts.notice("cuda-driver-old").filter(|_| facts.without_gpu().is_some());
    old.map(|notice| found(facts, notice, 0.8)).into()
}

fn found(facts: &Facts, notice: &Notice, confidence: f64) -> Finding {
    let amd = notice.id == "amd-driver-too-old";
    let vendor = if amd { "AMD" } else { "NVIDIA" };
    let field = |name: &str| notice.fields.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let driver = field("driver").or_else(|| facts.gpus().find_map(|d| d.driver.as_deref()));
    let having = driver.map(|d| format!(" ({d})")).unwrap_or_default();
    let needed = field("required");
    // With error 222 a model loads and the first kernel fails; the others end on the CPU.
    let impact = if notice.id == "cuda-ptx-too-new" { Impact::Failure } else { Impact::NoGpu };
    let title = if confidence < 0.5 {
        "CUDA finds no NVIDIA driver that it can use: none is there, or it is too old".to_string()
    } else {
        format!("the {vendor} driver{having} is too old for the engine's GPU libraries")
    };
    let why = if amd {
        "Ollama could not load the HIP library of the driver in the version that it was built \
            with, so AMD GPUs are not used."
            .to_string()
    } else {
        format!(
            "The CUDA runtime that comes with the engine refuses this driver{having}. It needs \
                version {}. Until then every layer is computed on the CPU.",
            needed.unwrap_or_else(|| remedy::nvidia_driver_needed(facts))
        )
    };
    let fix = if amd {
        Fix::system("update the AMD driver", "install the current Adrenalin driver and restart")
            .why("it brings the HIP library of the current ROCm", "the log names the GPU")
    } else {
        remedy::update_nvidia_driver(facts, needed)
    };
    Finding::problem(ID, impact, confidence, title)
        .because(why)
        .seen(Evidence::line(notice.first))
        .seen_if(facts.without_gpu().map(Evidence::line))
        .fix(fix)
        .fix(
            Fix::system("see both versions", "nvidia-smi | head -n 4")
                .why("\"CUDA Version\" there is the newest runtime that the driver takes", ""),
        )
}
