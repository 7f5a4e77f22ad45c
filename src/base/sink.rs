//! Where events go. One stream, many readers.

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
