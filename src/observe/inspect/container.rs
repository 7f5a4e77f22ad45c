//! Whether this is a container, and what its control group allows.

use crate::base::units::Bytes;
use crate::observe::telemetry::host::{Roots, cgroup};

use super::Inspection;

pub(super) fn inspect(roots: &Roots, machine: &mut Inspection) {
    machine.container = kind(roots);
    let value = match machine.container {
        Some(kind) => format!("yes ({kind})"),
        None => "no sign of one".to_string(),
    };
    machine.see("container", "container", value);
    let groups = cgroup::limits(roots, std::process::id());
    let cpus = groups.iter().filter_map(|g| Some((g, g.cpus_max?)));
    if let Some((group, cpus)) = cpus.min_by(|a, b| a.1.total_cmp(&b.1)) {
        let held = match group.throttled_periods {
            0 => String::new(),
            n => format!(", used up in {n} of {} periods", group.periods),
        };
        machine.see_with(
            "container",
            "CPU quota",
            format!("{cpus} CPUs in {}{held}", group.path),
            "more threads than that hold each other up",
        );
    } else {
        machine.see("container", "CPU quota", "none");
    }
    let memory = groups.iter().filter_map(|g| Some((g, g.memory_bytes_max?)));
    if let Some((group, max)) = memory.min_by_key(|m| m.1) {
        let used = group.memory_bytes_used.map(|u| format!(", {} used", Bytes(u)));
        let value = format!("{} in {}{}", Bytes(max), group.path, used.unwrap_or_default());
        machine.see("container", "memory limit", value);
    } else {
        machine.see("container", "memory limit", "none");
    }
}

fn kind(roots: &Roots) -> Option<&'static str> {
    let there = |path: &str| roots.path(path).exists();
    let groups = roots.text("proc/1/cgroup").unwrap_or_default();
    let first = roots.text("proc/1/environ").unwrap_or_default();
    if there("run/secrets/kubernetes.io") || groups.contains("/kubepods") {
        Some("Kubernetes")
    } else if there(".dockerenv") || groups.contains("/docker") {
        Some("Docker")
    } else if there("run/.containerenv") || groups.contains("/libpod") {
        Some("Podman")
    } else if groups.contains("/lxc") || first.contains("container=lxc") {
        Some("LXC")
    } else {
        None
    }
}
