//! The processes of this machine, as far as finding servers among them needs.
//!
//! Command lines and parents come from `sysinfo`. Which ports a process listens on is told on Linux
//! alone, and only of processes of the same user or to root: their list is empty otherwise, which is no
//! error. Names and command lines are whatever a process chose.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: u32,
    /// Its parent's id; 0 for none.
    pub parent: u32,
    /// Its name, which the kernel may have cut.
    pub name: String,
    /// Its command line.
    pub args: Vec<String>,
    /// TCP ports that it listens on, ascending, where the system tells.
    pub ports: Vec<u16>,
    /// Whether it is in another network than this program, as in a container.
    pub other_network: bool,
}

/// All processes that this user can see; none on a system that does not tell.
pub fn process_table() -> Vec<ProcessInfo> {
    let Ok(mut system) = System::new() else { return Vec::new() };
    let kind = ProcessRefreshKind::nothing().without_tasks().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let own_network = network(Path::new("/proc/self"));
    let mut sockets = Sockets::default();
    let mut table: Vec<ProcessInfo> = system
        .processes()
        .iter()
        .map(|(pid, process)| {
            let folder = Path::new("/proc").join(pid.to_string());
            let network = network(&folder);
            ProcessInfo {
                pid: pid.as_u32(),
                parent: process.parent().map_or(0, sysinfo::Pid::as_u32),
                name: process.name().to_string_lossy().into_owned(),
                args: process.cmd().iter().map(|a| a.to_string_lossy().into_owned()).collect(),
                ports: sockets.ports(&folder, network.as_deref()),
                other_network: network.is_some() && network != own_network,
            }
        })
        .collect();
    table.sort_by_key(|process| process.pid);
    table
}

/// The name of the network that a process is in, such as `net:[4026531840]`.
fn network(folder: &Path) -> Option<String> {
    fs::read_link(folder.join("ns/net")).ok().map(|link| link.to_string_lossy().into_owned())
}

/// Listening sockets by their number, read once for each network.
#[derive(Default)]
struct Sockets {
    of_network: BTreeMap<String, BTreeMap<u64, u16>>,
}

impl Sockets {
    /// The ports of a process that listens; its open files say which sockets are its own.
    fn ports(&mut self, folder: &Path, network: Option<&str>) -> Vec<u16> {
        let Some(network) = network else { return Vec::new() };
        let Ok(files) = fs::read_dir(folder.join("fd")) else { return Vec::new() };
        let all = self.of_network.entry(network.to_string()).or_insert_with(|| {
            let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
            listening(&read("net/tcp")).chain(listening(&read("net/tcp6"))).collect()
        });
        let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        let mut ports: Vec<u16> =
            links.filter_map(|link| all.get(&socket(&link.to_string_lossy())?).copied()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// The number in `socket:[12345]`.
fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Sockets that listen, with their ports, from `/proc/net/tcp` or `tcp6`. Source of the form:
/// Documentation/networking/proc_net_tcp.rst of Linux; state 0A is listening.
fn listening(text: &str) -> impl Iterator<Item = (u64, u16)> {
    text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, port) = words.get(1)?.rsplit_once(':')?;
        let is_listening = *words.get(3)? == "0A";
        let number = words.get(9)?.parse().ok()?;
        is_listening.then_some((number, u16::from_str_radix(port, 16).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_sockets_are_read() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 31337 1 0 100 0 0 10 0\n\
            1: 0100007F:A1B2 0100007F:2CAA 01 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 20 4 30 10 -1\n\
            junk\n";
        assert_eq!(listening(text).collect::<Vec<_>>(), [(31337, 11434)]);
        assert_eq!(listening("").count(), 0);
        assert_eq!(
            (socket("socket:[77]"), socket("/dev/null"), socket("socket:[x]")),
            (Some(77), None, None)
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_in_the_table_with_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = process_table();
        let mine = table.iter().find(|p| p.pid == std::process::id()).unwrap();
        assert!(mine.ports.contains(&port), "{mine:?}");
        assert!(!mine.args.is_empty() && !mine.other_network && mine.parent != 0);
        assert!(table.is_sorted_by_key(|p| p.pid));
    }
}
