//! Time as the driver of comparisons sees it: the machine's, or a scripted one in tests.

use std::time::Duration;

use crate::base::clock::now_ns;

/// Tells the time and waits.
pub trait Clock {
    /// Seconds since some fixed moment; never goes back.
    fn now_s(&self) -> f64;

    /// Waits.
    fn sleep(&self, seconds: f64);
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn now_s(&self) -> f64 {
        now_ns() as f64 / 1e9
    }

    fn sleep(&self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds.max(0.0)));
    }
}
