//! Writes events to a file while they happen.
//!
//! [`Recorder`] is a sink that puts events into a bounded queue; a thread of its own collects them into
//! frames and writes these. When the queue is full, events are counted as lost instead of being waited
//! for. When the file cannot be written, what was begun is cut off, recording ends, and that is told.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::clock::now_ns;
use crate::base::event::Event;
use crate::base::sink::Sink;

use super::RecordError;
use super::format::{About, Body, STANDING, frame, header, stands};

/// Events that wait to be written at most.
const QUEUE_EVENTS: usize = 1 << 15;

/// Events of a frame at most.
const FRAME_EVENTS: usize = 1 << 10;

/// How long an event waits for others of its frame: what a crash can cost.
const FRAME_TIME: Duration = Duration::from_millis(200);

/// Where a recording goes.
pub trait Storage: Write + Send {
    /// Cuts off what stands behind `bytes`.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
}

impl Storage for File {
    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}

/// How a recording is going.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecorderState {
    /// Bytes written.
    pub bytes: u64,
    /// Events written.
    pub events: u64,
    /// Events that were lost, because they came faster than they could be written, or after the end.
    pub lost: u64,
    /// Why recording ended before it should.
    pub stopped: Option<String>,
}

#[derive(Debug, Default)]
struct Progress {
    bytes: AtomicU64,
    events: AtomicU64,
    lost: AtomicU64,
    /// Those of `lost` that no frame has told yet.
    lost_untold: AtomicU64,
    is_stopped: AtomicBool,
    why: Mutex<Option<String>>,
}

/// A sink that records.
#[derive(Debug)]
pub struct Recorder {
    queue: Mutex<Option<SyncSender<Event>>>,
    progress: Arc<Progress>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Starts a recording in a new file; `title` says of what.
    pub fn create(path: &Path, title: &str) -> Result<Self, RecordError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Self::start(Box::new(file), title)
    }

    /// Starts a recording elsewhere. The header is written at once, so that an error there is known.
    pub fn start(mut storage: Box<dyn Storage>, title: &str) -> Result<Self, RecordError> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let about = About {
            program: concat!("gpuwhy ", env!("CARGO_PKG_VERSION")).to_string(),
            title: title.chars().take(1000).collect(),
            started_ns: now_ns(),
            started_unix_ns: since_1970.as_nanos() as u64,
        };
        let mut bytes = header().to_vec();
        let started_ns = about.started_ns;
        bytes.extend(frame(&Body::About(about), STANDING, started_ns).unwrap_or_default());
        storage.write_all(&bytes)?;
        let progress = Arc::new(Progress::default());
        progress.bytes.store(bytes.len() as u64, Ordering::Relaxed);
        let (queue, events) = sync_channel(QUEUE_EVENTS);
        let theirs = Arc::clone(&progress);
        let run = move || Scribe { storage, progress: theirs, last_ns: started_ns }.run(&events);
        let thread = thread::Builder::new().name("record".to_string()).spawn(run)?;
        let (queue, thread) = (Mutex::new(Some(queue)), Mutex::new(Some(thread)));
        Ok(Self { queue, progress, thread })
    }

    /// How it is going.
    pub fn state(&self) -> RecorderState {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        RecorderState {
            bytes: read(&self.progress.bytes),
            events: read(&self.progress.events),
            lost: read(&self.progress.lost),
            stopped: self.progress.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Writes what is left and ends. Later events are lost.
    pub fn finish(&self) -> RecorderState {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that panicked has said so.
            drop(thread.join());
        }
        self.state()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Sink for Recorder {
    fn record(&self, event: Event) {
        if !self.progress.is_stopped.load(Ordering::Relaxed) {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            match queue.as_ref().map(|q| q.try_send(event)) {
                Some(Ok(())) => return,
                Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {}
            }
        }
        self.progress.lost.fetch_add(1, Ordering::Relaxed);
        self.progress.lost_untold.fetch_add(1, Ordering::Relaxed);
    }
}

/// The thread that writes.
struct Scribe {
    storage: Box<dyn Storage>,
    progress: Arc<Progress>,
    /// Time of the last event that had one.
    last_ns: u64,
}

impl Scribe {
    fn run(mut self, events: &Receiver<Event>) {
        let mut batch = Vec::new();
        let mut due = Instant::now();
        loop {
            let wait = if batch.is_empty() {
                Duration::from_hours(1)
            } else {
                due.saturating_duration_since(Instant::now())
            };
            let is_over = match events.recv_timeout(wait) {
                Ok(event) => {
                    if batch.is_empty() {
                        due = Instant::now() + FRAME_TIME;
                    }
                    batch.push(event);
                    if batch.len() < FRAME_EVENTS && Instant::now() < due {
                        continue;
                    }
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if let Err(error) = self.write(&mut batch) {
                self.stop(&error);
                return;
            }
            if is_over {
                return;
            }
        }
    }

    fn write(&mut self, batch: &mut Vec<Event>) -> io::Result<()> {
        let lost = self.progress.lost_untold.swap(0, Ordering::Relaxed);
        if batch.is_empty() && lost == 0 {
            return Ok(());
        }
        let flags = if batch.iter().any(stands) { STANDING } else { 0 };
        let newest = batch.iter().filter_map(Event::at_ns).max();
        self.last_ns = newest.map_or(self.last_ns, |ns| ns.max(self.last_ns));
        let events = std::mem::take(batch);
        let count = events.len() as u64;
        let Some(bytes) = frame(&Body::Events { lost, events }, flags, self.last_ns) else {
            self.progress.lost.fetch_add(count, Ordering::Relaxed);
            self.progress.lost_untold.fetch_add(lost + count, Ordering::Relaxed);
            return Ok(());
        };
        self.storage.write_all(&bytes)?;
        self.progress.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.progress.events.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn stop(&mut self, error: &io::Error) {
        let whole = self.progress.bytes.load(Ordering::Relaxed);
        // If that fails as well, the reader drops the broken frame.
        drop(self.storage.truncate(whole));
        let why = format!("recording ended, because the file could not be written: {error}");
        *self.progress.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.progress.is_stopped.store(true, Ordering::Relaxed);
    }
}
