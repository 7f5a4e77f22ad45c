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
    let Some(notice) = facts.notice("discovery-failed") else {
        return filtered(facts).into();
    };
    let error = notice.fields.get("error").map_or("", String::as_str);
    if ["timeout", "deadline", "timed out"].iter().any(|t| error.contains(t)) {
        return Verdict::Clear;
    }
    let impact = if facts.gpus().next().is_some() { Impact::Risk } else { Impact::NoGpu };
    Finding::problem(ID, impact, 0.6, format!("the search for GPUs failed: {error}"))
        .because(
            "Ollama lists the GPUs in a process of its own, once for each library. This process \
                ended before it answered, so the GPUs of that library are not used. A crash there \
                is usually one of the driver, or a library that does not fit it.",
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

/// A GPU that was listed and then did not start with any of the libraries.
fn filtered(facts: &Facts) -> Option<Finding> {
    let notice = facts.notice("device-filtered")?;
    let line = facts.no_gpu_line().filter(|_| facts.gpus().next().is_none())?;
    let library = notice.fields.get("library").map_or("", String::as_str);
    let finding = Finding::problem(
        ID,
        Impact::NoGpu,
        0.6,
        format!("a GPU was listed, but the {library} library did not start on it"),
    )
    .because(
        "Ollama starts every library on every GPU that it lists, and leaves out those on which \
            that fails. None was left. Usual reasons: the GPU is older than the library supports, \
            the driver is older than the library needs, or the GPU's memory is full.",
    )
    .seen(Evidence::line(notice.first))
    .seen(Evidence::line(line));
    Some(
        finding
            .fix(fix_env(facts.version(), "OLLAMA_DEBUG", "2").why(
                "the library's own message about why it did not start is then in the log",
                "a line of ggml_cuda_init or of ROCm",
            ))
            .fix(
                Fix::system(
                    "see the GPU and its driver",
                    "nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.used \
                        --format=csv",
                )
                .why("compute capability and driver version decide which library can start", ""),
            ),
    )
}
