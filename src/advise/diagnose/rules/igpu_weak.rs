//! `igpu-weak`: a GPU that shares the CPU's memory brings little for answers.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Buffer, BufferKind, Device, LibraryKind};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "an integrated GPU does the work",
    doc: Doc {
        detects: "All weights are on an integrated GPU, which reads them through the same memory \
            as the CPU.",
        costs: "Answers are bound by that memory: the CPU alone is about as fast, and sometimes \
            faster. Prompts usually gain.",
        evidence: "The only device that holds weights shares the host's memory (uma: 1, \
            type=iGPU), and is not one of the large ones with fast memory (Apple, Strix Halo, \
            GB10, Jetson). Whether the CPU is faster only a comparison tells.",
        fix: "Compare with the CPU alone (num_gpu 0, -ngl 0) for your prompts and answers, and \
            keep the faster. Memory of two channels, and faster modules, help both. A discrete \
            GPU, where there is one, is the better device: see vulkan-device-selection.",
        example: "ggml_vulkan: 0 = Intel(R) UHD Graphics 770 (ADL-S GT1) (Intel open-source Mesa \
            driver) | uma: 1 | fp16: 1",
    },
    follows_from: &["vulkan-device-selection"],
    check,
};

const ID: &str = "igpu-weak";

fn check(facts: &Facts) -> Verdict {
    let Some(load) = facts.last_load() else { return Verdict::Clear };
    let holds = |b: &&Buffer| b.kind == BufferKind::Model && !b.is_host() && b.bytes > 0;
    let mut used = load.load.buffers.iter().filter(holds);
    let Some(buffer) = used.next() else { return Verdict::Clear };
    if used.any(|b| b.device != buffer.device) {
        return Verdict::Clear;
    }
    let named = facts.gpus().find(|d| d.name.as_deref() == Some(buffer.device.as_str()));
    let mut all = facts.gpus();
    let only = all.next().filter(|_| all.next().is_none());
    let Some(device) = named.or(only) else { return Verdict::Clear };
    if !is_small(device) {
        return Verdict::Clear;
    }
    let name = device.description.clone().unwrap_or_else(|| buffer.device.clone());
    // The share is a guess that only orders it: an integrated GPU is between half and twice the
    // speed of the CPU beside it.
    Finding::problem(
        ID,
        Impact::Slower(0.2),
        0.55,
        format!("{name} is an integrated GPU: it reads the weights through the CPU's memory"),
    )
    .because(
        "An answer needs all weights read once per token, and this GPU reads them from the same \
            memory as the CPU, so it cannot be much faster. With few execution units, or an old \
            driver, it is slower. Prompts are bound by arithmetic and usually gain.",
    )
    .seen(Evidence::line(device.line))
    .seen(Evidence::line(buffer.line))
    .fix(if facts.is_ollama() {
        Fix::option("num_gpu", "0").why(
            "computes on the CPU, to compare",
            "tokens per second of the same prompt with and without it",
        )
    } else {
        Fix::flag("-ngl", "0").why(
            "computes on the CPU, to compare",
            "tokens per second of the same prompt with and without it",
        )
    })
    .into()
}

/// An integrated GPU with the memory of an ordinary computer.
fn is_small(device: &Device) -> bool {
    let name = device.description.as_deref().unwrap_or_default().to_ascii_lowercase();
    // These have wide memory of 200 GB/s and more.
    let wide = ["apple", "8060s", "8050s", "strix halo", "gb10", "gh200", "orin", "thor", "xavier"];
    if wide.iter().any(|w| name.contains(w)) {
        return false;
    }
    // Where the log does not say so, the name does. Cards have a number after Arc, RX or Pro.
    let known = [
        "uhd graphics",
        "iris",
        "intel(r) graphics",
        "hd graphics",
        "radeon graphics",
        "radeon(tm) graphics",
        "660m",
        "680m",
        "740m",
        "760m",
        "780m",
        "840m",
        "860m",
        "880m",
        "890m",
    ];
    match (device.library, device.integrated) {
        // Of Macs only those with Intel's are meant.
        (Some(LibraryKind::Metal), _) => name.contains("intel"),
        (_, Some(integrated)) => integrated,
        (_, None) => known.iter().any(|k| name.contains(k)),
    }
}
