//! Where a process's log is, by what the system knows of the process.
//!
//! Looks at what its outputs are and at its control group; opens nothing. Invariant: a place that is
//! told is one that [`Source`] can open, though the user may lack the right to.

use std::fs;

use crate::observe::logs::Source;
use crate::observe::telemetry::host::Roots;

/// Where a process's log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPlace {
    /// There.
    At(Source),
    /// Nowhere that can be read later: why, and what would help.
    Nowhere {
        /// Why.
        why: String,
        /// What would help.
        hint: &'static str,
    },
}

/// Where the log of a process is: a file that it writes to, the journal of its unit, or its container.
pub fn log_place(roots: &Roots, pid: u32) -> LogPlace {
    // Servers log to the standard error; some write both to one file.
    let outputs: Vec<String> = [2, 1].into_iter().filter_map(|fd| output(roots, pid, fd)).collect();
    for output in &outputs {
        let path = roots.path(output.trim_start_matches('/'));
        if output.starts_with('/') && path.is_file() {
            return LogPlace::At(Source::File(path));
        }
    }
    let group = roots.text(&format!("proc/{pid}/cgroup")).unwrap_or_default();
    if let Some(source) = container(&group) {
        return LogPlace::At(source);
    }
    // A unit's outputs are sockets of the journal; those of a shell that a unit started are not.
    if outputs.iter().any(|output| output.starts_with("socket:"))
        && let Some(unit) = unit(&group)
    {
        return LogPlace::At(Source::Journald(unit));
    }
    nowhere(&outputs)
}

/// What one of a process's open files is: a path, or like `pipe:[123]`.
fn output(roots: &Roots, pid: u32, fd: u32) -> Option<String> {
    let link = fs::read_link(roots.path(&format!("proc/{pid}/fd/{fd}"))).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// The container that a control group belongs to.
fn container(group: &str) -> Option<Source> {
    let parts = group.lines().flat_map(|line| line.split(['/', ':']));
    let mut ids = parts.filter_map(|part| {
        let name = part.strip_suffix(".scope").unwrap_or(part);
        let id = ["docker-", "libpod-"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
        (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id[..12].to_string())
    });
    ids.next_back().map(Source::Docker)
}

/// The system's unit that a control group belongs to. Units of users have a journal of their own kind.
fn unit(group: &str) -> Option<String> {
    let path =
        group.lines().find_map(|line| line.split("::").nth(1).or(line.rsplit(':').next()))?;
    if path.contains("/user.slice/") {
        return None;
    }
    let unit = path.rsplit('/').find(|part| part.ends_with(".service"))?;
    Some(unit.to_string())
}

fn nowhere(outputs: &[String]) -> LogPlace {
    let is = |what: &str| outputs.iter().any(|output| output.starts_with(what));
    let (why, hint) = if outputs.is_empty() {
        (
            "the system does not tell where it writes",
            "run as the same user or as root, or give --log",
        )
    } else if outputs.iter().any(|output| output.ends_with(" (deleted)")) {
        ("the file that it writes to was deleted", "start it again with its output in a new file")
    } else if is("/dev/pts/") || is("/dev/tty") || is("/dev/console") {
        ("it writes to a terminal", "start it with > server.log 2>&1, or give --log")
    } else if is("/dev/null") {
        ("it writes nowhere", "start it with > server.log 2>&1, or give --log")
    } else {
        ("it writes to another program", "give --log with a file, journald:UNIT or docker:NAME")
    };
    LogPlace::Nowhere { why: why.to_string(), hint }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn process(root: &Path, pid: u32, output: &str, group: &str) {
        let folder = root.join(format!("proc/{pid}/fd"));
        fs::create_dir_all(&folder).unwrap();
        symlink(output, folder.join("2")).unwrap();
        fs::write(root.join(format!("proc/{pid}/cgroup")), group).unwrap();
    }

    #[test]
    fn files_units_and_containers_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("var/log")).unwrap();
        fs::write(root.join("var/log/llama.log"), "x").unwrap();
        let id = "0123456789abcdef".repeat(4);
        process(root, 1, "/var/log/llama.log", "0::/user.slice/x.scope\n");
        process(root, 2, "socket:[77]", "0::/system.slice/ollama.service\n");
        process(root, 3, "pipe:[5]", &format!("0::/system.slice/docker-{id}.scope\n"));
        process(root, 4, "pipe:[5]", &format!("12:memory:/docker/{id}\n11:cpu:/docker/{id}\n"));
        process(root, 5, "/dev/pts/3", "0::/user.slice/user-1000.slice/session-2.scope\n");
        process(root, 6, "/var/log/gone.log (deleted)", "0::/\n");
        process(root, 7, "pipe:[9]", "0::/system.slice/cron.service\n");
        process(
            root,
            8,
            "socket:[9]",
            "0::/user.slice/user-1.slice/user@1.service/app.slice/o.service\n",
        );
        let place = |pid| log_place(&Roots::under(root), pid);
        let file = LogPlace::At(Source::File(root.join("var/log/llama.log")));
        assert_eq!(place(1), file);
        assert_eq!(place(2), LogPlace::At(Source::Journald("ollama.service".into())));
        for pid in [3, 4] {
            assert_eq!(place(pid), LogPlace::At(Source::Docker("0123456789ab".into())));
        }
        let why = |pid| match place(pid) {
            LogPlace::Nowhere { why, .. } => why,
            LogPlace::At(source) => panic!("{source:?}"),
        };
        assert_eq!(why(5), "it writes to a terminal");
        assert_eq!(why(6), "the file that it writes to was deleted");
        assert_eq!(why(7), "it writes to another program");
        assert_eq!(why(8), "it writes to another program");
        assert_eq!(why(9), "the system does not tell where it writes");
    }
}
