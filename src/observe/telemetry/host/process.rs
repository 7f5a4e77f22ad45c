//! `/proc/PID`: a process and its threads.

use std::io;

use super::processors::TICKS_PER_S;
use super::roots::{Roots, field};

/// What `/proc/PID/stat` tells, of a process or of one of its threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Its name, which may hold anything.
    pub name: String,
    /// Its parent.
    pub parent: u32,
    /// Pages that were at hand, and that had to be read from storage.
    pub minor_faults: u64,
    /// See [`Self::minor_faults`].
    pub major_faults: u64,
    /// Ticks that it ran.
    pub ticks: u64,
    /// Ticks of its children that have ended and been waited for, with their children's.
    pub ticks_of_ended_children: u64,
    /// Its threads.
    pub threads: u32,
    /// When it started, in ticks since the machine did. With the id it names a process for good.
    pub started_ticks: u64,
}

/// Reads a line of `stat`: `123 (name) S parent …`. Numbers of fields are those of proc(5).
pub fn stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_string();
    let words: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |field: usize| -> Option<u64> { words.get(field - 3)?.parse().ok() };
    Some(Stat {
        name,
        parent: number(4)? as u32,
        minor_faults: number(10)?,
        major_faults: number(12)?,
        ticks: number(14)? + number(15)?,
        // Signed in the kernel's documentation, though they only grow.
        ticks_of_ended_children: number(16)? + number(17)?,
        threads: number(20)? as u32,
        started_ticks: number(22)?,
    })
}

/// How often a thread waited of itself, and was made to, from its `status`.
pub fn switches(status: &str) -> Option<(u64, u64)> {
    let voluntary = field(status, "voluntary_ctxt_switches:")?;
    Some((voluntary, field(status, "nonvoluntary_ctxt_switches:")?))
}

/// Memory that is present, from `status`.
pub fn resident_bytes(status: &str) -> Option<u64> {
    Some(field(status, "VmRSS:")? << 10)
}

/// Bytes read from and written to storage, from `io`.
pub fn storage_bytes(io: &str) -> Option<(u64, u64)> {
    Some((field(io, "read_bytes:")?, field(io, "write_bytes:")?))
}

/// Times of a thread, from `schedstat`: nanoseconds that it ran, and that it could have run but had
/// no processor.
pub fn run_and_wait_ns(schedstat: &str) -> Option<(u64, u64)> {
    let mut words = schedstat.split_ascii_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// A thread at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub id: u32,
    /// Nanoseconds that it ran.
    pub run_ns: u64,
    /// Nanoseconds that it waited for a processor; 0 where the kernel does not tell.
    pub wait_ns: u64,
}

/// A process at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The process as a whole.
    pub stat: Stat,
    /// Memory that is present; kernel threads have none.
    pub resident_bytes: Option<u64>,
    /// Read from and written to storage. Only its owner may see that.
    pub storage_bytes: Option<(u64, u64)>,
    /// Its threads.
    pub threads: Vec<Thread>,
}

/// Reads a process with all its threads.
pub fn read(roots: &Roots, pid: u32) -> io::Result<Process> {
    let stat = read_stat(roots, pid)?;
    let status = roots.text(&format!("proc/{pid}/status"))?;
    let ids = roots.numbers(&format!("proc/{pid}/task"))?;
    Ok(Process {
        stat,
        resident_bytes: resident_bytes(&status),
        storage_bytes: roots.text(&format!("proc/{pid}/io")).ok().and_then(|t| storage_bytes(&t)),
        // A thread may end meanwhile.
        threads: ids.into_iter().filter_map(|id| thread(roots, pid, id)).collect(),
    })
}

/// The kernel writes `schedstat` several times faster than `stat`, and more exactly.
fn thread(roots: &Roots, pid: u32, id: u32) -> Option<Thread> {
    let read = |file: &str| roots.text(&format!("proc/{pid}/task/{id}/{file}")).ok();
    let times = read("schedstat").as_deref().and_then(run_and_wait_ns);
    let (run_ns, wait_ns) = match times {
        Some(times) => times,
        None => (stat(&read("stat")?)?.ticks * (1_000_000_000 / TICKS_PER_S), 0),
    };
    Some(Thread { id, run_ns, wait_ns })
}

/// How often a process's threads waited of themselves, and were made to. The kernel takes its time to
/// write these files. Of threads that have ended nothing is left, so sums may fall.
pub fn read_switches(roots: &Roots, pid: u32) -> io::Result<(u64, u64)> {
    let mut sums = (0, 0);
    for id in roots.numbers(&format!("proc/{pid}/task"))? {
        let status = roots.text(&format!("proc/{pid}/task/{id}/status")).unwrap_or_default();
        let (voluntary, involuntary) = switches(&status).unwrap_or_default();
        sums = (sums.0 + voluntary, sums.1 + involuntary);
    }
    Ok(sums)
}

/// A thread's name.
pub fn thread_name(roots: &Roots, pid: u32, id: u32) -> Option<String> {
    let name = roots.text(&format!("proc/{pid}/task/{id}/comm")).ok()?;
    Some(name.trim_end().to_string())
}

/// Reads `stat` of a process alone.
pub fn read_stat(roots: &Roots, pid: u32) -> io::Result<Stat> {
    let text = roots.text(&format!("proc/{pid}/stat"))?;
    stat(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a process's stat"))
}

/// A process's command line, with spaces between its parts.
pub fn command(roots: &Roots, pid: u32) -> Option<String> {
    let text = roots.text(&format!("proc/{pid}/cmdline")).ok()?;
    Some(text.trim_end_matches('\0').replace('\0', " ")).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const STAT: &str = "123 (a ) (b) S 7 2 3 4 5 6 70 8 9 10 60 40 30 3 20 0 11 0 5000 1 2\n";
    const STATUS: &str = "VmRSS:\t    2048 kB\nvoluntary_ctxt_switches:\t12\n\
                          nonvoluntary_ctxt_switches:\t34\n";

    #[test]
    fn fields_follow_the_name() {
        let read = stat(STAT).unwrap();
        assert_eq!(read.name, "a ) (b");
        assert_eq!((read.parent, read.ticks, read.ticks_of_ended_children), (7, 100, 33));
        assert_eq!((read.minor_faults, read.major_faults), (70, 9));
        assert_eq!((read.threads, read.started_ticks), (11, 5000));
        assert_eq!(stat("123 no name"), None);
        assert_eq!(stat("123 (short) S 7"), None);
        assert_eq!(switches(STATUS), Some((12, 34)));
        assert_eq!(resident_bytes(STATUS), Some(2 << 20));
        let io = "rchar: 9\nread_bytes: 4096\nwrite_bytes: 8192\n";
        assert_eq!(storage_bytes(io), Some((4096, 8192)));
        assert_eq!(storage_bytes(""), None);
    }

    #[test]
    fn a_process_is_read_without_what_its_reader_may_not_see() {
        let folder = tempfile::tempdir().unwrap();
        for thread in [123, 124] {
            let task = folder.path().join(format!("proc/123/task/{thread}"));
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("stat"), STAT).unwrap();
            fs::write(task.join("status"), STATUS).unwrap();
        }
        let process = folder.path().join("proc/123");
        fs::write(process.join("stat"), STAT).unwrap();
        fs::write(process.join("status"), STATUS).unwrap();
        fs::write(process.join("cmdline"), "llama-server\0-m\0x.gguf\0").unwrap();
        let roots = Roots::under(folder.path());
        let found = read(&roots, 123).unwrap();
        // Without `schedstat` a thread's ticks count.
        assert_eq!(found.threads.len(), 2);
        assert_eq!((found.threads[0].run_ns, found.threads[0].wait_ns), (1_000_000_000, 0));
        fs::write(process.join("task/124/schedstat"), "12345 678 9\n").unwrap();
        let found = read(&roots, 123).unwrap();
        assert!(found.threads.contains(&Thread { id: 124, run_ns: 12345, wait_ns: 678 }));
        assert_eq!(read_switches(&roots, 123).unwrap(), (24, 68));
        assert_eq!(found.storage_bytes, None);
        assert_eq!(command(&roots, 123).as_deref(), Some("llama-server -m x.gguf"));
        assert_eq!(read(&roots, 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
