//! Who else used the processors while a model ran, by the system's own counters.
//!
//! Threads meet at a barrier after every node, so one that is kept waiting keeps all others waiting:
//! other load costs more than its share. Only Linux tells (`/proc`); elsewhere nothing is said. The
//! counters tick a hundred times a second, so of a run of less than half a second nothing is judged.

use std::fs;
use std::ops::Sub;

use super::document::ProcessorUse;

/// Ticks of all processors together below which counters are too coarse.
const TICKS_MIN: u64 = 50;

/// Shares of the processors' time above which other load is worth a warning.
const OTHERS_MAX: f64 = 0.1;
const STOLEN_MAX: f64 = 0.02;

/// The counters at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorCounters {
    /// Ticks of the processors that this process may use: all, those with work, and those in which
    /// the hypervisor ran something else.
    all: u64,
    busy: u64,
    stolen: u64,
    /// Ticks of this process.
    own: u64,
    /// Times that a thread of this process waited of itself, and that it was made to.
    voluntary: u64,
    involuntary: u64,
}

impl Sub for ProcessorCounters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            busy: self.busy.saturating_sub(before.busy),
            stolen: self.stolen.saturating_sub(before.stolen),
            own: self.own.saturating_sub(before.own),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
        }
    }
}

impl ProcessorCounters {
    /// The counters now; `None` where the system does not tell.
    pub fn now() -> Option<Self> {
        let read = |path: &str| fs::read_to_string(path).ok();
        let status = read("/proc/self/status")?;
        let mut counters = processors(&read("/proc/stat")?, &allowed(&status)?)?;
        counters.own = own_ticks(&read("/proc/self/stat")?)?;
        for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
            // A thread may end meanwhile.
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            counters.voluntary += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            counters.involuntary += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Some(counters)
    }

    /// What happened since `before`.
    pub fn since(self, before: Self) -> ProcessorUse {
        let d = self - before;
        let share = |ticks: u64| if d.all < TICKS_MIN { 0.0 } else { ticks as f64 / d.all as f64 };
        ProcessorUse {
            others_share: share(d.busy.saturating_sub(d.own)),
            stolen_share: share(d.stolen),
            voluntary_switches: d.voluntary,
            involuntary_switches: d.involuntary,
        }
    }
}

/// What a person should know about it, in words.
pub fn contention(used: &ProcessorUse) -> Vec<String> {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let mut warnings = Vec::new();
    if used.others_share > OTHERS_MAX {
        warnings.push(format!(
            "other processes used {} of the processors' time while the model ran, and threads were \
             interrupted {} times: every thread waits for the slowest one, so speeds are too low \
             and vary",
            percent(used.others_share),
            used.involuntary_switches
        ));
    }
    if used.stolen_share > STOLEN_MAX {
        warnings.push(format!(
            "the hypervisor gave {} of the processors' time to other machines while the model ran: \
             speeds are too low and vary",
            percent(used.stolen_share)
        ));
    }
    warnings
}

/// The number after a field's name.
fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|l| l.strip_prefix(name))?.trim().parse().ok()
}

/// The processors that a process may use, from its status: `0-3,8`.
fn allowed(status: &str) -> Option<Vec<u64>> {
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?.trim();
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend(first..=last.min(first.saturating_add(1 << 16)));
    }
    Some(cpus)
}

/// Ticks of these processors: `cpu0 user nice system idle iowait irq softirq steal …`.
fn processors(stat: &str, cpus: &[u64]) -> Option<ProcessorCounters> {
    let mut sum = ProcessorCounters::default();
    for line in stat.lines() {
        let mut words = line.split_ascii_whitespace();
        let number = words.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
        if number.is_none_or(|n| !cpus.contains(&n)) {
            continue;
        }
        // What guests used is in user and nice already.
        let ticks: Vec<u64> = words.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks[..] else {
            return None;
        };
        sum.busy += user + nice + system + irq + softirq;
        sum.stolen += steal;
        sum.all += user + nice + system + irq + softirq + idle + iowait + steal;
    }
    (sum.all > 0).then_some(sum)
}

/// User and system ticks from `/proc/self/stat`, where the name in brackets may hold anything.
fn own_ticks(stat: &str) -> Option<u64> {
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  900 0 0 0 0 0 0 0 0 0\n\
                        cpu0 100 10 20 300 5 1 2 7 50 0\n\
                        cpu1 200 0 0 100 0 0 0 0 0 0\n\
                        cpu2 9 9 9 9 9 9 9 9 9 9\nintr 5\n";

    #[test]
    fn only_allowed_processors_count() {
        let sum = processors(STAT, &[0, 1]).unwrap();
        assert_eq!((sum.busy, sum.stolen, sum.all), (333, 7, 745));
        assert_eq!(processors(STAT, &[7]), None);
        assert_eq!(processors("cpu0 1 2\n", &[0]), None);
        let status = "Name:\tx\nCpus_allowed_list:\t0-2,5\nvoluntary_ctxt_switches:\t12\n\
                      nonvoluntary_ctxt_switches:\t34\n";
        assert_eq!(allowed(status), Some(vec![0, 1, 2, 5]));
        assert_eq!(allowed("Cpus_allowed_list:\tx\n"), None);
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(34));
    }

    #[test]
    fn own_time_follows_the_name() {
        let stat = "123 (a ) b) R 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20\n";
        assert_eq!(own_ticks(stat), Some(100));
        assert_eq!(own_ticks("123 no name"), None);
    }

    #[test]
    fn shares_are_of_the_processors_time_in_between() {
        let before = ProcessorCounters { all: 1000, busy: 500, ..ProcessorCounters::default() };
        let after = ProcessorCounters {
            all: 1200,
            busy: 680,
            stolen: 10,
            own: 120,
            voluntary: 3,
            involuntary: 40,
        };
        let used = after.since(before);
        assert_eq!((used.others_share, used.stolen_share), (0.3, 0.05));
        assert_eq!((used.voluntary_switches, used.involuntary_switches), (3, 40));
        let warnings = contention(&used);
        assert!(warnings[0].contains("30 %") && warnings[0].contains("40 times"), "{warnings:?}");
        assert!(warnings[1].contains("hypervisor gave 5 %"), "{warnings:?}");
        assert!(contention(&after.since(after)).is_empty());
        // Too short to tell.
        let soon = ProcessorCounters { all: 1010, busy: 510, ..before };
        assert_eq!(soon.since(before).others_share, 0.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells() {
        let counters = ProcessorCounters::now().unwrap();
        assert!(counters.all >= counters.busy && counters.all > 0);
    }
}
