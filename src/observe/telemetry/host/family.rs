//! How much of the processors' time some processes and all that they start used.

use std::collections::{BTreeMap, BTreeSet};

use super::contention::TICKS_MIN;
use super::process::Stat;
use super::processors::{Ticks, allowed, sum};
use super::roots::Roots;
use super::tree::{family, processes};

/// The counters at one time.
#[derive(Clone, Debug)]
pub struct FamilyCounters {
    processors: Ticks,
    roots_of_family: Vec<u32>,
    all: BTreeMap<u32, Stat>,
    members: BTreeSet<u32>,
}

/// Shares of the time of the processors that the first of the processes may use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FamilyShares {
    /// Used by others; `None` when one of the processes ended, so that its part is not known.
    pub others: Option<f64>,
    /// Given to other machines by a hypervisor.
    pub stolen: f64,
}

impl FamilyCounters {
    /// Reads the counters for `pids` and their descendants; `None` where the system does not tell.
    pub fn read(roots: &Roots, pids: &[u32]) -> Option<Self> {
        let status = pids.iter().find_map(|p| roots.text(&format!("proc/{p}/status")).ok())?;
        let all = processes(roots);
        let members = family(&all, pids);
        let processors = sum(&roots.text("proc/stat").ok()?, &allowed(&status)?)?;
        Some(Self { processors, roots_of_family: pids.to_vec(), all, members })
    }

    /// The processes and their descendants.
    pub fn members(&self) -> &BTreeSet<u32> {
        &self.members
    }

    /// What happened between two readings for the same processes; `None` where the time was too
    /// short to tell.
    pub fn since(&self, before: &Self) -> Option<FamilyShares> {
        let d = self.processors - before.processors;
        if d.all < TICKS_MIN {
            return None;
        }
        let share = |ticks: u64| ticks as f64 / d.all as f64;
        let others = self.own_ticks_since(before).map(|own| share(d.busy.saturating_sub(own)));
        Some(FamilyShares { others, stolen: share(d.stolen) })
    }

    /// A process that ended leaves its ticks to the parent that waited for it, so sums over the
    /// family with what it inherited go on without a break, as long as that parent is in it.
    fn own_ticks_since(&self, before: &Self) -> Option<u64> {
        let same = |id: &u32| {
            let (now, then) = (self.all.get(id)?, before.all.get(id)?);
            (now.started_ticks == then.started_ticks).then_some(then)
        };
        for id in &before.roots_of_family {
            let Some(stat) = before.all.get(id) else { continue };
            if same(id).is_none() && !before.members.contains(&stat.parent) {
                return None;
            }
        }
        let total = |stat: &Stat| stat.ticks + stat.ticks_of_ended_children;
        // Those that lost their parent have been moved to another one, and still belong.
        let orphans = before.members.iter().filter(|id| same(id).is_some());
        let now: BTreeSet<&u32> = self.members.iter().chain(orphans).collect();
        let mut own: i128 = 0;
        for id in &now {
            own += i128::from(self.all.get(id).map_or(0, total));
            // One that joined was not counted before.
            if !before.members.contains(id) {
                own -= i128::from(same(id).map_or(0, total));
            }
        }
        for id in &before.members {
            own -= i128::from(before.all.get(id).map_or(0, total));
        }
        Some(u64::try_from(own).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(busy: u64, all: &[(u32, u32, u64, u64)]) -> FamilyCounters {
        let stat = |&(id, parent, ticks, ended)| {
            let (started_ticks, ticks_of_ended_children) = (u64::from(id), ended);
            let stat =
                Stat { parent, ticks, ticks_of_ended_children, started_ticks, ..Stat::default() };
            (id, stat)
        };
        let all: BTreeMap<u32, Stat> = all.iter().map(stat).collect();
        FamilyCounters {
            processors: Ticks { all: busy * 2, busy, stolen: 0 },
            roots_of_family: vec![10],
            members: family(&all, &[10]),
            all,
        }
    }

    #[test]
    fn what_children_used_counts_also_when_they_have_ended() {
        // 11 is a child with 30 ticks; it runs 20 more, ends and is waited for.
        let before = counters(1000, &[(1, 0, 5, 0), (10, 1, 100, 7), (11, 10, 30, 0)]);
        let after = counters(1100, &[(1, 0, 5, 0), (10, 1, 110, 57)]);
        assert_eq!(after.own_ticks_since(&before), Some(30));
        assert_eq!(after.since(&before).unwrap().others, Some(0.35));
        // The same, while it still runs.
        let after = counters(1100, &[(1, 0, 5, 0), (10, 1, 110, 7), (11, 10, 50, 0)]);
        assert_eq!(after.own_ticks_since(&before), Some(30));
        // A new child counts from its start.
        let after = counters(1100, &[(10, 1, 100, 7), (11, 10, 30, 0), (12, 11, 9, 0)]);
        assert_eq!(after.own_ticks_since(&before), Some(9));
    }

    #[test]
    fn an_orphan_still_belongs_and_a_lost_process_is_not_guessed() {
        let before = counters(1000, &[(1, 0, 0, 0), (10, 1, 0, 0), (11, 10, 0, 0), (12, 11, 4, 0)]);
        let after = counters(1100, &[(1, 0, 0, 0), (10, 1, 0, 0), (12, 1, 24, 0)]);
        assert_eq!(after.own_ticks_since(&before), Some(20));
        let gone = counters(1100, &[(1, 0, 500, 0)]);
        assert_eq!(gone.since(&before), Some(FamilyShares { others: None, stolen: 0.0 }));
        assert_eq!(before.since(&before), None);
    }
}
