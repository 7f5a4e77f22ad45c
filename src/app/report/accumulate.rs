//! A sink that sums up spans as they come.

use std::sync::{Mutex, PoisonError};

use crate::base::event::Event;
use crate::base::sink::Sink;
use crate::observe::session::Sums;

/// Sums up, for whoever has several threads that emit events.
#[derive(Debug, Default)]
pub struct Accumulator {
    sums: Mutex<Sums>,
}

impl Accumulator {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sums so far; a step that has not ended counts up to its last span.
    pub fn snapshot(&self) -> Sums {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sums.close();
        sums
    }
}

impl Sink for Accumulator {
    fn record(&self, event: Event) {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
    }
}
