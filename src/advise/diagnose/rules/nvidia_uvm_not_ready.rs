//! `nvidia-uvm-not-ready`: the driver is there, its module for compute is not.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::remedy;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "NVIDIA's module for compute is not loaded or not usable",
    doc: Doc {
        detects: "The module nvidia_uvm, through which CUDA reaches the GPU, is missing, not \
            loaded, or not visible where the engine runs.",
        costs: "CUDA does not start and everything runs on the CPU, while nvidia-smi, which does \
            not need the module, works.",
        evidence: "Lines that name nvidia_uvm or /dev/nvidia-uvm as missing or failed; CUDA error \
            3 (\"initialization error\"); or CUDA error 999 without a sign of sleep, above all in \
            a container, where the device file is often not passed in. Error 999 with a suspend \
            in the log is driver-state-lost-after-suspend.",
        fix: "`sudo nvidia-modprobe -u` or `sudo modprobe nvidia_uvm` on the host, at every start \
            by a line `nvidia_uvm` in /etc/modules-load.d. In LXC pass /dev/nvidia-uvm and \
            /dev/nvidia-uvm-tools in as well, and load the module before the container starts.",
        example: r"modprobe: FATAL: Module nvidia_uvm not found in directory /lib/modules/6.8.0-47-generic",
    },
    follows_from: &[],
    check,
};

const ID: &str = "nvidia-uvm-not-ready";

fn check(facts: &Facts) -> Verdict {
    let slept = facts.notice("system-suspended").is_some();
    let (notice, confidence) = if let Some(notice) = facts.notice("nvidia-uvm-problem") {
        // With sleep in the log, a module that is "in use" is part of that story.
        (notice, if slept { 0.4 } else { 0.9 })
    } else if let Some(notice) = facts.notice("cuda-unknown-error").filter(|_| !slept) {
        // Without a sign of sleep both are possible; in a container the device file is missing
        // more often than the host has slept.
        (notice, if facts.host() == Host::Container { 0.6 } else { 0.45 })
    } else if let Some(notice) = facts.notice("cuda-initialization-error") {
        (notice, 0.5)
    } else {
        return Verdict::Clear;
    };
    let load =
        Fix::system("load the module", "sudo nvidia-modprobe -u -c=0 || sudo modprobe nvidia_uvm")
            .why("it also makes the device files", "`ls /dev/nvidia-uvm` shows the file");
    let lxc = Fix::system(
        "LXC",
        "lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file    \
         # and the same for /dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm-tools",
    )
    .why("a container sees only the device files that it is given", "CUDA starts in the container");
    let found = Finding::problem(
        ID,
        Impact::NoGpu,
        confidence,
        "CUDA does not start: the module nvidia_uvm is not loaded or not reachable",
    )
    .because(
        "The display driver works, but CUDA talks to the GPU through a second module, nvidia_uvm, \
            and its file /dev/nvidia-uvm. It is loaded on demand by privileged programs only, so \
            after a boot, or in a container, it can be missing.",
    )
    .seen(Evidence::line(notice.first))
    .seen_if(facts.without_gpu().map(Evidence::line))
    .fix(load);
    let found = if facts.host() == Host::Native { found } else { found.fix(lxc) };
    found.fix(remedy::reload_uvm()).into()
}
