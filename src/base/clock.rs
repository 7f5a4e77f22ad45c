//! One monotonic clock for everything that is timed, in nanoseconds since the program first asked.

use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since the first call in this process; never goes back.
pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
