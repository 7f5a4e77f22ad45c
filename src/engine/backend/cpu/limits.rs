//! What this machine can do at most: bytes read from memory, integer operations and F32 operations
//! per second, with the pool's threads and the chosen instruction set.
//!
//! The yardstick for kernels, not a kernel and not a model of one: each loop does nothing but the
//! one thing it measures. Memory is read front to back by every thread, once as one stream and once
//! as several at a time (the hardware prefetcher stops at a page's end, so several streams hide
//! each other's stops); the better way counts. Arithmetic runs on registers only, with as many
//! independent sums as hide an instruction's latency. A multiply-add counts as two operations.
//!
//! Invariant: a rate is never more than what was done in the time it took; noise on the machine can
//! only lower it, so of several measurements the best one is the limit.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use crate::base::stats;

use super::device::host_memory;
use super::isa::Isa;
use super::pool::ThreadPool;

/// The smallest buffer that is read when memory allows.
const BUFFER_BYTES_MIN: u64 = 1 << 30;

/// The buffer is so many times as large as the largest cache, so that hardly a line of it is still
/// there when its turn comes again.
const CACHES: u64 = 4;

/// The ways to read: this many streams for each thread at a time.
const STREAMS: [usize; 3] = [1, 4, 8];

/// Passes over the buffer with each number of streams, and the time after which the rest of them is
/// left out; two there always are.
const READ_PASSES: usize = 10;
const READ_SECONDS_MAX: f64 = 2.0;

/// Passes of each arithmetic loop, and the time of one.
const COMPUTE_PASSES: usize = 9;
const COMPUTE_PASS_SECONDS: f64 = 0.03;

/// One cache line, the unit of the buffer.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u64; 8]);

/// Something per second, measured in several passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Of the fastest pass: the limit.
    pub best: f64,
    /// Of the middle one. Far below `best` the machine was not quiet.
    pub median: f64,
}

impl Rate {
    fn of(passes: &[f64]) -> Self {
        Self { best: passes.iter().copied().fold(0.0, f64::max), median: stats::median(passes) }
    }

    fn larger(self, other: Self) -> Self {
        if other.best > self.best { other } else { self }
    }

    /// By which share of the larger one the two differ.
    fn drift(self, other: Self) -> f64 {
        let (low, high) = (self.best.min(other.best), self.best.max(other.best));
        if high > 0.0 { 1.0 - low / high } else { 0.0 }
    }
}

/// An arithmetic loop with the instructions that it repeats.
#[derive(Clone, Copy)]
struct Loop {
    instruction: &'static str,
    /// Runs so many rounds and returns how many operations those were.
    run: fn(u64) -> u64,
}

/// The loops of an instruction set.
#[derive(Clone, Copy)]
struct Loops {
    int8: Loop,
    /// The same with sums of 16 bits, where kernels can use them.
    int8_short: Option<Loop>,
    f32: Loop,
}

/// A measured rate of operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComputeRate {
    /// The instructions that did it.
    pub instruction: &'static str,
    /// Operations per second.
    pub rate: Rate,
}

/// What a machine can do. See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MachineLimits {
    /// The instruction set that was used.
    pub isa: Isa,
    /// The threads that ran.
    pub threads: usize,
    /// The largest cache, where the system tells.
    pub cache_bytes: Option<u64>,
    /// Bytes that each pass read.
    pub buffer_bytes: u64,
    /// Streams for each thread in the fastest pass.
    pub streams: usize,
    /// Bytes read per second.
    pub read: Rate,
    /// Products of 8-bit integers added in 32 bits.
    pub int8: ComputeRate,
    /// Products of 8-bit integers added in 16 bits, where the set has no faster way to 32.
    pub int8_short: Option<ComputeRate>,
    /// F32 multiply-adds.
    pub f32: ComputeRate,
}

/// The limits cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {bytes} bytes of memory for the buffer that the memory limit is measured on")]
pub struct NoBuffer {
    bytes: u64,
}

impl MachineLimits {
    /// Measures with all threads of `pool`; takes about three seconds.
    ///
    /// # Errors
    /// When there is no memory for the buffer.
    pub fn measure(pool: &ThreadPool, isa: Isa) -> Result<Self, NoBuffer> {
        let cache_bytes = largest_cache(Path::new("/sys/devices/system/cpu/cpu0/cache"));
        let bytes = buffer_bytes(cache_bytes, host_memory().free_bytes);
        let (streams, read) = measure_read(pool, isa, bytes)?;
        let loops = loops(isa);
        Ok(Self {
            isa,
            threads: pool.threads(),
            cache_bytes,
            buffer_bytes: bytes,
            streams,
            read,
            int8: measure_loop(pool, loops.int8),
            int8_short: loops.int8_short.map(|l| measure_loop(pool, l)),
            f32: measure_loop(pool, loops.f32),
        })
    }

    /// The larger of each rate of two measurements of the same machine.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        let compute =
            |a: ComputeRate, b: ComputeRate| ComputeRate { rate: a.rate.larger(b.rate), ..a };
        Self {
            streams: if other.read.best > self.read.best { other.streams } else { self.streams },
            read: self.read.larger(other.read),
            int8: compute(self.int8, other.int8),
            int8_short: self.int8_short.zip(other.int8_short).map(|(a, b)| compute(a, b)),
            f32: compute(self.f32, other.f32),
            ..self
        }
    }

    /// The largest difference between two measurements, as a share of the larger rate: how much the
    /// machine changed between them.
    pub fn drift(&self, other: &Self) -> f64 {
        let compute = |a: ComputeRate, b: ComputeRate| a.rate.drift(b.rate);
        [self.read.drift(other.read), compute(self.int8, other.int8), compute(self.f32, other.f32)]
            .into_iter()
            .fold(0.0, f64::max)
    }
}

/// The bytes of the largest cache that Linux lists in this folder.
fn largest_cache(folder: &Path) -> Option<u64> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let sizes = entries.filter_map(|e| fs::read_to_string(e.path().join("size")).ok());
    sizes.filter_map(|text| crate::base::units::parse_bytes(text.trim()).ok()).max()
}

/// How large a buffer to read: far larger than the cache, and never more than half of what is free.
fn buffer_bytes(cache: Option<u64>, free: u64) -> u64 {
    let wanted = BUFFER_BYTES_MIN.max(cache.unwrap_or(0).saturating_mul(CACHES));
    wanted.min(free / 2).next_multiple_of(1 << 20)
}

/// The fastest way to read a buffer of this size: streams for each thread, and bytes per second.
fn measure_read(pool: &ThreadPool, isa: Isa, bytes: u64) -> Result<(usize, Rate), NoBuffer> {
    let n = bytes as usize / size_of::<Line>();
    let mut lines: Vec<Line> = Vec::new();
    lines.try_reserve_exact(n).map_err(|_| NoBuffer { bytes })?;
    // Written, because pages that nobody wrote to are all the same page of zeros.
    lines.resize(n, Line([1; 8]));
    let mut passes = [const { Vec::new() }; STREAMS.len()];
    // The ways take turns, so that a disturbance hits all of them.
    let began = Instant::now();
    for pass in 0..READ_PASSES {
        if pass >= 2 && began.elapsed().as_secs_f64() > READ_SECONDS_MAX {
            break;
        }
        for (passes, streams) in passes.iter_mut().zip(STREAMS) {
            let start = Instant::now();
            pool.run(&|wk| {
                black_box(read(isa, &lines[wk.share(n, 1)], streams));
            });
            passes.push(bytes as f64 / start.elapsed().as_secs_f64());
        }
    }
    let rates = passes.iter().map(|p| Rate::of(p)).zip(STREAMS);
    let best = rates.max_by(|a, b| a.0.best.total_cmp(&b.0.best));
    Ok(best.map_or((1, Rate::default()), |(rate, streams)| (streams, rate)))
}

/// Reads all lines as so many streams side by side; the result only keeps the reads alive.
fn read(isa: Isa, lines: &[Line], streams: usize) -> u64 {
    match isa {
        // SAFETY: an `Isa` other than the portable one comes from detecting it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::read_avx2(lines, streams) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { x86::read_avx512(lines, streams) },
        _ => portable::read(lines, streams),
    }
}

fn loops(isa: Isa) -> Loops {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => x86::AVX2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => x86::AVX512,
        _ => portable::LOOPS,
    }
}

fn measure_loop(pool: &ThreadPool, looped: Loop) -> ComputeRate {
    // As many rounds as one thread does in the time of a pass, found on this thread alone.
    let mut rounds = 1 << 10;
    loop {
        let start = Instant::now();
        black_box((looped.run)(black_box(rounds)));
        let seconds = start.elapsed().as_secs_f64();
        if seconds > COMPUTE_PASS_SECONDS / 4.0 {
            rounds = ((rounds as f64 * COMPUTE_PASS_SECONDS / seconds) as u64).max(1);
            break;
        }
        rounds *= 2;
    }
    let passes = (0..COMPUTE_PASSES).map(|_| {
        let done = std::sync::atomic::AtomicU64::new(0);
        let start = Instant::now();
        pool.run(&|_| {
            let operations = (looped.run)(black_box(rounds));
            done.fetch_add(operations, std::sync::atomic::Ordering::Relaxed);
        });
        done.into_inner() as f64 / start.elapsed().as_secs_f64()
    });
    let passes: Vec<f64> = passes.collect();
    ComputeRate { instruction: looped.instruction, rate: Rate::of(&passes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_once_whatever_the_streams() {
        for isa in Isa::available() {
            for n in [0, 1, 7, 8, 63, 1000] {
                // Each line has a bit of its own among the lines around it, and reading is OR-ing.
                let lines: Vec<Line> = (0..n).map(|i| Line([1 << (i % 64); 8])).collect();
                let expected = lines.iter().fold(0, |sum, l| sum | l.0[0]);
                for streams in STREAMS {
                    assert_eq!(read(isa, &lines, streams), expected, "{isa}: {n} as {streams}");
                }
            }
        }
    }

    #[test]
    fn loops_count_in_proportion_to_their_rounds() {
        for isa in Isa::available() {
            let loops = loops(isa);
            for l in [Some(loops.int8), loops.int8_short, Some(loops.f32)].into_iter().flatten() {
                let one = (l.run)(1);
                assert!(one > 0 && one.is_multiple_of(2), "{isa} {}", l.instruction);
                assert_eq!((l.run)(7), 7 * one, "{isa} {}", l.instruction);
            }
        }
    }

    #[test]
    fn the_buffer_is_far_larger_than_the_cache_and_fits() {
        const GIB: u64 = 1 << 30;
        assert_eq!(buffer_bytes(Some(260 << 20), 20 * GIB), 1040 << 20);
        assert_eq!(buffer_bytes(Some(32 << 20), 20 * GIB), GIB);
        assert_eq!(buffer_bytes(None, 20 * GIB), GIB);
        assert_eq!(buffer_bytes(Some(260 << 20), GIB), GIB / 2);
    }

    #[test]
    fn the_largest_cache_counts() {
        let folder = tempfile::tempdir().unwrap();
        for (index, size) in [("index0", "48K\n"), ("index2", "2048K\n"), ("index3", "266240K\n")] {
            fs::create_dir(folder.path().join(index)).unwrap();
            fs::write(folder.path().join(index).join("size"), size).unwrap();
        }
        assert_eq!(largest_cache(folder.path()), Some(260 << 20));
        assert_eq!(largest_cache(&folder.path().join("absent")), None);
    }

    #[test]
    fn of_two_measurements_the_larger_counts() {
        let rate = |best: f64| Rate { best, median: best / 2.0 };
        let compute = |best| ComputeRate { instruction: "x", rate: rate(best) };
        let before = MachineLimits {
            isa: Isa::Scalar,
            threads: 1,
            cache_bytes: None,
            buffer_bytes: 1,
            streams: 1,
            read: rate(20.0),
            int8: compute(100.0),
            int8_short: None,
            f32: compute(50.0),
        };
        let after = MachineLimits { streams: 4, read: rate(25.0), int8: compute(90.0), ..before };
        let both = before.larger(after);
        assert_eq!((both.streams, both.read, both.int8), (4, rate(25.0), compute(100.0)));
        assert!((before.drift(&after) - 0.2).abs() < 1e-12);
        assert_eq!(before.drift(&before), 0.0);
        assert_eq!(Rate::of(&[1.0, 3.0, 2.0]), Rate { best: 3.0, median: 2.0 });
    }

    /// Not a statement about speed: only that a measurement comes to an end with all its parts.
    #[test]
    fn arithmetic_is_measured() {
        let rate = measure_loop(&ThreadPool::new(2), loops(Isa::detect()).f32);
        assert!(rate.rate.best >= rate.rate.median && rate.rate.median > 0.0);
    }
}
