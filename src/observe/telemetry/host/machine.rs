//! The machine as a whole: memory, swap, pressure, memory nodes.

use super::processors::list;
use super::roots::{Roots, field};

/// Memory and swap, in bytes, from `/proc/meminfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What programs can still have without swapping.
    pub available_bytes: u64,
    /// What is in swap; 0 where there is none.
    pub swap_used_bytes: u64,
}

/// Reads `/proc/meminfo`.
pub fn memory(meminfo: &str) -> Option<Memory> {
    let bytes = |name: &str| Some(field(meminfo, name)? << 10);
    let swap = bytes("SwapTotal:").zip(bytes("SwapFree:"));
    Some(Memory {
        available_bytes: bytes("MemAvailable:")?,
        swap_used_bytes: swap.map_or(0, |(total, free)| total.saturating_sub(free)),
    })
}

/// Pages read back from swap and written to it, from `/proc/vmstat`.
pub fn swapped_pages(vmstat: &str) -> Option<(u64, u64)> {
    Some((field(vmstat, "pswpin ")?, field(vmstat, "pswpout ")?))
}

/// Share of the last ten seconds in which some task waited, from a file of `/proc/pressure`:
/// `some avg10=1.18 avg60=0.92 avg300=1.39 total=13173183579`.
pub fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|l| l.strip_prefix("some "))?;
    let percent: f64 =
        some.split_ascii_whitespace().find_map(|w| w.strip_prefix("avg10="))?.parse().ok()?;
    Some(percent / 100.0)
}

/// A memory node and the processors beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub number: u16,
    /// Its processors; none where a node only has memory.
    pub cores: Vec<u16>,
    /// Its memory.
    pub memory_bytes: u64,
}

/// The machine's memory nodes; one on most machines, none where the kernel does not tell.
pub fn nodes(roots: &Roots) -> Vec<Node> {
    let read = |path: String| roots.text(&path).ok();
    let online = read("sys/devices/system/node/online".to_string());
    let numbers = online.as_deref().and_then(list).unwrap_or_default();
    let node = |number: u16| -> Option<Node> {
        let folder = format!("sys/devices/system/node/node{number}");
        let meminfo = read(format!("{folder}/meminfo"))?;
        let total = format!("Node {number} MemTotal:");
        Some(Node {
            number,
            cores: list(&read(format!("{folder}/cpulist"))?)?,
            memory_bytes: field(&meminfo, &total)? << 10,
        })
    };
    numbers.into_iter().filter_map(node).collect()
}

/// The processors' product name, from `/proc/cpuinfo`; many Arm systems do not tell.
pub fn processor_name(cpuinfo: &str) -> Option<&str> {
    let value = cpuinfo.lines().find_map(|l| l.strip_prefix("model name"))?;
    Some(value.trim_start_matches([' ', '\t', ':']).trim_end()).filter(|n| !n.is_empty())
}

/// Pages of a process per memory node, from `/proc/PID/numa_maps`. Walking a large process's
/// mappings takes the kernel long: not to be read at every sample.
pub fn pages_per_node(numa_maps: &str) -> Vec<(u16, u64)> {
    let mut sums: std::collections::BTreeMap<u16, u64> = std::collections::BTreeMap::new();
    for word in numa_maps.split_ascii_whitespace() {
        let node = word.strip_prefix('N').and_then(|w| w.split_once('='));
        let node = node.and_then(|(n, pages)| Some((n.parse().ok()?, pages.parse::<u64>().ok()?)));
        if let Some((number, pages)) = node {
            *sums.entry(number).or_default() += pages;
        }
    }
    sums.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn memory_and_pressure() {
        let text = "MemTotal: 100 kB\nMemAvailable:  40 kB\nSwapTotal: 30 kB\nSwapFree: 10 kB\n";
        let read = memory(text).unwrap();
        assert_eq!((read.available_bytes, read.swap_used_bytes), (40 << 10, 20 << 10));
        assert_eq!(memory("MemTotal: 1 kB\n"), None);
        assert_eq!(swapped_pages("pgfault 1\npswpin 3\npswpout 4\n"), Some((3, 4)));
        let text = "some avg10=12.50 avg60=0.92 avg300=1.39 total=1\nfull avg10=0.00\n";
        assert_eq!(pressure(text), Some(0.125));
        assert_eq!(pressure("full avg10=0.00\n"), None);
    }

    #[test]
    fn processors_have_a_name_or_not() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC 9654\n";
        assert_eq!(processor_name(text), Some("AMD EPYC 9654"));
        assert_eq!(processor_name("processor\t: 0\nBogoMIPS\t: 50\n"), None);
    }

    #[test]
    fn nodes_with_processors_and_without() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("sys/devices/system/node");
        for (number, cores) in [(0, "0-1\n"), (1, "\n")] {
            let node = base.join(format!("node{number}"));
            fs::create_dir_all(&node).unwrap();
            fs::write(node.join("cpulist"), cores).unwrap();
            fs::write(node.join("meminfo"), format!("Node {number} MemTotal:  8 kB\n")).unwrap();
        }
        fs::write(base.join("online"), "0-1\n").unwrap();
        let nodes = nodes(&Roots::under(folder.path()));
        assert_eq!(nodes.len(), 2);
        assert_eq!((&nodes[0].cores[..], nodes[0].memory_bytes), (&[0, 1][..], 8192));
        assert!(nodes[1].cores.is_empty());
        let maps = "7f00 default anon=3 dirty=3 N0=2 N1=1 kernelpagesize_kB=4\n7f01 default N1=5\n";
        assert_eq!(pages_per_node(maps), [(0, 2), (1, 6)]);
    }
}
