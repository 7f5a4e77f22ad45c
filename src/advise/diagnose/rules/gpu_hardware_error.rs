//! `gpu-hardware-error`: the kernel reports an Xid error, or the GPU left the bus.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the GPU or its connection reports a fault",
    doc: Doc {
        detects: "The NVIDIA driver reports an Xid error, or CUDA says that the GPU is lost.",
        costs: "Running requests fail, and the GPU may stay unusable until the machine is \
            restarted.",
        evidence: "\"NVRM: Xid (PCI:...): N\" lines of the kernel, or \"GPU is lost\" of CUDA or \
            NVML. Xid 79 is a GPU that left the bus, 48 and 63 to 95 are about memory, 13 and 31 \
            usually about software, 43 a process that was stopped.",
        fix: "Xid 79: power supply, cables, riser, heat, or a link speed that is too high. Memory \
            errors: reset the GPU (`nvidia-smi -r`) and have it checked when they return. Xid 13, \
            31 and 43 follow from software: update the engine and the driver.",
        example: r"kernel: NVRM: Xid (PCI:0000:0b:00): 79, pid=4122, name=ollama, GPU has fallen off the bus.",
    },
    follows_from: &[],
    check,
};

const ID: &str = "gpu-hardware-error";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.any_notice(&["nvidia-xid", "cuda-device-lost"]) else {
        return Verdict::Clear;
    };
    let xid: Option<u32> = notice.fields.get("xid").and_then(|x| x.parse().ok());
    let (what, confidence) = match xid {
        Some(79) => ("the GPU left the bus (Xid 79): power, cable, riser or heat", 0.95),
        Some(48 | 63..=64 | 92 | 94..=95) => ("the GPU's memory has errors", 0.9),
        // These follow from what a program did as often as from a fault of the card.
        Some(13 | 31 | 43 | 45 | 69) => ("a program did something that the GPU refused", 0.6),
        Some(_) => ("the NVIDIA driver reports an error of the GPU", 0.7),
        None => ("the GPU is lost: CUDA cannot reach it any more", 0.9),
    };
    let number = xid.map(|x| format!(" (Xid {x})")).unwrap_or_default();
    Finding::problem(ID, Impact::Failure, confidence, what)
        .because(format!(
            "The driver logged an error of the GPU{number}, {} time(s). Processes that use the \
                GPU fail from then on; the engine cannot recover by itself.",
            notice.count
        ))
        .seen(Evidence::line(notice.first))
        .fix(
            Fix::system("see all of them", "sudo dmesg -T | grep -i xid")
                .why("the number and what came before tell which part failed", ""),
        )
        .fix(
            Fix::system("reset the GPU", "sudo nvidia-smi -r    # or restart the machine")
                .why("the driver starts it anew", "`nvidia-smi` lists the GPU"),
        )
        .into()
}
