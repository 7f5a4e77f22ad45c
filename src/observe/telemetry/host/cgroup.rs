//! Control groups: how much processor time and memory a process may have, and whether it was held.
//!
//! Both versions: v2 has one tree at `/sys/fs/cgroup`, v1 one per controller. A limit may stand at
//! the process's group or at any group above, so all of them are read. Inside a container the path
//! may be the host's while only the container's part is mounted; groups that are not there are passed
//! over, and the mounted root, which is the container's own group, is always looked at.

use super::roots::{Roots, field};

/// Limits of one group and what they did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Its path in the tree: `/system.slice/ollama.service`.
    pub path: String,
    /// Processors that it may use at once; `None` without a limit.
    pub cpus_max: Option<f64>,
    /// Periods in which it had used up its time, of those in which it ran.
    pub throttled_periods: u64,
    /// See [`Self::throttled_periods`].
    pub periods: u64,
    /// Time for which it was held, summed over processors.
    pub throttled_ns: u64,
    /// Memory that it may use.
    pub memory_bytes_max: Option<u64>,
    /// Memory that it uses.
    pub memory_bytes_used: Option<u64>,
}

/// The limit of `cpu.max`: `200000 100000`, `max 100000`.
pub fn cpus_max_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    cpus(quota.parse().ok()?, period.parse().ok()?)
}

/// The limit of `cpu.cfs_quota_us`, where -1 is none, and `cpu.cfs_period_us`.
pub fn cpus_max_v1(quota: &str, period: &str) -> Option<f64> {
    cpus(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn cpus(quota_us: i64, period_us: i64) -> Option<f64> {
    (quota_us > 0 && period_us > 0).then(|| quota_us as f64 / period_us as f64)
}

/// Periods, throttled periods and nanoseconds of `cpu.stat`, whose last field differs by version.
pub fn throttling(stat: &str) -> Option<(u64, u64, u64)> {
    let ns = field(stat, "throttled_time ")
        .or_else(|| Some(field(stat, "throttled_usec ")?.saturating_mul(1000)))?;
    Some((field(stat, "nr_periods ")?, field(stat, "nr_throttled ")?, ns))
}

/// A limit of memory; v1 writes "none" as a number near 2^63.
pub fn memory_max(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

/// The path of a process's group for a v1 controller, or in the v2 tree, from `/proc/PID/cgroup`.
pub fn path_of<'a>(cgroup: &'a str, controller: Option<&str>) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controller {
            None => (number == "0" && controllers.is_empty()).then_some(path),
            Some(name) => controllers.split(',').any(|c| c == name).then_some(path),
        }
    })
}

/// A group and all above it, innermost first, ending with the root.
fn with_parents(path: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = path.trim_end_matches('/');
    while let Some((parent, _)) = rest.rsplit_once('/') {
        paths.push(rest.to_string());
        rest = parent;
    }
    paths.push(String::new());
    paths
}

/// The groups of a process that limit processors or memory, innermost first.
pub fn limits(roots: &Roots, pid: u32) -> Vec<Group> {
    let Ok(cgroup) = roots.text(&format!("proc/{pid}/cgroup")) else { return Vec::new() };
    let mut groups = Vec::new();
    if let Some(path) = path_of(&cgroup, None) {
        groups.extend(with_parents(path).iter().map(|p| group_v2(roots, p)));
    }
    if let Some(path) = path_of(&cgroup, Some("cpu")) {
        groups.extend(with_parents(path).iter().map(|p| cpu_v1(roots, p)));
    }
    if let Some(path) = path_of(&cgroup, Some("memory")) {
        groups.extend(with_parents(path).iter().map(|p| memory_v1(roots, p)));
    }
    groups.retain(|g| g.cpus_max.is_some() || g.memory_bytes_max.is_some());
    groups
}

fn group_v2(roots: &Roots, path: &str) -> Group {
    // A v1 system may mount the new tree beside the old ones.
    let read = |file: &str| {
        let at = |top: &str| roots.text(&format!("sys/fs/cgroup{top}{path}/{file}")).ok();
        at("").or_else(|| at("/unified"))
    };
    let mut group = Group { path: shown(path), ..Group::default() };
    group.cpus_max = read("cpu.max").as_deref().and_then(cpus_max_v2);
    group.memory_bytes_max = read("memory.max").as_deref().and_then(memory_max);
    group.memory_bytes_used = read("memory.current").and_then(|t| t.trim().parse().ok());
    group.set_throttling(read("cpu.stat").as_deref());
    group
}

fn cpu_v1(roots: &Roots, path: &str) -> Group {
    let read = |file: &str| {
        let at = |tree: &str| roots.text(&format!("sys/fs/cgroup/{tree}{path}/{file}")).ok();
        at("cpu").or_else(|| at("cpu,cpuacct"))
    };
    let mut group = Group { path: shown(path), ..Group::default() };
    let limit = read("cpu.cfs_quota_us").zip(read("cpu.cfs_period_us"));
    group.cpus_max = limit.and_then(|(quota, period)| cpus_max_v1(&quota, &period));
    group.set_throttling(read("cpu.stat").as_deref());
    group
}

fn memory_v1(roots: &Roots, path: &str) -> Group {
    let read = |file: &str| roots.text(&format!("sys/fs/cgroup/memory{path}/{file}")).ok();
    Group {
        path: shown(path),
        memory_bytes_max: read("memory.limit_in_bytes").as_deref().and_then(memory_max),
        memory_bytes_used: read("memory.usage_in_bytes").and_then(|t| t.trim().parse().ok()),
        ..Group::default()
    }
}

fn shown(path: &str) -> String {
    if path.is_empty() { "/".to_string() } else { path.to_string() }
}

impl Group {
    fn set_throttling(&mut self, stat: Option<&str>) {
        let told = stat.and_then(throttling).unwrap_or_default();
        (self.periods, self.throttled_periods, self.throttled_ns) = told;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn limits_in_both_spellings() {
        assert_eq!(cpus_max_v2("250000 100000\n"), Some(2.5));
        assert_eq!(cpus_max_v2("max 100000\n"), None);
        assert_eq!(cpus_max_v1("-1\n", "100000\n"), None);
        assert_eq!(cpus_max_v1("50000\n", "100000\n"), Some(0.5));
        let v2 = "usage_usec 5\nnr_periods 100\nnr_throttled 7\nthrottled_usec 350\n";
        assert_eq!(throttling(v2), Some((100, 7, 350_000)));
        let v1 = "nr_periods 100\nnr_throttled 7\nthrottled_time 350\n";
        assert_eq!(throttling(v1), Some((100, 7, 350)));
        // Without a limit v2 leaves these lines out.
        assert_eq!(throttling("usage_usec 5\n"), None);
        assert_eq!(memory_max("max\n"), None);
        assert_eq!(memory_max("9223372036854771712\n"), None);
        assert_eq!(memory_max("1073741824\n"), Some(1 << 30));
        assert_eq!(path_of("2:cpu,cpuacct:/a\n0::/b:c\n", Some("cpuacct")), Some("/a"));
        assert_eq!(path_of("2:cpu,cpuacct:/a\n0::/b:c\n", None), Some("/b:c"));
        assert_eq!(path_of("2:cpuset:/a\n", Some("cpu")), None);
        assert_eq!(with_parents("/a/b"), ["/a/b", "/a", ""]);
        assert_eq!(with_parents("/"), [""]);
    }

    #[test]
    fn a_limit_above_the_process_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "proc/5/cgroup", "0::/pod/engine\n");
        write(root, "sys/fs/cgroup/pod/engine/cpu.max", "max 100000\n");
        write(root, "sys/fs/cgroup/pod/cpu.max", "400000 100000\n");
        let stat = "nr_periods 9\nnr_throttled 3\nthrottled_usec 2\n";
        write(root, "sys/fs/cgroup/pod/cpu.stat", stat);
        let groups = limits(&Roots::under(root), 5);
        assert_eq!(groups.len(), 1);
        let group = &groups[0];
        assert_eq!((group.path.as_str(), group.cpus_max), ("/pod", Some(4.0)));
        assert_eq!((group.periods, group.throttled_periods, group.throttled_ns), (9, 3, 2000));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "proc/5/cgroup", "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n");
        write(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n");
        write(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
        write(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "1024\n");
        let groups = limits(&Roots::under(root), 5);
        assert_eq!(groups[0].cpus_max, Some(1.5));
        assert_eq!(
            (groups[1].memory_bytes_max, groups[1].memory_bytes_used),
            (Some(4096), Some(1024))
        );
        assert!(limits(&Roots::under(root), 6).is_empty());
    }
}
