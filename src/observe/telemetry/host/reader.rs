//! Reads the machine at one time: processors, memory, pressure, and the limits of the control group.

use std::collections::BTreeMap;

use crate::base::counter::{Counter, Subject};
use crate::base::units::Bytes;
use crate::observe::telemetry::readings::Readings;
use crate::observe::telemetry::unread::Unread;

use super::processors::{Ticks, clocks_hz, cores};
use super::roots::Roots;
use super::{cgroup, machine};

/// Reads the machine, again and again.
#[derive(Debug)]
pub struct HostReader {
    roots: Roots,
    page_bytes: u64,
    /// The process whose control group counts.
    pid: u32,
    cores: BTreeMap<u16, Ticks>,
    readings: u64,
    slow_every: u64,
}

impl HostReader {
    /// A reader that also reads what changes seldom at every `slow_every`th reading.
    pub fn new(roots: Roots, slow_every: u64) -> Self {
        Self {
            page_bytes: roots.page_bytes(),
            roots,
            pid: std::process::id(),
            cores: BTreeMap::new(),
            readings: 0,
            slow_every: slow_every.max(1),
        }
    }

    /// From now on the control group of this process counts, not our own.
    pub fn watch(&mut self, pid: u32) {
        self.pid = pid;
    }

    /// Reads everything into `to`.
    pub fn read(&mut self, to: &mut Readings) {
        let slow = self.readings.is_multiple_of(self.slow_every);
        self.readings += 1;
        if !to.knows(Subject::Host) {
            self.describe(to);
        }
        self.processors(to);
        self.file(to, "proc/meminfo", Counter::MemoryAvailable, |text, _| {
            let memory = machine::memory(text)?;
            let available = (Counter::MemoryAvailable, memory.available_bytes as f64);
            Some(vec![available, (Counter::SwapUsed, memory.swap_used_bytes as f64)])
        });
        self.file(to, "proc/vmstat", Counter::SwapIn, |text, reader| {
            let (read, written) = machine::swapped_pages(text)?;
            let bytes = |pages: u64| (pages * reader.page_bytes) as f64;
            Some(vec![(Counter::SwapIn, bytes(read)), (Counter::SwapOut, bytes(written))])
        });
        for (name, counter) in [
            ("cpu", Counter::PressureCpu),
            ("memory", Counter::PressureMemory),
            ("io", Counter::PressureIo),
        ] {
            let share = move |text: &str| Some(vec![(counter, machine::pressure(text)?)]);
            self.file(to, &format!("proc/pressure/{name}"), counter, |text, _| share(text));
        }
        self.limits(to);
        if slow {
            self.clocks(to);
        }
    }

    fn describe(&self, to: &mut Readings) {
        let cpuinfo = self.roots.text("proc/cpuinfo").unwrap_or_default();
        let mut details = Vec::new();
        for node in machine::nodes(&self.roots) {
            let value = format!("{} processors, {}", node.cores.len(), Bytes(node.memory_bytes));
            details.push((format!("numa_node_{}", node.number), value));
        }
        for group in cgroup::limits(&self.roots, self.pid) {
            if let Some(cpus) = group.cpus_max {
                details.push((format!("cpu_limit_of_{}", group.path), format!("{cpus} CPUs")));
            }
        }
        let name = machine::processor_name(&cpuinfo).unwrap_or_default();
        to.describe(Subject::Host, name, details);
    }

    fn processors(&mut self, to: &mut Readings) {
        let subject = Some(Subject::Host);
        if !to.wants(subject, Some(Counter::CpuBusy)) {
            return;
        }
        let text = match self.roots.text("proc/stat") {
            Ok(text) => text,
            Err(error) => {
                to.absent(subject, Some(Counter::CpuBusy), Unread::file("proc/stat", &error));
                return;
            }
        };
        let mut all = Ticks::default();
        for (number, now) in cores(&text) {
            let Some(before) = self.cores.insert(number, now) else { continue };
            let ticks = now - before;
            all += ticks;
            if let Some((busy, _)) = ticks.shares() {
                to.sample(Subject::Core(number), Counter::CpuBusy, busy);
            }
        }
        if let Some((busy, stolen)) = all.shares() {
            to.sample(Subject::Host, Counter::CpuBusy, busy);
            to.sample(Subject::Host, Counter::CpuStolen, stolen);
        }
    }

    /// Reads a file of the machine; `counter` stands for what it tells.
    fn file(
        &self,
        to: &mut Readings,
        path: &str,
        counter: Counter,
        read: impl FnOnce(&str, &Self) -> Option<Vec<(Counter, f64)>>,
    ) {
        let subject = Some(Subject::Host);
        if !to.wants(subject, Some(counter)) {
            return;
        }
        let values = match self.roots.text(path) {
            Ok(text) => read(&text, self).ok_or_else(|| Unread::text_of(path)),
            Err(error) => Err(Unread::file(path, &error)),
        };
        match values {
            Ok(values) => {
                for (counter, value) in values {
                    to.sample(Subject::Host, counter, value);
                }
            }
            Err(why) => to.absent(subject, Some(counter), why),
        }
    }

    /// The tightest limit counts, and how often any group above the process was held.
    fn limits(&self, to: &mut Readings) {
        let groups = cgroup::limits(&self.roots, self.pid);
        let limits = groups.iter().filter_map(|g| Some((g, g.cpus_max?)));
        if let Some((_, cpus)) = limits.clone().min_by(|a, b| a.1.total_cmp(&b.1)) {
            let (mut periods, mut ns) = (0, 0);
            for (group, _) in limits {
                periods += group.throttled_periods;
                ns += group.throttled_ns;
            }
            to.sample(Subject::Host, Counter::CgroupCpus, cpus);
            to.sample(Subject::Host, Counter::CgroupThrottled, periods as f64);
            to.sample(Subject::Host, Counter::CgroupThrottledTime, ns as f64);
        }
        let limits = groups.iter().filter_map(|g| Some((g, g.memory_bytes_max?)));
        if let Some((group, bytes)) = limits.min_by_key(|l| l.1) {
            to.sample(Subject::Host, Counter::CgroupMemoryMax, bytes as f64);
            if let Some(used) = group.memory_bytes_used {
                to.sample(Subject::Host, Counter::CgroupMemory, used as f64);
            }
        }
    }

    fn clocks(&self, to: &mut Readings) {
        let counter = Some(Counter::CpuClock);
        if !to.wants(Some(Subject::Host), counter) {
            return;
        }
        let text = self.roots.text("proc/cpuinfo").unwrap_or_default();
        let clocks = clocks_hz(&text);
        if clocks.is_empty() {
            to.absent(Some(Subject::Host), counter, Unread::text_of("proc/cpuinfo"));
        }
        for (number, hz) in clocks {
            to.sample(Subject::Core(number), Counter::CpuClock, hz);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::base::counter::Source;
    use crate::base::event::Event;

    use super::*;

    fn value(events: &[Event], subject: Subject, counter: Counter) -> Option<f64> {
        events.iter().find_map(|e| match e {
            Event::Sample(s) if s.subject == subject && s.counter == counter => Some(s.value),
            _ => None,
        })
    }

    #[test]
    fn shares_need_two_readings_and_what_is_missing_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/stat", "cpu0 10 0 0 90 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0\n");
        write("proc/pressure/cpu", "some avg10=50.00 avg60=0.92 avg300=1.39 total=1\n");
        write("proc/vmstat", "pswpin 2\npswpout 0\n");
        let mut reader = HostReader::new(Roots::under(folder.path()), 1);
        let mut readings = Readings::new(Source::Host);
        reader.read(&mut readings);
        let events = readings.take();
        assert_eq!(value(&events, Subject::Host, Counter::CpuBusy), None);
        assert_eq!(value(&events, Subject::Host, Counter::PressureCpu), Some(0.5));
        assert_eq!(value(&events, Subject::Host, Counter::SwapIn), Some(8192.0));
        let absent = events.iter().filter(|e| matches!(e, Event::Absent(_))).count();
        // Memory, two kinds of pressure, clocks.
        assert_eq!(absent, 4);
        write("proc/stat", "cpu0 60 0 0 140 0 0 0 0\ncpu1 0 0 0 190 0 0 0 10\n");
        reader.read(&mut readings);
        let events = readings.take();
        assert_eq!(value(&events, Subject::Core(0), Counter::CpuBusy), Some(0.5));
        assert_eq!(value(&events, Subject::Host, Counter::CpuBusy), Some(0.25));
        assert_eq!(value(&events, Subject::Host, Counter::CpuStolen), Some(0.05));
        assert!(!events.iter().any(|e| matches!(e, Event::Absent(_))));
    }
}
