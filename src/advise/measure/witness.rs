//! What else went on while a sample was taken, seen from outside.
//!
//! A [`Witness`] is made once, and watches each repetition from [`Witness::begin`] to [`Watch::end`].
//! It reads counters only, judges nothing, and costs a look at the GPUs four times a second. Where
//! there is no NVIDIA GPU, no Linux or no permission, what they would tell is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::units::Bytes;
use crate::observe::telemetry::host::Roots;
use crate::observe::telemetry::host::cgroup::{self, Group};
use crate::observe::telemetry::host::family::FamilyCounters;
use crate::observe::telemetry::nvml::throttle;
use crate::observe::telemetry::nvml::{GpuWatch, Library, Seen, SeenProcess, is_here};

use super::Conditions;

/// Watches repetitions.
#[derive(Debug)]
pub struct Witness {
    roots: Roots,
    library: Option<Arc<Library>>,
}

impl Default for Witness {
    fn default() -> Self {
        Self::new()
    }
}

impl Witness {
    /// A witness of this machine; opens the GPUs' management library if there is one.
    pub fn new() -> Self {
        Self::of(Roots::default(), Library::open().ok())
    }

    /// A witness of what is under other roots, with a library or none.
    pub fn of(roots: Roots, library: Option<Library>) -> Self {
        Self { roots, library: library.map(Arc::new) }
    }

    /// Begins to watch. `targets` are the processes that are measured; they, what descends from them,
    /// and this process with its own descendants are not *others*. A target that this process starts
    /// later is one of these.
    pub fn begin(&self, targets: &[u32]) -> Watch {
        let mut pids = targets.to_vec();
        pids.push(std::process::id());
        let gpus = self.library.as_ref();
        Watch {
            counters: FamilyCounters::read(&self.roots, &pids),
            groups: groups(&self.roots, &pids),
            gpus: gpus.and_then(|l| GpuWatch::begin(Arc::clone(l), self.roots.clone())),
            roots: self.roots.clone(),
            pids,
        }
    }
}

/// One repetition being watched.
#[derive(Debug)]
pub struct Watch {
    roots: Roots,
    pids: Vec<u32>,
    counters: Option<FamilyCounters>,
    groups: BTreeMap<String, Group>,
    gpus: Option<GpuWatch>,
}

impl Watch {
    /// Ends watching and tells.
    pub fn end(self) -> Conditions {
        let counters = FamilyCounters::read(&self.roots, &self.pids);
        let shares = counters.as_ref().zip(self.counters.as_ref()).and_then(|(n, b)| n.since(b));
        let mut conditions = Conditions {
            stolen_share: shares.map(|s| s.stolen),
            others_share: shares.and_then(|s| s.others),
            throttled: held(&self.groups, &groups(&self.roots, &self.pids)),
            foreign_gpu_processes: Vec::new(),
        };
        if let Some(watch) = self.gpus {
            let seen = watch.end();
            let readings = self.counters.iter().chain(&counters);
            let own: BTreeSet<u32> = readings.flat_map(FamilyCounters::members).copied().collect();
            gpus(&seen, is_here(&self.roots).then_some(&own), &mut conditions);
        }
        conditions
    }
}

/// All groups that limit one of the processes, by path.
fn groups(roots: &Roots, pids: &[u32]) -> BTreeMap<String, Group> {
    let limits = pids.iter().flat_map(|pid| cgroup::limits(roots, *pid));
    limits.filter(|g| g.cpus_max.is_some()).map(|g| (g.path.clone(), g)).collect()
}

/// Groups that were held by their quota in between.
fn held(before: &BTreeMap<String, Group>, after: &BTreeMap<String, Group>) -> Vec<String> {
    let mut told = Vec::new();
    for (path, now) in after {
        let Some(then) = before.get(path) else { continue };
        let periods = now.throttled_periods.saturating_sub(then.throttled_periods);
        if periods == 0 {
            continue;
        }
        told.push(format!(
            "the control group {path} used up its processor time in {periods} of {} periods and was \
             held for {:.2} s (limit: {} CPUs)",
            now.periods.saturating_sub(then.periods),
            now.throttled_ns.saturating_sub(then.throttled_ns) as f64 / 1e9,
            now.cpus_max.unwrap_or(0.0),
        ));
    }
    told
}

/// What the GPUs tell. `own` are our processes; `None` where the driver numbers them otherwise, and
/// then nobody can be told from another.
fn gpus(seen: &Seen, own: Option<&BTreeSet<u32>>, conditions: &mut Conditions) {
    // One that began and ended in between is known by its parents.
    let is_own = |pid: &u32, process: &SeenProcess| {
        own.is_some_and(|own| {
            own.contains(pid) || process.ancestors.iter().any(|id| own.contains(id))
        })
    };
    let ours = seen.processes.iter().filter(|((_, pid), process)| is_own(pid, process));
    let used: BTreeSet<u8> = ours.map(|((gpu, _), _)| *gpu).collect();
    for (&(gpu, bit), looks) in &seen.throttled {
        // Without knowing which GPUs are the target's, all count.
        if own.is_some() && !used.is_empty() && !used.contains(&gpu) {
            continue;
        }
        for reason in throttle::reasons(bit) {
            let words = reason.words;
            let text = format!("GPU {gpu}: {words}, in {looks} of {} readings", seen.looks);
            conditions.throttled.push(text);
        }
    }
    for ((gpu, pid), process) in &seen.processes {
        if used.contains(gpu) && !is_own(pid, process) {
            let vram = process.vram_bytes.map(|v| format!(" with {}", Bytes(v)));
            let vram = vram.unwrap_or_default();
            let name = if process.name.is_empty() { "a process" } else { &process.name };
            let text = format!("{name} (process {pid}) on GPU {gpu}{vram}");
            conditions.foreign_gpu_processes.push(text);
        }
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

    fn machine(root: &Path, busy: u64, own: u64, throttled: u64) {
        let me = std::process::id();
        write(root, "proc/stat", &format!("cpu0 {busy} 0 0 {} 0 0 0 0\n", 2000 - busy));
        let stat = format!("{me} (x) R 1 0 0 0 0 0 0 0 0 0 {own} 0 0 0 0 0 1 0 9\n");
        write(root, &format!("proc/{me}/stat"), &stat);
        write(root, &format!("proc/{me}/status"), "Cpus_allowed_list:\t0\n");
        write(root, &format!("proc/{me}/cgroup"), "0::/pod\n");
        write(root, "sys/fs/cgroup/pod/cpu.max", "200000 100000\n");
        let stat = format!("nr_periods {busy}\nnr_throttled {throttled}\nthrottled_usec 0\n");
        write(root, "sys/fs/cgroup/pod/cpu.stat", &stat);
    }

    #[test]
    fn others_and_quotas_are_told() {
        let folder = tempfile::tempdir().unwrap();
        machine(folder.path(), 100, 10, 0);
        let witness = Witness::of(Roots::under(folder.path()), None);
        let watch = witness.begin(&[]);
        machine(folder.path(), 300, 60, 5);
        // The idle time fell as the busy time rose, so that no time passed: nothing can be told.
        assert_eq!(watch.end().others_share, None);
        machine(folder.path(), 100, 10, 0);
        let watch = witness.begin(&[]);
        machine(folder.path(), 300, 60, 5);
        write(folder.path(), "proc/stat", "cpu0 300 0 0 2060 0 0 0 40\n");
        let conditions = watch.end();
        assert_eq!(conditions.others_share, Some(0.375));
        assert_eq!(conditions.stolen_share, Some(0.1));
        let [text] = &conditions.throttled[..] else { panic!("{conditions:?}") };
        assert!(text.contains("/pod") && text.contains("5 of 200 periods"), "{text}");
    }

    #[test]
    fn only_the_targets_gpus_count() {
        let child = |name: &str, parent| SeenProcess {
            name: name.to_string(),
            vram_bytes: Some(1 << 30),
            ancestors: vec![parent, 1],
        };
        let process = |name| child(name, 2);
        let seen = Seen {
            looks: 8,
            throttled: BTreeMap::from([((0, 0x20), 3), ((1, 0x40), 8)]),
            processes: BTreeMap::from([
                ((0, 7), process("llama-server")),
                ((0, 8), process("python3")),
                ((0, 6), child("bench", 7)),
                ((1, 9), process("other")),
            ]),
        };
        let own = BTreeSet::from([7]);
        let mut conditions = Conditions::default();
        gpus(&seen, Some(&own), &mut conditions);
        assert_eq!(conditions.throttled, ["GPU 0: temperature limit, in 3 of 8 readings"]);
        let told = "python3 (process 8) on GPU 0 with 1.00 GiB";
        assert_eq!(conditions.foreign_gpu_processes, [told]);
        // A container numbers processes for itself.
        let mut conditions = Conditions::default();
        gpus(&seen, None, &mut conditions);
        assert_eq!((conditions.throttled.len(), conditions.foreign_gpu_processes.len()), (2, 0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        let watch = Witness::of(Roots::default(), None).begin(&[]);
        let until = std::time::Instant::now() + std::time::Duration::from_millis(700);
        while std::time::Instant::now() < until {
            std::hint::black_box(0);
        }
        let conditions = watch.end();
        let others = conditions.others_share.unwrap();
        assert!((0.0..=1.0).contains(&others), "{conditions:?}");
    }
}
