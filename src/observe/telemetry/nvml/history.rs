//! Utilisation as the driver sampled it, which is denser than asking for it.

use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::Sampling;
use nvml_wrapper::error::NvmlError;

use super::counters::number;

/// Values that came since the last look.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The driver's time of the last value, in microseconds.
    seen_us: u64,
}

/// Clocks that disagree by more are not the same clock.
const SKEW_US_MAX: i64 = 60_000_000;

impl History {
    /// Busy shares with their times on our clock, oldest first. `now_ns` is our clock's time. Of the
    /// first look only the newest value is kept: what was before is not this session's.
    pub(super) fn read(
        &mut self,
        device: &Device<'_>,
        now_ns: u64,
    ) -> Result<Vec<(u64, f64)>, NvmlError> {
        let values = device.samples(Sampling::GpuUtilization, self.seen_us)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_us = now.as_micros() as u64;
        let mut found: Vec<(u64, f64)> =
            values.iter().map(|v| (v.timestamp, number(&v.value) / 100.0)).collect();
        found.retain(|(at_us, share)| *at_us > self.seen_us && (0.0..=1.0).contains(share));
        found.sort_by_key(|v| v.0);
        let Some(&(newest_us, _)) = found.last() else { return Ok(Vec::new()) };
        let first_look = self.seen_us == 0;
        self.seen_us = newest_us;
        if (now_us as i64 - newest_us as i64).abs() > SKEW_US_MAX {
            return Err(NvmlError::NotSupported);
        }
        if first_look {
            found.drain(..found.len() - 1);
        }
        let on_our_clock = |at_us: u64| {
            let age_ns = now_us.saturating_sub(at_us).saturating_mul(1000);
            now_ns.saturating_sub(age_ns)
        };
        Ok(found.into_iter().map(|(at_us, share)| (on_our_clock(at_us), share)).collect())
    }
}
