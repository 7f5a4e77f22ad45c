//! `container-gpu-lost-cgroup`: the container lost the permission to open the GPU's devices while
//! it ran.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the container had the GPU and lost it",
    doc: Doc {
        detects: "A container that had the GPU may not open it any more: the rules for its \
            devices were reset while it ran.",
        costs: "New loads fail or run on the CPU until the container is started anew, though the \
            host still sees the GPU.",
        evidence: "CUDA error 800 (not permitted), or \"Failed to initialize NVML: Unknown \
            Error\" in a process that could use the GPU before. It happens when systemd reloads \
            its units while docker uses the systemd cgroup driver. Error 999 is a stale driver, \
            error 100 a container without devices.",
        fix: "Start the container anew. So that it does not come back: pass the devices by name \
            (`--device /dev/nvidia0 ...`) or through CDI, or let docker use cgroupfs \
            (\"exec-opts\": [\"native.cgroupdriver=cgroupfs\"] in /etc/docker/daemon.json).",
        example: r"cuda driver library failed to get device context 800",
    },
    follows_from: &[],
    check,
};

const ID: &str = "container-gpu-lost-cgroup";

fn check(facts: &Facts) -> Verdict {
    let lost = ["cuda-not-permitted", "nvml-unknown-error", "nvml-permission"];
    let Some(notice) = facts.any_notice(&lost) else { return Verdict::Clear };
    let worked = facts.log.devices.iter().any(|d| d.line < notice.first);
    let confidence = match notice.id.as_str() {
        "nvml-permission" => 0.6,
        _ if worked => 0.95,
        _ => 0.88,
    };
    let what = if notice.id == "cuda-not-permitted" { "CUDA error 800" } else { "NVML's error" };
    Finding::problem(
        ID,
        Impact::NoGpu,
        confidence,
        "the container may not open the GPU's devices any more",
    )
    .because(format!(
        "{what} means that the device files may not be opened. On the host that does not happen \
            by itself; in a container it does when systemd reloads its units (`systemctl \
            daemon-reload`, package updates): docker with the systemd cgroup driver then loses \
            the rules that let the container use the GPU. Models that are loaded keep working, \
            new ones do not."
    ))
    .seen(Evidence::line(notice.first))
    .seen_if(facts.no_gpu_line().filter(|l| *l > notice.first).map(Evidence::line))
    .fix(
        Fix::system("start the container anew", "docker restart CONTAINER")
            .why("the rules are made when it starts", "the log names the GPU again"),
    )
    .fix(
        Fix::system(
            "keep it from coming back",
            "add \"exec-opts\": [\"native.cgroupdriver=cgroupfs\"] to /etc/docker/daemon.json, \
                then sudo systemctl restart docker",
        )
        .why(
            "systemd then does not manage the devices of containers",
            "`sudo systemctl daemon-reload` leaves the GPU usable",
        ),
    )
    .into()
}
