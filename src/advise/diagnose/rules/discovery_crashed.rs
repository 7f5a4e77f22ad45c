//! `discovery-crashed`: the process that looks for GPUs stopped before it answered.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the search for GPUs crashed",
    doc: Doc {
        detects: "The process that lists the GPUs ended before it answered, for another reason \
            than time.",
        costs: "The server goes on without the GPUs of that library.",
        evidence: "\"failure during GPU discovery\" with \"runner crashed\" or another error that \
            is not a timeout. Messages of the driver near it tell more, and findings from them \
            come first.",
        fix: "Look at the messages of the libraries with OLLAMA_DEBUG=1; update driver and \
            engine; leave out the library that crashes (OLLAMA_VULKAN=0, or OLLAMA_LLM_LIBRARY \
            with the name of the one that works).",
        example: r#"msg="failure during GPU discovery" OLLAMA_LIBRARY_PATH="[...]" extra_envs=map[] error="runner crashed""#,
    },
    follows_from: &[
        "driver-too-old",
        "driver-container-mismatch",
        "driver-state-lost-after-suspend",
        "nvidia-uvm-not-ready",
        "driver-not-loaded",
        "container-no-gpu-access",
        "container-gpu-lost-cgroup",
        "cpu-lacks-avx",
        "gpu-compute-capability-too-low",
        "rocm-gfx-unsupported",
        "rocm-runtime-dep-missing",
        "rocm-device-permission",
        "discovery-timeout",
        "gpu-hardware-error",
    ],
    check,
};

const ID: &str = "discovery-crashed";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("discovery-failed") else { return Verdict::Clear };
    let error = notice.fields.get("error").map_or("", String::as_str);
    if ["timeout", "deadline", "timed out"].iter().any(|t| error.contains(t)) {
        return Verdict::Clear;
    }
    let impact = if facts.gpus().next().is_some() { Impact::Risk } else { Impact::NoGpu };
    Finding::problem(ID, impact, 0.6, format!("the search for GPUs failed: {error}"))
        .because(
            "Ollama lists the GPUs in a process of its own, once for each library. This process \
             ended before it answered, so the GPUs of that library are not used. A crash there is \
             usually one of the driver, or a library that does not fit it.",
        )
        .seen(Evidence::line(notice.first))
        .seen_if(facts.no_gpu_line().map(Evidence::line))
        .fix(fix_env(facts.version(), "OLLAMA_DEBUG", "1").why(
            "the messages of the libraries are then in the log",
            "lines of ggml_cuda_init or of the driver before the failure",
        ))
        .fix(
            Fix::system(
                "see whether the driver works",
                "nvidia-smi || rocminfo || vulkaninfo --summary",
            )
            .why("what fails there fails in the engine too", "the GPU is listed"),
        )
        .into()
}
