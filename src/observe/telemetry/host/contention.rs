//! Who else used the processors while a process ran, by the system's own counters.
//!
//! The counters tick a hundred times a second, so of less than half a second nothing is judged.

use super::process;
use super::processors::{Ticks, allowed, sum};
use super::roots::Roots;

/// Ticks of all processors together below which counters are too coarse.
pub(super) const TICKS_MIN: u64 = 50;

/// The counters at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorCounters {
    /// Ticks of the processors that this process may use.
    pub processors: Ticks,
    /// Ticks of this process.
    pub own: u64,
    /// Times that a thread of this process waited of itself, and that it was made to.
    pub voluntary: u64,
    /// See [`Self::voluntary`].
    pub involuntary: u64,
}

/// What happened between two readings of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessorShares {
    /// Share of the allowed processors' time that other processes used; 0 where it is too short.
    pub others: f64,
    /// Share of it in which a hypervisor ran another machine; 0 as above.
    pub stolen: f64,
    /// Times that a thread of this process waited of itself.
    pub voluntary_switches: u64,
    /// Times that one was made to.
    pub involuntary_switches: u64,
}

impl ProcessorCounters {
    /// The counters of this process now; `None` where the system does not tell.
    pub fn now() -> Option<Self> {
        let roots = Roots::default();
        let own = process::read_stat(&roots, std::process::id()).ok()?;
        let status = roots.text("proc/self/status").ok()?;
        let mut counters = Self {
            processors: sum(&roots.text("proc/stat").ok()?, &allowed(&status)?)?,
            own: own.ticks,
            ..Self::default()
        };
        (counters.voluntary, counters.involuntary) =
            process::read_switches(&roots, std::process::id()).ok()?;
        Some(counters)
    }

    /// What happened since `before`.
    pub fn since(self, before: Self) -> ProcessorShares {
        let d = self.processors - before.processors;
        let own = self.own.saturating_sub(before.own);
        let share = |ticks: u64| if d.all < TICKS_MIN { 0.0 } else { ticks as f64 / d.all as f64 };
        ProcessorShares {
            others: share(d.busy.saturating_sub(own)),
            stolen: share(d.stolen),
            voluntary_switches: self.voluntary.saturating_sub(before.voluntary),
            involuntary_switches: self.involuntary.saturating_sub(before.involuntary),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_processors_time_in_between() {
        let before = ProcessorCounters {
            processors: Ticks { all: 1000, busy: 500, stolen: 0 },
            ..ProcessorCounters::default()
        };
        let after = ProcessorCounters {
            processors: Ticks { all: 1200, busy: 680, stolen: 10 },
            own: 120,
            voluntary: 3,
            involuntary: 40,
        };
        let used = after.since(before);
        assert_eq!((used.others, used.stolen), (0.3, 0.05));
        assert_eq!((used.voluntary_switches, used.involuntary_switches), (3, 40));
        // Too short to tell.
        let ticks = Ticks { all: 1010, busy: 510, stolen: 0 };
        let soon = ProcessorCounters { processors: ticks, ..before };
        assert_eq!(soon.since(before).others, 0.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells() {
        let counters = ProcessorCounters::now().unwrap();
        assert!(counters.processors.all >= counters.processors.busy);
        assert!(counters.processors.all > 0);
    }
}
