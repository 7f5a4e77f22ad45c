//! Which processes belong to which: all descendants of some.

use std::collections::{BTreeMap, BTreeSet};

use super::process::{self, Stat};
use super::roots::Roots;

/// All processes that this user can see. One that ends while it is read is left out.
pub fn processes(roots: &Roots) -> BTreeMap<u32, Stat> {
    let ids = roots.numbers("proc").unwrap_or_default();
    ids.into_iter().filter_map(|id| Some((id, process::read_stat(roots, id).ok()?))).collect()
}

/// `pids` and everything that descends from them.
pub fn family(all: &BTreeMap<u32, Stat>, pids: &[u32]) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (id, stat) in all {
        children.entry(stat.parent).or_default().push(*id);
    }
    let (mut found, mut open) = (BTreeSet::new(), pids.to_vec());
    while let Some(id) = open.pop() {
        if all.contains_key(&id) && found.insert(id) {
            open.extend(children.get(&id).into_iter().flatten());
        }
    }
    found
}

/// A process's parent, that one's, and so on; empty when it cannot be seen.
pub fn ancestors(roots: &Roots, pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = process::read_stat(roots, pid);
    while let Ok(stat) = next {
        if stat.parent == 0 || found.contains(&stat.parent) {
            break;
        }
        found.push(stat.parent);
        next = process::read_stat(roots, stat.parent);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_hold_grandchildren_and_end_at_loops() {
        let stat = |parent| Stat { parent, ..Stat::default() };
        let all = BTreeMap::from([
            (1, stat(0)),
            (10, stat(1)),
            (11, stat(10)),
            (12, stat(11)),
            (20, stat(1)),
            (30, stat(31)),
            (31, stat(30)),
        ]);
        assert_eq!(family(&all, &[10]), BTreeSet::from([10, 11, 12]));
        assert_eq!(family(&all, &[30]), BTreeSet::from([30, 31]));
        assert_eq!(family(&all, &[99]), BTreeSet::new());
    }
}
