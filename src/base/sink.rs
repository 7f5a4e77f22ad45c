//! Where events go. One stream, many readers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::event::Event;

/// Something that takes events as they happen.
///
/// Called from the hot path: an implementation returns within about a microsecond and never blocks
/// on I/O.
pub trait Sink: Send + Sync {
    /// Takes one event.
    fn record(&self, event: Event);
}

/// Forgets everything: what a run without observers uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl Sink for NullSink {
    fn record(&self, _event: Event) {}
}

/// Keeps every event in memory, for tests and short sessions.
#[derive(Debug, Default)]
pub struct MemorySink {
    events: Mutex<Vec<Event>>,
}

impl MemorySink {
    /// The events so far, oldest first; the sink is empty afterwards.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for MemorySink {
    fn record(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Holds events until a reader on another thread takes them, so that none of its work is done by who
/// emits them.
#[derive(Debug)]
pub struct Buffer {
    events: Mutex<Vec<Event>>,
    capacity: usize,
    lost: AtomicU64,
}

impl Buffer {
    /// Holds at most `capacity` events; those that come when it is full are counted as lost.
    pub fn new(capacity: usize) -> Self {
        Self { events: Mutex::default(), capacity, lost: AtomicU64::new(0) }
    }

    /// Exchanges the events so far, oldest first, for `into`, which is emptied: so that two vectors
    /// serve for ever.
    pub fn swap(&self, into: &mut Vec<Event>) {
        into.clear();
        std::mem::swap(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    /// Events that were lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Sink for Buffer {
    fn record(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < self.capacity {
            events.push(event);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Hands each event to several readers.
#[derive(Clone, Default)]
pub struct Fanout {
    readers: Vec<Arc<dyn Sink>>,
}

impl Fanout {
    /// A sink that feeds all of `readers`.
    pub fn new(readers: Vec<Arc<dyn Sink>>) -> Self {
        Self { readers }
    }
}

impl Sink for Fanout {
    fn record(&self, event: Event) {
        if let Some((last, rest)) = self.readers.split_last() {
            for reader in rest {
                reader.record(event.clone());
            }
            last.record(event);
        }
    }
}
