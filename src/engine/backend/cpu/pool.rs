//! The thread pool of the hot path: all threads enter a job together and meet at barriers.
//!
//! Not a task queue. A job is one closure that every worker runs; the caller is worker 0.

use std::ops::Range;
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What one thread knows of the job it is in.
#[derive(Debug)]
pub struct Worker<'a> {
    /// This thread's number, from 0.
    pub index: usize,
    /// How many threads run the job.
    pub count: usize,
    barrier: &'a Barrier,
}

impl Worker<'_> {
    /// Waits until every worker of the job is here; what was written before is visible after.
    pub fn barrier(&self) {
        if self.count > 1 {
            self.barrier.wait();
        }
    }

    /// This worker's share of `0..n`, cut at multiples of `granule`.
    pub fn share(&self, n: usize, granule: usize) -> Range<usize> {
        let units = n.div_ceil(granule);
        let (start, end) = (units * self.index / self.count, units * (self.index + 1) / self.count);
        (start * granule).min(n)..(end * granule).min(n)
    }
}

type Job = *const (dyn Fn(&Worker) + Sync);

struct JobPtr(Job);
// SAFETY: the job is `Sync`, and `run` keeps it alive until every worker has left it.
unsafe impl Send for JobPtr {}

struct State {
    job: Option<JobPtr>,
    epoch: u64,
    busy: usize,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    start: Condvar,
    done: Condvar,
    barrier: Barrier,
    count: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that run one job at a time.
pub struct ThreadPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    entry: Mutex<()>,
}

impl ThreadPool {
    /// A pool of `count` workers, the caller of [`ThreadPool::run`] among them.
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { job: None, epoch: 0, busy: 0, stop: false }),
            start: Condvar::new(),
            done: Condvar::new(),
            barrier: Barrier::new(count),
            count,
        });
        let threads = (1..count)
            .map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&shared, index))
            })
            .collect();
        Self { shared, threads, entry: Mutex::new(()) }
    }

    /// How many workers run each job.
    pub fn threads(&self) -> usize {
        self.shared.count
    }

    /// Runs `job` on every worker and returns when all have finished.
    pub fn run(&self, job: &(dyn Fn(&Worker) + Sync)) {
        let _one_at_a_time = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        if shared.count > 1 {
            let mut state = shared.lock();
            // SAFETY: only the lifetime is erased; this function does not return before every
            // worker has left the job.
            let erased: Job = unsafe {
                std::mem::transmute::<&(dyn Fn(&Worker) + Sync), &'static (dyn Fn(&Worker) + Sync)>(
                    job,
                )
            };
            state.job = Some(JobPtr(erased));
            state.epoch += 1;
            state.busy = shared.count - 1;
            drop(state);
            shared.start.notify_all();
        }
        job(&Worker { index: 0, count: shared.count, barrier: &shared.barrier });
        let mut state = shared.lock();
        while state.busy > 0 {
            state = shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.job = None;
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.start.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let job = {
            let mut state = shared.lock();
            while !state.stop && state.epoch == seen {
                state = shared.start.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            seen = state.epoch;
            match &state.job {
                Some(job) => job.0,
                None => continue,
            }
        };
        // SAFETY: `run` keeps the closure alive until `busy` is back at 0.
        let job = unsafe { &*job };
        job(&Worker { index, count: shared.count, barrier: &shared.barrier });
        let mut state = shared.lock();
        state.busy -= 1;
        if state.busy == 0 {
            shared.done.notify_one();
        }
    }
}
