//! The rhythm of one source: read, hand over, tell what it cost, sleep until the next time.
//!
//! Who reads has a thread of its own and calls [`Beat::run`] on it. Invariant: after [`Beat::stop`],
//! `run` returns as soon as the reading in progress has ended.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::clock::now_ns;
use crate::base::counter::{Counter, Source, Subject};
use crate::base::sink::Sink;

use super::readings::Readings;

/// Whether to go on, and what wakes those who sleep when not.
#[derive(Debug, Default)]
pub struct Beat {
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Beat {
    /// From now on nobody reads any more.
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    /// Sleeps until a time; true when it is time to stop.
    pub fn sleep_until(&self, until: Instant) -> bool {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.wake.wait_timeout(stopped, left);
            stopped = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *stopped
    }

    /// Reads at every beat until it is time to stop. Beats that a slow reading misses are left out.
    pub fn run(
        &self,
        source: Source,
        every: Duration,
        sink: &dyn Sink,
        mut read: impl FnMut(&mut Readings),
    ) {
        let mut readings = Readings::new(source);
        let mut next = Instant::now();
        loop {
            let (cost, at_ns) = (thread_cpu_ns(), now_ns());
            readings.begin(at_ns);
            read(&mut readings);
            let observer = Subject::Observer(source);
            let took_ns = now_ns() - at_ns;
            readings.sample(observer, Counter::ReadingTime, took_ns as f64);
            if let Some(ns) = thread_cpu_ns().zip(cost).map(|(now, then)| now.saturating_sub(then))
            {
                readings.sample(observer, Counter::ReadingCost, ns as f64);
            }
            for event in readings.take() {
                sink.record(event);
            }
            next = (next + every).max(Instant::now());
            if self.sleep_until(next) {
                return;
            }
        }
    }
}

/// Processor time of the calling thread; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub fn thread_cpu_ns() -> Option<u64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Some(u64::try_from(time.tv_sec).ok()? * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?)
}

/// Processor time of the calling thread; `None` where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn thread_cpu_ns() -> Option<u64> {
    None
}
