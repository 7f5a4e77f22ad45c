//! Processors, memory, swap and memory nodes.

use std::collections::BTreeSet;

use crate::base::units::Bytes;
use crate::observe::telemetry::host::{Roots, machine as host};

use super::Inspection;

pub(super) fn inspect(roots: &Roots, machine: &mut Inspection) {
    let cpuinfo = roots.text("proc/cpuinfo").unwrap_or_default();
    let name = host::processor_name(&cpuinfo).unwrap_or("a processor that does not tell its name");
    let threads = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    let cores: BTreeSet<(String, String)> = cores(&cpuinfo);
    let value = match cores.len() {
        0 => format!("{name}, {threads} hardware threads"),
        n => format!("{name}, {n} cores, {threads} hardware threads"),
    };
    machine.see("processor", "processor", value);
    governor(roots, machine);
    let nodes = host::nodes(roots);
    if nodes.len() > 1 {
        let each: Vec<String> = nodes
            .iter()
            .map(|n| format!("{} CPUs with {}", n.cores.len(), Bytes(n.memory_bytes)))
            .collect();
        machine.see_with(
            "processor",
            "memory nodes",
            each.join("; "),
            "weights in the memory of one node are read more slowly from the other",
        );
    }
    if let Ok(text) = roots.text("sys/kernel/mm/transparent_hugepage/enabled") {
        let chosen = text.split('[').nth(1).and_then(|t| t.split(']').next()).unwrap_or("?");
        machine.see("memory", "transparent huge pages", chosen);
    }
    memory(roots, machine);
}

fn cores(cpuinfo: &str) -> BTreeSet<(String, String)> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|l| l.strip_prefix(name))?;
        Some(line.trim_start_matches(['\t', ' ', ':']).to_string())
    };
    let blocks = cpuinfo.split("\n\n");
    blocks.filter_map(|b| Some((field(b, "physical id")?, field(b, "core id")?))).collect()
}

fn governor(roots: &Roots, machine: &mut Inspection) {
    let path = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    let Ok(governor) = roots.text(path) else { return };
    let governor = governor.trim();
    let hint = match governor {
        "powersave" | "conservative" => {
            "with some drivers this keeps clocks low under short work: `sudo cpupower frequency-set \
             -g performance` to compare"
        }
        _ => "",
    };
    machine.see_with("processor", "clock governor", governor, hint);
}

fn memory(roots: &Roots, machine: &mut Inspection) {
    let Ok(text) = roots.text("proc/meminfo") else {
        machine.see_with("memory", "memory", "not told", "/proc/meminfo cannot be read here");
        return;
    };
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? << 10)
    };
    if let Some((total, free)) = bytes("MemTotal:").zip(bytes("MemAvailable:")) {
        machine.see("memory", "memory", format!("{} of {} available", Bytes(free), Bytes(total)));
    }
    match bytes("SwapTotal:").zip(bytes("SwapFree:")) {
        Some((0, _)) | None => machine.see("memory", "swap", "none"),
        Some((total, free)) => {
            let used = Bytes(total.saturating_sub(free));
            machine.see("memory", "swap", format!("{used} of {} used", Bytes(total)));
        }
    }
}
