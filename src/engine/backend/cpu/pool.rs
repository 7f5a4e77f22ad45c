//! The thread pool of the hot path: all threads enter a job together and meet at barriers.
//!
//! Not a task queue. A job is one closure that every worker runs; the caller is worker 0. A token
//! passes hundreds of barriers, so waiting spins for some tens of microseconds and only then
//! sleeps; an idle pool costs nothing.
//!
//! Invariant: [`ThreadPool::run`] returns, or panics with the first panic of a worker, only after
//! every worker has left the job.

use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a waiting thread spins before it sleeps. Longer than the gap between two nodes of a
/// small model, shorter than a scheduler's time slice.
const SPIN: Duration = Duration::from_micros(50);

/// Counters for dynamic shares; see [`Worker::chunks`] for why there are several.
const COUNTERS: usize = 4;

/// A number that threads wait on until it changes.
struct Gate {
    value: AtomicU32,
    sleepers: AtomicU32,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Gate {
    fn new() -> Self {
        Self {
            value: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    fn get(&self) -> u32 {
        self.value.load(Ordering::Acquire)
    }

    /// Changes the number and wakes whoever waits.
    fn advance(&self) {
        // Sequentially consistent, as is the count of sleepers: either this thread sees the
        // sleeper, or the sleeper sees the new number before it sleeps.
        self.value.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(guard(&self.lock));
            self.changed.notify_all();
        }
    }

    /// Returns once the number is no longer `seen`.
    fn wait_past(&self, seen: u32) {
        let mut spins = 0_u32;
        let mut since = None;
        while self.get() == seen {
            spins = spins.wrapping_add(1);
            if !spins.is_multiple_of(128) {
                std::hint::spin_loop();
                continue;
            }
            if since.get_or_insert_with(Instant::now).elapsed() < SPIN {
                continue;
            }
            let mut held = guard(&self.lock);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while self.value.load(Ordering::SeqCst) == seen {
                held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn guard<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One counter in a cache line of its own, so that counting does not slow the neighbours.
#[repr(align(128))]
struct Counter(AtomicUsize);

/// What the workers of a job share.
struct Meeting {
    count: usize,
    arrived: AtomicUsize,
    turn: Gate,
    /// A worker panicked: the others must leave the job instead of waiting for it.
    broken: AtomicBool,
    counters: [Counter; COUNTERS],
}

/// The payload of panics that only pass on another worker's panic.
struct Bystander;

/// What one thread knows of the job it is in.
pub struct Worker<'a> {
    /// This thread's number, from 0.
    pub index: usize,
    /// How many threads run the job.
    pub count: usize,
    meeting: &'a Meeting,
    /// How often this worker called [`Worker::chunks`].
    calls: Cell<usize>,
}

impl<'a> Worker<'a> {
    fn new(index: usize, meeting: &'a Meeting) -> Self {
        Self { index, count: meeting.count, meeting, calls: Cell::new(0) }
    }

    /// Waits until every worker of the job is here; what was written before is visible after.
    ///
    /// # Panics
    /// When another worker of the job has panicked.
    pub fn barrier(&self) {
        if self.count == 1 {
            return;
        }
        let m = self.meeting;
        // The turn is read before `broken`: a turn that a panic advanced implies `broken`.
        let turn = m.turn.get();
        if m.broken.load(Ordering::Acquire) {
            resume_unwind(Box::new(Bystander));
        }
        if m.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.count {
            m.arrived.store(0, Ordering::Release);
            m.turn.advance();
        } else {
            m.turn.wait_past(turn);
        }
        if m.broken.load(Ordering::Acquire) {
            resume_unwind(Box::new(Bystander));
        }
    }

    /// This worker's share of `0..n`, cut at multiples of `granule`.
    pub fn share(&self, n: usize, granule: usize) -> Range<usize> {
        let units = n.div_ceil(granule);
        let (start, end) = (units * self.index / self.count, units * (self.index + 1) / self.count);
        (start * granule).min(n)..(end * granule).min(n)
    }

    /// Hands out `0..n` in chunks to whichever worker comes first, so that a slow core takes fewer.
    ///
    /// Every worker of the job must call this equally often with the same arguments, and a barrier
    /// must stand between two calls: a call clears the counter of the call after next, which nobody
    /// can be using then.
    pub fn chunks(&self, n: usize, chunk: usize) -> Chunks<'a> {
        Chunks { next: self.counter(), n, chunk: chunk.max(1) }
    }

    /// Hands out `0..n` in ranges that become smaller: half of an even share of what is left. The
    /// large ones cost little to hand out, the small ones let all workers finish together.
    ///
    /// To be called as [`Worker::chunks`], and counts as a call of it.
    pub fn shrinking(&self, n: usize, sizes: Sizes) -> Shrinking<'a> {
        let sizes = Sizes { granule: sizes.granule.max(1), least: sizes.least.max(1), ..sizes };
        Shrinking { next: self.counter(), n, workers: self.count, sizes }
    }

    /// The counter of this call.
    fn counter(&self) -> &'a AtomicUsize {
        let call = self.calls.get();
        self.calls.set(call + 1);
        if self.index == 0 {
            self.meeting.counters[(call + 2) % COUNTERS].0.store(0, Ordering::Relaxed);
        }
        &self.meeting.counters[call % COUNTERS].0
    }
}

/// How large the ranges of [`Worker::shrinking`] are.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Sizes are multiples of this, but for the last range.
    pub granule: usize,
    /// No range but the last is smaller.
    pub least: usize,
    /// No range is larger.
    pub most: usize,
}

/// The ranges that one worker takes; see [`Worker::shrinking`].
pub struct Shrinking<'a> {
    next: &'a AtomicUsize,
    n: usize,
    workers: usize,
    sizes: Sizes,
}

impl Iterator for Shrinking<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let Sizes { granule, least, most } = self.sizes;
        let mut start = self.next.load(Ordering::Relaxed);
        while start < self.n {
            let left = self.n - start;
            let size = left / (2 * self.workers) / granule * granule;
            let end = (start + size.min(most).max(least)).min(self.n);
            let taken =
                self.next.compare_exchange_weak(start, end, Ordering::Relaxed, Ordering::Relaxed);
            match taken {
                Ok(_) => return Some(start..end),
                Err(now) => start = now,
            }
        }
        None
    }
}

/// The chunks that one worker takes; see [`Worker::chunks`].
pub struct Chunks<'a> {
    next: &'a AtomicUsize,
    n: usize,
    chunk: usize,
}

impl Iterator for Chunks<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.next.fetch_add(self.chunk, Ordering::Relaxed);
        (start < self.n).then(|| start..(start + self.chunk).min(self.n))
    }
}

type Job = *const (dyn Fn(&Worker) + Sync);

struct JobPtr(Job);
// SAFETY: the job is `Sync`, and `run` keeps it alive until every worker has left it.
unsafe impl Send for JobPtr {}

struct Shared {
    meeting: Meeting,
    /// Advances when a job is posted or the pool stops.
    start: Gate,
    /// Advances when the last of the other workers leaves the job.
    done: Gate,
    job: Mutex<Option<JobPtr>>,
    busy: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    /// Runs the job as worker `index`; a panic ends the job for all workers.
    fn enter(&self, index: usize, job: &(dyn Fn(&Worker) + Sync)) {
        let worker = Worker::new(index, &self.meeting);
        let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(&worker))) else { return };
        if !payload.is::<Bystander>() {
            guard(&self.panic).get_or_insert(payload);
        }
        self.meeting.broken.store(true, Ordering::Release);
        self.meeting.turn.advance();
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
            meeting: Meeting {
                count,
                arrived: AtomicUsize::new(0),
                turn: Gate::new(),
                broken: AtomicBool::new(false),
                counters: std::array::from_fn(|_| Counter(AtomicUsize::new(0))),
            },
            start: Gate::new(),
            done: Gate::new(),
            job: Mutex::new(None),
            busy: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
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
        self.shared.meeting.count
    }

    /// Runs `job` on every worker and returns when all have finished. Not to be called from a job.
    ///
    /// # Panics
    /// With the first panic of a worker, after all have left the job; the pool stays usable.
    pub fn run(&self, job: &(dyn Fn(&Worker) + Sync)) {
        let entered = guard(&self.entry);
        let shared = &*self.shared;
        for counter in &shared.meeting.counters {
            counter.0.store(0, Ordering::Relaxed);
        }
        let others = shared.meeting.count - 1;
        let done = shared.done.get();
        if others > 0 {
            // SAFETY: only the lifetime is erased; this function does not return before every
            // worker has left the job.
            let erased: Job = unsafe {
                std::mem::transmute::<&(dyn Fn(&Worker) + Sync), &'static (dyn Fn(&Worker) + Sync)>(
                    job,
                )
            };
            *guard(&shared.job) = Some(JobPtr(erased));
            shared.busy.store(others, Ordering::Release);
            shared.start.advance();
        }
        shared.enter(0, job);
        if others > 0 {
            shared.done.wait_past(done);
            *guard(&shared.job) = None;
        }
        if shared.meeting.broken.swap(false, Ordering::AcqRel) {
            shared.meeting.arrived.store(0, Ordering::Release);
            let payload = guard(&shared.panic).take();
            drop(entered);
            resume_unwind(payload.unwrap_or_else(|| Box::new("a worker panicked")));
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.start.advance();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        shared.start.wait_past(seen);
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        // Every job is left by all workers before the next is posted, so none is ever skipped.
        seen = seen.wrapping_add(1);
        let Some(job) = guard(&shared.job).as_ref().map(|job| job.0) else { continue };
        // SAFETY: `run` keeps the closure alive until `busy` is back at 0.
        shared.enter(index, unsafe { &*job });
        if shared.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.done.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_passes_every_barrier_with_the_others() {
        let pool = ThreadPool::new(4);
        for _ in 0..50 {
            let sum = AtomicUsize::new(0);
            pool.run(&|wk| {
                for round in 1..=20 {
                    sum.fetch_add(1, Ordering::Relaxed);
                    wk.barrier();
                    assert_eq!(sum.load(Ordering::Relaxed), round * wk.count);
                    wk.barrier();
                }
            });
        }
    }

    #[test]
    fn chunks_cover_the_range_once() {
        let pool = ThreadPool::new(3);
        let hits: Vec<AtomicUsize> = (0..101).map(|_| AtomicUsize::new(0)).collect();
        for _ in 0..3 {
            pool.run(&|wk| {
                for _ in 0..10 {
                    for range in wk.chunks(hits.len(), 7) {
                        for i in range {
                            hits[i].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    wk.barrier();
                }
            });
        }
        assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 30));
    }

    #[test]
    fn shrinking_ranges_cover_the_range_once_and_keep_their_sizes() {
        let pool = ThreadPool::new(2);
        let (n, sizes) = (1003, Sizes { granule: 16, least: 32, most: 256 });
        let taken = Mutex::new(Vec::new());
        pool.run(&|wk| {
            for range in wk.shrinking(n, sizes) {
                guard(&taken).push((range.start, range.end));
            }
        });
        let mut taken = taken.into_inner().expect("no worker panicked");
        taken.sort_unstable();
        let lengths: Vec<usize> = taken.iter().map(|(start, end)| end - start).collect();
        assert_eq!(taken.iter().fold(0, |at, &(start, end)| if start == at { end } else { 0 }), n);
        assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
        let (last, others) = lengths.split_last().expect("there are some");
        assert!(others.iter().all(|l| l.is_multiple_of(16) && (32..=256).contains(l)));
        assert!((1..=32).contains(last) && others[0] > 200, "{lengths:?}");
    }

    #[test]
    fn shares_are_disjoint_and_complete() {
        let pool = ThreadPool::new(3);
        let covered = AtomicUsize::new(0);
        pool.run(&|wk| {
            let share = wk.share(100, 8);
            assert!(share.start.is_multiple_of(8));
            covered.fetch_add(share.len(), Ordering::Relaxed);
        });
        assert_eq!(covered.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn a_panic_frees_the_others_and_reaches_the_caller() {
        let pool = ThreadPool::new(3);
        for culprit in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|wk| {
                    wk.barrier();
                    if wk.index == culprit {
                        resume_unwind(Box::new("on purpose"));
                    }
                    wk.barrier();
                });
            }));
            let payload = caught.expect_err("the panic is passed on");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
        }
        let ran = AtomicUsize::new(0);
        pool.run(&|wk| {
            wk.barrier();
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.load(Ordering::Relaxed), 3);
    }

    /// The deadline only turns endless spinning into a failure; how soon they sleep is not judged.
    #[test]
    fn idle_workers_sleep() {
        let pool = ThreadPool::new(3);
        for _ in 0..2 {
            pool.run(&|wk| wk.barrier());
            let began = Instant::now();
            while pool.shared.start.sleepers.load(Ordering::SeqCst) < 2 {
                assert!(began.elapsed() < Duration::from_mins(1), "idle workers still spin");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn a_sleeping_pool_wakes() {
        let pool = ThreadPool::new(2);
        std::thread::sleep(SPIN * 40);
        let ran = AtomicUsize::new(0);
        pool.run(&|wk| {
            if wk.index == 1 {
                std::thread::sleep(SPIN * 40);
            }
            wk.barrier();
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    }
}
