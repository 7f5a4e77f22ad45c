//! Looks at all GPUs every quarter of a second while something is measured.
//!
//! Only what disturbs a measurement: why clocks were low, and who else computed. Throttling shows
//! only while there is work, so looking before and after would miss it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Library, throttle};
use crate::observe::telemetry::host::{Roots, tree};

const EVERY: Duration = Duration::from_millis(250);

/// What was seen of the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How often was looked.
    pub looks: u32,
    /// In how many looks a GPU had a reason to lower its clocks that comes and goes: GPU and NVML's bit.
    pub throttled: BTreeMap<(u8, u64), u32>,
    /// Processes that computed, by GPU and by id as the driver numbers them.
    pub processes: BTreeMap<(u8, u32), SeenProcess>,
}

/// A process as it was when it was first seen on a GPU; it may have ended since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenProcess {
    /// Its name; empty where nobody tells.
    pub name: String,
    /// The most memory that it held there.
    pub vram_bytes: Option<u64>,
    /// Its parent, that one's, and so on.
    pub ancestors: Vec<u32>,
}

/// A thread that looks; ends with [`Self::end`] or when it is dropped.
#[derive(Debug)]
pub struct GpuWatch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Seen>>,
}

impl GpuWatch {
    /// Begins to look, at once and then every quarter of a second. `None` if no thread can be had.
    pub fn begin(library: Arc<Library>, roots: Roots) -> Option<Self> {
        let (stop, stopped) = mpsc::channel();
        let look = move || {
            let mut seen = Seen::default();
            loop {
                seen.look(&library, &roots);
                // A sender that is gone also means to stop.
                if stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return seen;
                }
            }
        };
        let thread = thread::Builder::new().name("gpu-watch".to_string()).spawn(look).ok()?;
        Some(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Stops and tells what was seen. It may take as long as one look.
    pub fn end(mut self) -> Seen {
        self.stop = None;
        self.thread.take().and_then(|t| t.join().ok()).unwrap_or_default()
    }
}

impl Seen {
    fn look(&mut self, library: &Library, roots: &Roots) {
        self.looks += 1;
        for gpu in 0..library.count().unwrap_or(0) {
            let bits = library.throttle_bits(gpu).unwrap_or(0);
            for reason in throttle::reasons(throttle::disturbing(bits)) {
                *self.throttled.entry((gpu, reason.bit)).or_default() += 1;
            }
            for process in library.processes(gpu).unwrap_or_default() {
                let first_look = || SeenProcess {
                    name: library.process_name(roots, process.pid).unwrap_or_default(),
                    vram_bytes: None,
                    ancestors: tree::ancestors(roots, process.pid),
                };
                let known = self.processes.entry((gpu, process.pid)).or_insert_with(first_look);
                known.vram_bytes = known.vram_bytes.max(process.vram_bytes);
            }
        }
    }
}
