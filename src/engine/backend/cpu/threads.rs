//! The threads of a session, and how many to use when nobody says: one per physical core that this
//! process may use.
//!
//! Two threads of one core share its vector units and its path to memory, so the second one gains
//! nothing here and makes every barrier later.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::pool::ThreadPool;

/// The threads of a session: those for decode and those for prompts, as `-t` and `-tb` set them.
#[derive(Clone)]
pub struct Threads {
    /// For ubatches of one token.
    pub decode: Arc<ThreadPool>,
    /// For larger ubatches; the same pool when both have the same size.
    pub batch: Arc<ThreadPool>,
}

impl Threads {
    /// Pools of these sizes. A pool that has nothing to do sleeps, so two cost no more than one.
    pub fn new(decode: usize, batch: usize) -> Self {
        let first = Arc::new(ThreadPool::new(decode));
        let second =
            if batch == decode { Arc::clone(&first) } else { Arc::new(ThreadPool::new(batch)) };
        Self { decode: first, batch: second }
    }

    /// The pool for a ubatch of this size, by llama.cpp's rule.
    pub(super) fn for_tokens(&self, n_tokens: usize) -> &Arc<ThreadPool> {
        if n_tokens > 1 { &self.batch } else { &self.decode }
    }
}

/// A number of threads with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadChoice {
    /// How many.
    pub count: usize,
    /// Why so many, in words.
    pub reason: String,
}

/// The default number of threads: physical cores, bounded by the affinity mask and the cgroup's
/// CPU quota.
pub fn default_threads() -> ThreadChoice {
    let allowed = allowed_processors();
    let cores = physical_cores(Path::new("/sys/devices/system/cpu"));
    choose(allowed, cores)
}

/// Processors that this process may use at once.
pub fn allowed_processors() -> usize {
    // The standard library's figure respects the affinity mask and the cgroup's quota.
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What it means when more threads than processors are asked for; `None` when they are not.
pub fn oversubscribed(threads: usize, allowed: usize) -> Option<String> {
    (threads > allowed).then(|| {
        format!(
            "{threads} threads for {allowed} processors that this process may use: threads take \
             turns, and at the barrier after every node all wait for those whose turn has not come; \
             use at most -t {allowed}"
        )
    })
}

fn choose(allowed: usize, cores: Option<usize>) -> ThreadChoice {
    match cores {
        Some(cores) if cores < allowed => {
            ThreadChoice { count: cores, reason: format!("physical cores; {allowed} logical") }
        }
        Some(cores) if cores > allowed => ThreadChoice {
            count: allowed,
            reason: format!("affinity mask or CPU quota; {cores} physical cores"),
        },
        Some(_) => ThreadChoice { count: allowed, reason: "physical cores".to_string() },
        None => ThreadChoice { count: allowed, reason: "processors of this process".to_string() },
    }
}

/// Physical cores of the machine: groups of processors that Linux lists as siblings. `None` where
/// the system does not tell.
fn physical_cores(cpus: &Path) -> Option<usize> {
    let mut groups = BTreeSet::new();
    for entry in fs::read_dir(cpus).ok()?.flatten() {
        let siblings = entry.path().join("topology/thread_siblings_list");
        if let Ok(list) = fs::read_to_string(siblings) {
            groups.insert(list.trim().to_string());
        }
    }
    (!groups.is_empty()).then_some(groups.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_count_once() {
        let folder = tempfile::tempdir().unwrap();
        for (cpu, siblings) in [("cpu0", "0,2"), ("cpu1", "1,3"), ("cpu2", "0,2"), ("cpu3", "1,3")]
        {
            let topology = folder.path().join(cpu).join("topology");
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("thread_siblings_list"), format!("{siblings}\n")).unwrap();
        }
        assert_eq!(physical_cores(folder.path()), Some(2));
        assert_eq!(physical_cores(&folder.path().join("absent")), None);
    }

    #[test]
    fn prompts_and_decode_have_their_own_number() {
        let threads = Threads::new(1, 3);
        assert_eq!(threads.for_tokens(1).threads(), 1);
        assert_eq!(threads.for_tokens(2).threads(), 3);
        let one = Threads::new(2, 2);
        assert!(Arc::ptr_eq(&one.decode, &one.batch));
    }

    #[test]
    fn more_threads_than_processors_are_told() {
        assert_eq!(oversubscribed(2, 2), None);
        let text = oversubscribed(3, 2).unwrap();
        assert!(text.contains("3 threads for 2 processors") && text.contains("-t 2"), "{text}");
        assert_eq!(oversubscribed(default_threads().count, allowed_processors()), None);
    }

    #[test]
    fn the_tightest_limit_wins() {
        assert_eq!(choose(16, Some(8)).count, 8);
        assert_eq!(choose(2, Some(8)).count, 2);
        assert_eq!(choose(4, Some(4)).count, 4);
        assert_eq!(choose(3, None).count, 3);
        assert!(default_threads().count >= 1);
    }
}
