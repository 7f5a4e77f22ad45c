//! Whether this process may read and write a file, from its user and groups and the file's mode.
//!
//! The file is not opened: opening a device can wake it.

use crate::observe::telemetry::host::Roots;

/// A user with its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
}

impl Who {
    /// This process, from `/proc/self/status`.
    pub(super) fn here(roots: &Roots) -> Option<Self> {
        let status = roots.text("proc/self/status").ok()?;
        let numbers = |name: &str| -> Vec<u32> {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            line.split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect()
        };
        // The effective ones stand second.
        let uid = *numbers("Uid:").get(1)?;
        let mut groups = numbers("Groups:");
        groups.extend(numbers("Gid:").get(1));
        Some(Self { uid, groups })
    }

    /// Whether it may read and write a file of this mode and owner.
    pub(super) fn may_use(&self, mode: u32, uid: u32, gid: u32) -> bool {
        const READ_AND_WRITE: u32 = 0o6;
        let shift = match (self.uid == uid, self.groups.contains(&gid)) {
            _ if self.uid == 0 => return true,
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        mode >> shift & READ_AND_WRITE == READ_AND_WRITE
    }
}

/// A group's name, from `/etc/group`; its number where it has none.
pub(super) fn group_name(roots: &Roots, gid: u32) -> String {
    let text = roots.text("etc/group").unwrap_or_default();
    let mut lines = text.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let line = lines.find(|l| l.get(2).and_then(|n| n.parse().ok()) == Some(gid));
    line.and_then(|l| l.first().map(ToString::to_string)).unwrap_or_else(|| gid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_of_owner_group_and_others_counts() {
        let who = Who { uid: 1000, groups: vec![44, 1000] };
        assert!(who.may_use(0o660, 0, 44));
        assert!(!who.may_use(0o660, 0, 45));
        assert!(who.may_use(0o666, 0, 45));
        assert!(!who.may_use(0o066, 1000, 45), "the owner's own bits count alone");
        assert!(Who::default().may_use(0o000, 5, 5), "root may");
    }
}
