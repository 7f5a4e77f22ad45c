//! `driver-state-lost-after-suspend`: CUDA fails in a process or a module that was alive before the
//! machine slept.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::remedy;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::Notice;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the GPU's context was lost when the machine slept",
    doc: Doc {
        detects: "CUDA answers with an unknown error (999), or a model that had answered fails in \
            a kernel, because the machine was suspended or hibernated in between.",
        costs: "New loads find no GPU and fall back to the CPU; a model that was loaded fails at \
            the next request.",
        evidence: "CUDA error 999 when CUDA starts, or \"CUDA error: unspecified launch failure\" \
            or \"unknown error\" in a process that had served requests. Lines of the kernel or of \
            systemd about sleep make it certain. The log cannot tell this from a module that is \
            stale for another reason (see nvidia-uvm-not-ready): the cure is the same. Errors 35, \
            800, 803 and 804 are other faults.",
        fix: "Stop the programs that hold the GPU, then reload the module: `sudo rmmod nvidia_uvm \
            && sudo modprobe nvidia_uvm`. To keep it from coming back, let the driver save its \
            memory: NVreg_PreserveVideoMemoryAllocations=1 and the nvidia-suspend services.",
        example: r"cudaSetDevice err: 999
cudaSetDevice err: 999",
    },
    follows_from: &[],
    check,
};

const ID: &str = "driver-state-lost-after-suspend";

fn check(facts: &Facts) -> Verdict {
    let slept = facts.notice("system-suspended");
    if let Some(notice) = facts.notice("cuda-unknown-error") {
        let worked = facts.log.devices.iter().any(|d| d.line < notice.first);
        // 999 is the driver's word for a state that it does not understand. With a line about
        // sleep it is certain; when the same log had the GPU before, likely. In a container a
        // missing /dev/nvidia-uvm is the more common reason.
        let confidence = match (slept.is_some(), worked, facts.host()) {
            (true, ..) => 0.95,
            (false, true, _) => 0.75,
            (false, false, Host::Container) => 0.35,
            (false, false, _) => 0.6,
        };
        return found(facts, notice, slept, Impact::NoGpu, confidence).into();
    }
    let Some(notice) = facts.notice("cuda-run-failed") else { return Verdict::Clear };
    let between = slept.is_some_and(|s| s.first < notice.last);
    let served = facts.log.requests.kept().any(|r| {
        r.line < notice.last && r.status.is_none_or(|s| s < 500) && r.duration_ns.is_some()
    });
    // A kernel that fails in a process that had worked: sleep is the most common reason on a
    // desktop, but unstable hardware and faults of a kernel look the same.
    match (between, served) {
        (true, _) => found(facts, notice, slept, Impact::Failure, 0.9).into(),
        (false, true) => found(facts, notice, slept, Impact::Failure, 0.5).into(),
        (false, false) => Verdict::need(
            "whether the machine slept before the kernel failed",
            "journalctl -k | grep -iE 'suspend|resume|nvidia'",
        ),
    }
}

fn found(
    facts: &Facts,
    notice: &Notice,
    slept: Option<&Notice>,
    impact: Impact,
    confidence: f64,
) -> Finding {
    let (title, why) = if impact == Impact::Failure {
        (
            "a loaded model lost its GPU: CUDA failed in a process that had worked before",
            "The process had answered, and then a CUDA call failed although nothing was changed. \
                The usual reason is that the machine slept in between: the driver does not keep \
                the GPU's memory over a suspend unless it is told to. Kernel lines with `NVRM: \
                Xid` would point to the hardware instead.",
        )
    } else {
        (
            "CUDA does not start: unknown error 999, the driver's state after a suspend",
            "The driver is installed and answers, but its module for compute (nvidia_uvm) is in a \
                state that it cannot use. That is what is left after a suspend or hibernation. \
                Until the module is loaded anew, every model runs on the CPU.",
        )
    };
    let keep = Fix::system(
        "keep it from coming back",
        "echo 'options nvidia NVreg_PreserveVideoMemoryAllocations=1' | sudo tee \
            /etc/modprobe.d/nvidia-power.conf && sudo systemctl enable nvidia-suspend \
            nvidia-resume nvidia-hibernate",
    )
    .why("the driver then saves the GPU's memory before it sleeps", "models answer after a resume");
    Finding::problem(ID, impact, confidence, title)
        .because(why)
        .seen(Evidence::line(notice.first))
        .seen_if(slept.map(|s| Evidence::said(s.first, "the machine slept")))
        .seen_if(facts.without_gpu().map(Evidence::line))
        .fix(remedy::reload_uvm())
        .fix(keep)
}
