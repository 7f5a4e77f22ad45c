//! `cuda-kernel-failed`: a computation on the GPU ended with an error.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a kernel failed on the GPU",
    doc: Doc {
        detects: "A kernel ended with an error on the GPU: an illegal memory access, or an \
            unspecified failure.",
        costs: "The runner ends, the request fails, and the model is loaded anew for the next one.",
        evidence: "\"CUDA error: an illegal memory access was encountered\" or \"unspecified \
            launch failure\" without a sign of sleep and without an Xid of the hardware. Memory \
            that ran out is estimate-too-low-oom. Usually it is a fault of the engine's version \
            with this model; sometimes an overclocked or faulty card.",
        fix: "Update the engine; compare without flash attention, and with \
            GGML_CUDA_DISABLE_GRAPHS=1: when one of them helps, report it with the function that \
            the error names. Take overclocking back. `sudo dmesg | grep -i xid` shows whether the \
            driver blames the hardware.",
        example: r"CUDA error: an illegal memory access was encountered
  current device: 0, in function ggml_backend_cuda_synchronize at ggml-cuda.cu:2891",
    },
    follows_from: &["driver-state-lost-after-suspend", "gpu-hardware-error"],
    check,
};

const ID: &str = "cuda-kernel-failed";

fn check(facts: &Facts) -> Verdict {
    let failed = ["cuda-illegal-access", "cuda-run-failed"];
    let Some(notice) = facts.any_notice(&failed) else { return Verdict::Clear };
    let text = notice.fields.get("text").map_or("", String::as_str);
    let confidence = if notice.id == "cuda-illegal-access" { 0.8 } else { 0.45 };
    let compare = if facts.is_ollama() {
        fix_env(facts.version(), "OLLAMA_FLASH_ATTENTION", "0")
    } else {
        Fix::flag("-fa", "off")
    };
    Finding::problem(
        ID,
        Impact::Failure,
        confidence,
        format!("a kernel failed on the GPU {} time(s): {text}", notice.count),
    )
    .because(
        "The GPU stopped a computation, so the runner ended. With the same model and prompt again \
            and again it is a fault of the engine's version; at random it points to the card, its \
            memory or its power.",
    )
    .seen(Evidence::line(notice.first))
    .fix(
        Fix::system(
            "update the engine",
            "curl -fsSL https://ollama.com/install.sh | sh    # or the newest llama.cpp",
        )
        .why("faults of kernels are corrected often", "the same prompt is answered"),
    )
    .fix(
        compare
            .why("tells whether the attention kernel is at fault", "the same prompt is answered"),
    )
    .fix(fix_env(facts.version(), "GGML_CUDA_DISABLE_GRAPHS", "1").why(
        "tells whether CUDA graphs are at fault; slower with small models",
        "the same prompt is answered",
    ))
    .fix(
        Fix::system("ask the driver", "sudo dmesg -T | grep -i xid")
            .why("an Xid names what failed", ""),
    )
    .into()
}
