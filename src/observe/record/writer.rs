//! Writes events to a file while they happen.
//!
//! [`Recorder`] is a sink that puts events into a bounded queue; a thread of its own collects them into
//! frames and writes these. When the queue is full, events are counted as lost instead of being waited
//! for. When the file cannot be written, what was begun is cut off, recording ends, and that is told.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    why: Mutex<Option<String>>,
}

/// Events between those who emit them and the thread that writes. Emitters do not wake that thread for
/// each event, which would cost them more than all the rest: it looks by itself.
#[derive(Debug, Default)]
struct Queue {
    inner: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Event>,
    /// Events that came after these and did not fit.
    lost: u64,
    is_closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event; false if it was lost.
    fn push(&self, event: Event) -> bool {
        let mut waiting = self.lock();
        if waiting.is_closed || waiting.events.len() >= QUEUE_EVENTS {
            waiting.lost += 1;
            return false;
        }
        waiting.events.push(event);
        if waiting.events.len() == QUEUE_EVENTS / 2 {
            self.wake.notify_one();
        }
        true
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Waits for a frame's time, or until there is much to write, and swaps the events into `to`, which
    /// is empty. Gives how many were lost after them, and whether the queue is closed.
    fn take(&self, to: &mut Vec<Event>) -> (u64, bool) {
        let is_calm = |w: &mut Waiting| !w.is_closed && w.events.len() < QUEUE_EVENTS / 2;
        let waited = self.wake.wait_timeout_while(self.lock(), FRAME_TIME, is_calm);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut waiting.events, to);
        (std::mem::take(&mut waiting.lost), waiting.is_closed)
    }
}

/// A sink that records.
#[derive(Debug)]
pub struct Recorder {
    queue: Arc<Queue>,
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
        let last_ns = about.started_ns;
        bytes.extend(frame(&Body::About(about), STANDING, last_ns).unwrap_or_default());
        storage.write_all(&bytes)?;
        let (queue, progress) = (Arc::new(Queue::default()), Arc::new(Progress::default()));
        progress.bytes.store(bytes.len() as u64, Ordering::Relaxed);
        let (theirs, events) = (Arc::clone(&progress), Arc::clone(&queue));
        let scribe = Scribe { storage, progress: theirs, last_ns, lost: 0 };
        let run = move || scribe.run(&events);
        let thread = thread::Builder::new().name("record".to_string()).spawn(run)?;
        Ok(Self { queue, progress, thread: Mutex::new(Some(thread)) })
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
        self.queue.close();
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
        if !self.queue.push(event) {
            self.progress.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes.
struct Scribe {
    storage: Box<dyn Storage>,
    progress: Arc<Progress>,
    /// Time of the last event that had one.
    last_ns: u64,
    /// Events that were lost and that no frame has told yet.
    lost: u64,
}

impl Scribe {
    fn run(mut self, queue: &Queue) {
        let mut events = Vec::new();
        loop {
            let (lost_after, is_closed) = queue.take(&mut events);
            let written = self.write_all(&mut events, lost_after, is_closed);
            if let Err(error) = written {
                queue.close();
                let waiting = queue.lock().events.len() + events.len();
                self.progress.lost.fetch_add(waiting as u64, Ordering::Relaxed);
                self.stop(&error);
                return;
            }
            if is_closed {
                return;
            }
        }
    }

    /// Writes events as frames; `events` is empty afterwards, and keeps its memory for the next ones.
    fn write_all(
        &mut self,
        events: &mut Vec<Event>,
        lost_after: u64,
        is_last: bool,
    ) -> io::Result<()> {
        while !events.is_empty() {
            let rest = events.len().min(FRAME_EVENTS);
            self.write(events.drain(..rest).collect())?;
        }
        self.lost += lost_after;
        if is_last && self.lost > 0 {
            self.write(Vec::new())?;
        }
        Ok(())
    }

    fn write(&mut self, events: Vec<Event>) -> io::Result<()> {
        let flags = if events.iter().any(stands) { STANDING } else { 0 };
        let newest = events.iter().filter_map(Event::at_ns).max();
        self.last_ns = newest.map_or(self.last_ns, |ns| ns.max(self.last_ns));
        let count = events.len() as u64;
        let body = Body::Events { lost: self.lost, events };
        let Some(bytes) = frame(&body, flags, self.last_ns) else {
            self.progress.lost.fetch_add(count, Ordering::Relaxed);
            self.lost += count;
            return Ok(());
        };
        if let Err(error) = self.storage.write_all(&bytes) {
            self.progress.lost.fetch_add(count, Ordering::Relaxed);
            return Err(error);
        }
        self.lost = 0;
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
    }
}
