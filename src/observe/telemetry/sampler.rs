//! Reads counters in the background, each source on a thread of its own.
//!
//! A thread reads, hands events to the sink and sleeps until the next time; a source that is slow
//! misses times instead of holding up another or any reader. After each reading it tells what that
//! cost. Invariant: after [`Sampler::stop`], or when it is dropped, no thread is left.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::base::clock::now_ns;
use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{AbsentReason, Event};
use crate::base::sink::Sink;

use super::beat::Beat;
use super::host::{HostReader, ProcessReader, Roots};
use super::nvml::{Library, Reader, XidWatch};
use super::readings::Readings;
use super::unread::Unread;

/// What to sample, and how often.
#[derive(Clone, Debug)]
pub struct SamplerOptions {
    /// Time between readings.
    pub every: Duration,
    /// Where the system's files are.
    pub roots: Roots,
    /// Processes to watch; more can be told later.
    pub pids: Vec<u32>,
    /// Which sources.
    pub sources: Vec<Source>,
    /// The management library of NVIDIA's driver, if not the system's.
    pub nvml_library: Option<std::ffi::OsString>,
}

impl Default for SamplerOptions {
    /// Everything, four times a second.
    fn default() -> Self {
        Self {
            every: Duration::from_millis(250),
            roots: Roots::default(),
            pids: Vec::new(),
            sources: vec![Source::Host, Source::Process, Source::Nvml],
            nvml_library: std::env::var_os(super::nvml::LIBRARY_VARIABLE),
        }
    }
}

/// The threads that sample.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    beat: Beat,
    pids: Mutex<Vec<u32>>,
}

/// How long a wait for errors of GPUs lasts at most before it looks whether to stop.
const XID_WAIT_MS: u32 = 100;

/// How long to leave a library alone that could not be opened.
const REOPEN: Duration = Duration::from_secs(10);

impl Sampler {
    /// Starts to sample into `sink`.
    pub fn start(options: &SamplerOptions, sink: &Arc<dyn Sink>) -> Self {
        let pids = Mutex::new(options.pids.clone());
        let shared = Arc::new(Shared { pids, ..Shared::default() });
        let mut sampler = Self { shared, threads: Vec::new() };
        for source in &options.sources {
            match source {
                Source::Host => sampler.spawn(*source, "sample-host", options, sink, host),
                Source::Process => sampler.spawn(*source, "sample-process", options, sink, process),
                Source::Nvml => {
                    sampler.spawn(*source, "sample-nvml", options, sink, nvml);
                    sampler.spawn(*source, "wait-xid", options, sink, xid);
                }
                // Who attaches to a server asks it; the machine's counters are no part of that.
                Source::Server => {}
            }
        }
        sampler
    }

    /// From now on watches these processes; the first one's control group counts as the machine's
    /// limits.
    pub fn watch(&self, pids: &[u32]) {
        *self.shared.lock_pids() = pids.to_vec();
    }

    /// Stops and waits for the threads, which takes as long as a reading does.
    pub fn stop(self) {}

    fn spawn(
        &mut self,
        source: Source,
        name: &str,
        options: &SamplerOptions,
        sink: &Arc<dyn Sink>,
        body: fn(&Shared, &SamplerOptions, &dyn Sink),
    ) {
        let (shared, options) = (Arc::clone(&self.shared), options.clone());
        let theirs = Arc::clone(sink);
        let run = move || body(&shared, &options, theirs.as_ref());
        match thread::Builder::new().name(name.to_string()).spawn(run) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                let text = format!("no thread could be started to read it: {error}");
                let why = Unread::new(AbsentReason::Unreadable, text, "");
                sink.record(Event::Absent(why.absent(now_ns(), source, None, None)));
            }
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.beat.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing to be added.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock_pids(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Readings between two of what changes seldom: about a second.
fn slow_every(every: Duration) -> u64 {
    (1000 / every.as_millis().max(1)).max(1) as u64
}

fn host(shared: &Shared, options: &SamplerOptions, sink: &dyn Sink) {
    let mut reader = HostReader::new(options.roots.clone(), slow_every(options.every));
    shared.beat.run(Source::Host, options.every, sink, |to| {
        let first = shared.lock_pids().first().copied();
        reader.watch(first.unwrap_or_else(std::process::id));
        reader.read(to);
    });
}

fn process(shared: &Shared, options: &SamplerOptions, sink: &dyn Sink) {
    let mut reader = ProcessReader::new(options.roots.clone(), slow_every(options.every));
    shared.beat.run(Source::Process, options.every, sink, |to| {
        let pids = shared.lock_pids().clone();
        reader.watch(&pids);
        reader.read(to);
    });
}

fn nvml(shared: &Shared, options: &SamplerOptions, sink: &dyn Sink) {
    let mut reader = Reader::new(options.roots.clone(), slow_every(options.every));
    let mut library = None;
    shared.beat.run(Source::Nvml, options.every, sink, |to| {
        if !to.wants(None, None) {
            return;
        }
        let read = match library.take() {
            Some(open) => Ok(open),
            None => Library::open_at(options.nvml_library.as_deref()),
        };
        let read = read.and_then(|open| {
            reader.read(&open, to)?;
            Ok(open)
        });
        match read {
            Ok(open) => {
                to.present(None);
                library = Some(open);
            }
            // The library is closed, so that one that works is opened anew.
            Err(why) => to.absent(None, None, why),
        }
    });
}

/// Waits for errors that the driver reports. That the library is missing is told by [`nvml`].
fn xid(shared: &Shared, options: &SamplerOptions, sink: &dyn Sink) {
    let mut readings = Readings::new(Source::Nvml);
    loop {
        if let Ok(library) = Library::open_at(options.nvml_library.as_deref())
            && library.count().is_ok()
        {
            let ended = wait_for_errors(shared, &library, sink, &mut readings);
            if let Err(why) = ended {
                readings.begin(now_ns());
                readings.absent(None, Some(Counter::Xid), why);
                readings.take().into_iter().for_each(|event| sink.record(event));
            }
        }
        if shared.beat.sleep_until(Instant::now() + REOPEN) {
            return;
        }
    }
}

fn wait_for_errors(
    shared: &Shared,
    library: &Library,
    sink: &dyn Sink,
    readings: &mut Readings,
) -> Result<(), Unread> {
    let watch = XidWatch::new(library)?;
    while !shared.beat.sleep_until(Instant::now()) {
        if let Some((gpu, number)) = watch.wait(XID_WAIT_MS)? {
            readings.begin(now_ns());
            readings.sample(Subject::Gpu(gpu), Counter::Xid, number as f64);
            readings.take().into_iter().for_each(|event| sink.record(event));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::base::sink::MemorySink;

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn sources_are_read_side_by_side_tell_their_cost_and_stop_at_once() {
        let sink = Arc::new(MemorySink::default());
        let options = SamplerOptions {
            every: Duration::from_millis(20),
            pids: vec![std::process::id()],
            nvml_library: Some("/nowhere/libnvidia-ml.so.1".into()),
            ..SamplerOptions::default()
        };
        let theirs: Arc<dyn Sink> = sink.clone();
        let sampler = Sampler::start(&options, &theirs);
        thread::sleep(Duration::from_millis(300));
        let stopping = Instant::now();
        sampler.stop();
        assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
        let events = sink.take();
        for source in [Source::Host, Source::Process, Source::Nvml] {
            let cost = events.iter().find_map(|e| match e {
                Event::Sample(s)
                    if s.subject == Subject::Observer(source)
                        && s.counter == Counter::ReadingCost =>
                {
                    Some(s.value)
                }
                _ => None,
            });
            assert!(cost.is_some_and(|ns| ns < 1e9), "{source:?}: {cost:?}");
        }
        let missing: Vec<_> = events
            .iter()
            .filter(|e| matches!(e, Event::Absent(a) if a.source == Source::Nvml))
            .collect();
        assert_eq!(missing.len(), 1, "{missing:?}");
        let me = Subject::Process(std::process::id());
        let own = |e: &Event| matches!(e, Event::Sample(s) if s.subject == me);
        assert!(events.iter().any(own));
    }
}
