//! Reads watched processes and their threads at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::base::counter::{Counter, Subject};
use crate::base::event::AbsentReason;
use crate::observe::telemetry::readings::Readings;
use crate::observe::telemetry::unread::Unread;

use super::process::{self, Process};
use super::processors::TICKS_PER_S;
use super::roots::Roots;

/// A process at the reading before.
#[derive(Debug)]
struct Before {
    at_ns: u64,
    started_ticks: u64,
    ticks: u64,
    /// Nanoseconds that each thread ran.
    threads: BTreeMap<u32, u64>,
}

/// Reads some processes, again and again.
#[derive(Debug)]
pub struct ProcessReader {
    roots: Roots,
    pids: Vec<u32>,
    before: BTreeMap<u32, Before>,
    readings: u64,
    slow_every: u64,
}

impl ProcessReader {
    /// A reader of no process yet, which reads what is dear at every `slow_every`th reading.
    pub fn new(roots: Roots, slow_every: u64) -> Self {
        let slow_every = slow_every.max(1);
        Self { roots, pids: Vec::new(), before: BTreeMap::new(), readings: 0, slow_every }
    }

    /// From now on these processes count.
    pub fn watch(&mut self, pids: &[u32]) {
        if self.pids != pids {
            self.pids = pids.to_vec();
            self.before.retain(|pid, _| pids.contains(pid));
        }
    }

    /// Reads everything into `to`.
    pub fn read(&mut self, to: &mut Readings) {
        let slow = self.readings.is_multiple_of(self.slow_every);
        self.readings += 1;
        for pid in self.pids.clone() {
            let subject = Subject::Process(pid);
            if !to.wants(Some(subject), None) {
                continue;
            }
            match process::read(&self.roots, pid) {
                Ok(process) => {
                    to.present(Some(subject));
                    self.process(pid, process, to);
                    if slow {
                        self.switches(pid, to);
                    }
                }
                Err(error) => {
                    self.end(pid, to);
                    to.absent(Some(subject), None, gone(pid, &error));
                }
            }
        }
    }

    fn end(&mut self, pid: u32, to: &mut Readings) {
        // One that was gone before has been told.
        let Some(before) = self.before.remove(&pid) else { return };
        to.forget(Subject::Process(pid));
        for thread in before.threads.into_keys() {
            to.forget(Subject::Thread(thread));
        }
    }

    fn process(&mut self, pid: u32, now: Process, to: &mut Readings) {
        let same = self.before.get(&pid).map(|b| b.started_ticks == now.stat.started_ticks);
        if same == Some(false) {
            // The id was given to another process.
            self.end(pid, to);
        }
        let subject = Subject::Process(pid);
        if !to.knows(subject) {
            let command = process::command(&self.roots, pid);
            let details = command.map(|c| ("command".to_string(), c)).into_iter().collect();
            to.describe(subject, now.stat.name.as_str(), details);
        }
        totals(subject, &now, to);
        let before = self.before.remove(&pid);
        let elapsed_ns = before.as_ref().map_or(0, |b| to.at_ns().saturating_sub(b.at_ns));
        let cpus = |ns: u64| (elapsed_ns > 0).then(|| ns as f64 / elapsed_ns as f64);
        if let Some(before) = &before
            && let Some(used) = cpus(now.stat.ticks.saturating_sub(before.ticks) * TICK_NS)
        {
            to.sample(subject, Counter::CpuUsed, used);
        }
        let wait_ns: u64 = now.threads.iter().map(|t| t.wait_ns).sum();
        to.sample(subject, Counter::RunQueueWait, wait_ns as f64);
        let mut threads = BTreeMap::new();
        for thread in now.threads {
            let subject = Subject::Thread(thread.id);
            if !to.knows(subject) {
                let owner = vec![("process".to_string(), pid.to_string())];
                let name = process::thread_name(&self.roots, pid, thread.id);
                to.describe(subject, name.unwrap_or_default(), owner);
            }
            let ns_before = before.as_ref().and_then(|b| b.threads.get(&thread.id));
            let used = ns_before.and_then(|b| cpus(thread.run_ns.saturating_sub(*b)));
            if let Some(used) = used {
                to.sample(subject, Counter::CpuUsed, used);
            }
            threads.insert(thread.id, thread.run_ns);
        }
        let ended: BTreeSet<u32> = before.iter().flat_map(|b| b.threads.keys()).copied().collect();
        for thread in ended.iter().filter(|t| !threads.contains_key(t)) {
            to.forget(Subject::Thread(*thread));
        }
        let (at_ns, started_ticks) = (to.at_ns(), now.stat.started_ticks);
        let before = Before { at_ns, started_ticks, ticks: now.stat.ticks, threads };
        self.before.insert(pid, before);
    }

    fn switches(&self, pid: u32, to: &mut Readings) {
        // One that has ended in between is told at the next reading.
        if let Ok((voluntary, involuntary)) = process::read_switches(&self.roots, pid) {
            let subject = Subject::Process(pid);
            to.sample(subject, Counter::VoluntarySwitches, voluntary as f64);
            to.sample(subject, Counter::InvoluntarySwitches, involuntary as f64);
        }
    }
}

/// Nanoseconds of a tick.
const TICK_NS: u64 = 1_000_000_000 / TICKS_PER_S;

fn totals(subject: Subject, now: &Process, to: &mut Readings) {
    to.sample(subject, Counter::Threads, f64::from(now.stat.threads));
    to.sample(subject, Counter::MajorFaults, now.stat.major_faults as f64);
    to.sample(subject, Counter::MinorFaults, now.stat.minor_faults as f64);
    if let Some(bytes) = now.resident_bytes {
        to.sample(subject, Counter::Resident, bytes as f64);
    }
    if let Some((read, written)) = now.storage_bytes {
        to.sample(subject, Counter::DiskRead, read as f64);
        to.sample(subject, Counter::DiskWritten, written as f64);
    } else {
        let text = "only its owner may see what a process reads from storage";
        let hint = "run as the same user, or as root, to see it";
        let why = Unread::new(AbsentReason::NoPermission, text, hint);
        to.absent(Some(subject), Some(Counter::DiskRead), why);
    }
}

fn gone(pid: u32, error: &io::Error) -> Unread {
    if error.kind() == io::ErrorKind::NotFound {
        let text = format!("process {pid} has ended, or is in another container");
        return Unread::new(AbsentReason::Ended, text, "");
    }
    Unread::file(&format!("proc/{pid}"), error)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::base::counter::Source;
    use crate::base::event::Event;

    use super::*;

    fn write(root: &Path, ticks: u64, started: u64) {
        for folder in ["proc/5", "proc/5/task/6"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).unwrap();
            let stat = format!("5 (w) R 1 0 0 0 0 0 0 0 0 0 {ticks} 0 0 0 0 0 1 0 {started}\n");
            fs::write(folder.join("stat"), stat).unwrap();
            fs::write(folder.join("status"), "VmRSS:\t 4 kB\n").unwrap();
        }
    }

    fn look(reader: &mut ProcessReader, readings: &mut Readings, at_ns: u64) -> Vec<Event> {
        readings.begin(at_ns);
        reader.read(readings);
        readings.take()
    }

    fn used(events: &[Event], of: Subject) -> Option<f64> {
        events.iter().find_map(|e| match e {
            Event::Sample(s) if s.subject == of && s.counter == Counter::CpuUsed => Some(s.value),
            _ => None,
        })
    }

    #[test]
    fn a_process_is_followed_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = ProcessReader::new(Roots::under(folder.path()), 4);
        let mut readings = Readings::new(Source::Process);
        reader.watch(&[5]);
        write(folder.path(), 100, 9);
        let first = look(&mut reader, &mut readings, 1_000_000_000);
        assert_eq!(used(&first, Subject::Process(5)), None);
        assert_eq!(first.iter().filter(|e| matches!(e, Event::Subject(_))).count(), 2);
        assert_eq!(first.iter().filter(|e| matches!(e, Event::Absent(_))).count(), 1);
        write(folder.path(), 125, 9);
        let next = look(&mut reader, &mut readings, 1_500_000_000);
        assert_eq!(used(&next, Subject::Process(5)), Some(0.5));
        assert_eq!(used(&next, Subject::Thread(6)), Some(0.5));
        // Another process with the same id.
        write(folder.path(), 1, 77);
        let other = look(&mut reader, &mut readings, 2_000_000_000);
        assert_eq!(used(&other, Subject::Process(5)), None);
        assert_eq!(other.iter().filter(|e| matches!(e, Event::Subject(_))).count(), 2);
        fs::remove_dir_all(folder.path().join("proc/5")).unwrap();
        let end = look(&mut reader, &mut readings, 2_500_000_000);
        let [Event::Absent(absent)] = &end[..] else { panic!("{end:?}") };
        assert_eq!(absent.reason, AbsentReason::Ended);
        assert!(look(&mut reader, &mut readings, 2_600_000_000).is_empty());
        assert!(look(&mut reader, &mut readings, 60_000_000_000).is_empty());
    }
}
