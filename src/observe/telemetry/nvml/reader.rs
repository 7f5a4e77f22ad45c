//! Reads all GPUs at one time.

use std::collections::{BTreeMap, BTreeSet};

use nvml_wrapper::Device;

use crate::base::counter::{Counter, Subject};
use crate::observe::telemetry::host::Roots;
use crate::observe::telemetry::readings::Readings;
use crate::observe::telemetry::unread::Unread;

use super::counters::{FAST, Group, LIMITS, PCIE_RATES, SLOW, UTILISATION};
use super::history::History;
use super::{Library, errors, facts, fenced, processes};

/// What is remembered of a GPU between readings.
#[derive(Debug, Default)]
struct Gpu {
    history: History,
    busy_seen_us: u64,
    processes: BTreeSet<u32>,
    readings: u64,
}

/// Reads the GPUs of a library, again and again.
#[derive(Debug)]
pub struct Reader {
    roots: Roots,
    gpus: BTreeMap<u8, Gpu>,
    /// Every which reading also reads what changes seldom.
    slow_every: u64,
}

impl Reader {
    /// A reader that also reads what changes seldom at every `slow_every`th reading.
    pub fn new(roots: Roots, slow_every: u64) -> Self {
        Self { roots, gpus: BTreeMap::new(), slow_every: slow_every.max(1) }
    }

    /// Reads everything into `to`. An error means that the library itself no longer works and should
    /// be opened again; a GPU that is lost is told in `to`.
    pub fn read(&mut self, library: &Library, to: &mut Readings) -> Result<(), Unread> {
        let count = library.count()?;
        for gpu in 0..count {
            let subject = Some(Subject::Gpu(gpu));
            if !to.wants(subject, None) {
                continue;
            }
            match self.gpu(library, gpu, count, to) {
                Ok(()) => to.present(subject),
                Err(why) => {
                    // What is known of it is stale when it comes back.
                    self.gpus.remove(&gpu);
                    to.absent(subject, None, why);
                }
            }
        }
        Ok(())
    }

    fn gpu(
        &mut self,
        library: &Library,
        gpu: u8,
        count: u8,
        to: &mut Readings,
    ) -> Result<(), Unread> {
        let device = library.device(gpu)?;
        let subject = Subject::Gpu(gpu);
        if !to.knows(subject) {
            let (name, details) = facts::describe(library, &device, gpu, count);
            to.describe(subject, name, details);
        }
        let state = self.gpus.entry(gpu).or_default();
        let reading = state.readings;
        state.readings += 1;
        if reading == 0 {
            read_groups(&device, subject, LIMITS, to)?;
        }
        utilisation(&device, subject, &mut state.history, to)?;
        read_groups(&device, subject, FAST, to)?;
        if reading.is_multiple_of(self.slow_every) {
            read_groups(&device, subject, SLOW, to)?;
            // An absent total that is tried again is not there in between either.
            if !to.wants(Some(subject), Some(Counter::PcieSent)) {
                read_groups(&device, subject, &[PCIE_RATES], to)?;
            }
            who(library, &device, gpu, state, &self.roots, to)?;
        }
        Ok(())
    }
}

fn read_groups(
    device: &Device<'_>,
    subject: Subject,
    groups: &[Group],
    to: &mut Readings,
) -> Result<(), Unread> {
    for group in groups {
        if !to.wants(Some(subject), Some(group.counters[0])) {
            continue;
        }
        match fenced(|| (group.read)(device)) {
            Ok(values) => {
                for (counter, value) in group.counters.iter().zip(values) {
                    to.sample(subject, *counter, value);
                }
            }
            Err(why) if errors::is_lost(&why) => return Err(why),
            Err(why) => {
                for counter in group.counters {
                    to.absent(Some(subject), Some(*counter), why.clone());
                }
            }
        }
    }
    Ok(())
}

/// The driver's own samples where it has them, else the mean of its last period.
fn utilisation(
    device: &Device<'_>,
    subject: Subject,
    history: &mut History,
    to: &mut Readings,
) -> Result<(), Unread> {
    let at_ns = to.at_ns();
    match fenced(|| history.read(device, at_ns)) {
        Ok(values) if !values.is_empty() => {
            for (sampled_ns, share) in values {
                to.sample_at(sampled_ns, subject, Counter::GpuBusy, share);
            }
            Ok(())
        }
        Err(why) if errors::is_lost(&why) => Err(why),
        _ => read_groups(device, subject, &[UTILISATION], to),
    }
}

/// Processes on a GPU: what each holds, and how busy it keeps the GPU.
fn who(
    library: &Library,
    device: &Device<'_>,
    gpu: u8,
    state: &mut Gpu,
    roots: &Roots,
    to: &mut Readings,
) -> Result<(), Unread> {
    let of = |pid| Subject::GpuProcess { gpu, pid };
    let found = match library.processes(gpu) {
        Ok(found) => found,
        Err(why) if errors::is_lost(&why) => return Err(why),
        Err(why) => {
            // Of all processes, which have no ids then.
            to.absent(Some(of(0)), Some(Counter::VramUsed), why);
            return Ok(());
        }
    };
    for process in &found {
        let subject = of(process.pid);
        if !to.knows(subject) {
            let name = library.process_name(roots, process.pid);
            to.describe(subject, name.unwrap_or_else(|| "unknown".to_string()), Vec::new());
        }
        if let Some(bytes) = process.vram_bytes {
            to.sample(subject, Counter::VramUsed, bytes as f64);
        }
    }
    let now: BTreeSet<u32> = found.iter().map(|p| p.pid).collect();
    for gone in state.processes.difference(&now) {
        // So that nobody takes its last value for its present one.
        to.sample(of(*gone), Counter::VramUsed, 0.0);
        to.forget(of(*gone));
    }
    for (pid, share) in processes::busy(device, &mut state.busy_seen_us).unwrap_or_default() {
        if now.contains(&pid) {
            to.sample(of(pid), Counter::GpuBusy, share);
        }
    }
    state.processes = now;
    Ok(())
}
