//! Matrix products of every weight type: bytes of weights per second when decoding one token,
//! operations per second when reading a prompt.
//!
//! `GPUWHY_BENCH_THREADS` sets the number of threads (default 2), `GPUWHY_CPU_ISA` the kernels.
//! Criterion's filter picks types: `cargo bench --bench matmul -- decode/Q4_K`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpuwhy::engine::backend::cpu::kernels::matmul::{
    SCRATCH_ALIGN, mul_mat, mul_mat_scratch_bytes,
};
use gpuwhy::engine::backend::cpu::{Isa, TensorRef, ThreadPool};
use gpuwhy::engine::tensor::{DType, quantize_vec};

/// Inner extent, and rows, of the feed-forward matrices of a 1.1B model.
const K: usize = 2048;
const N: usize = 5632;
/// Distinct matrices for decoding, so that none is found in a cache.
const COPIES: usize = 12;

/// A job with memory of its own.
struct Bench {
    pool: ThreadPool,
    dtype: DType,
    weights: Vec<u8>,
    copies: usize,
    x: Vec<f32>,
    dst: Vec<f32>,
    scratch: Vec<u8>,
    t: usize,
}

impl Bench {
    fn new(dtype: DType, t: usize, copies: usize) -> Self {
        let threads = std::env::var("GPUWHY_BENCH_THREADS").ok().and_then(|n| n.parse().ok());
        let threads = threads.unwrap_or(2);
        // Sixteen rows of noise repeated: quantising more would take longer than the benchmark.
        let rows: Vec<f32> =
            (0..K * 16).map(|i| ((i * 7919 % 1009) as f32 / 504.5) - 1.0).collect();
        let rows = quantize_vec(dtype, &rows).unwrap_or_default();
        Self {
            pool: ThreadPool::new(threads),
            dtype,
            weights: rows.repeat(N / 16 * copies),
            copies,
            x: (0..K * t).map(|i| ((i * 31 % 101) as f32 - 50.0) * 0.02).collect(),
            dst: vec![0.0; N * t],
            scratch: vec![0; mul_mat_scratch_bytes(dtype, K, t, threads) + SCRATCH_ALIGN],
            t,
        }
    }

    fn bytes(&self) -> usize {
        self.weights.len() / self.copies
    }

    /// One product with copy `copy % copies` of the matrix.
    fn run(&mut self, copy: usize) {
        let start = self.bytes() * (copy % self.copies);
        let w = self.weights[start..].as_mut_ptr();
        let w = TensorRef::contiguous(w, self.dtype, [K, N, 1, 1]);
        let x = TensorRef::contiguous(self.x.as_mut_ptr().cast(), DType::F32, [K, self.t, 1, 1]);
        let dst = self.dst.as_mut_ptr().cast();
        let dst = TensorRef::contiguous(dst, DType::F32, [N, self.t, 1, 1]);
        let offset = self.scratch.as_ptr().align_offset(SCRATCH_ALIGN);
        let scratch = self.scratch[offset..].as_mut_ptr() as usize;
        self.pool.run(&|wk| {
            // SAFETY: all memory is owned by `self`, of the sizes that the product asks for.
            unsafe { mul_mat(wk, Isa::detect(), w, x, dst, scratch as *mut u8, false) };
        });
    }
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for dtype in DType::WEIGHTS {
        let bytes = dtype.row_bytes(K).unwrap_or(0) * N;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(dtype), |b| {
            let mut bench = Bench::new(dtype, 1, COPIES);
            let mut copy = 0;
            b.iter(|| {
                bench.run(copy);
                copy += 1;
            });
        });
    }
    group.finish();
}

fn prompt(c: &mut Criterion) {
    let mut group = c.benchmark_group("prompt");
    for t in [32, 512] {
        group.throughput(Throughput::Elements((2 * K * N * t) as u64));
        for dtype in DType::WEIGHTS {
            group.bench_function(BenchmarkId::new(dtype.name(), t), |b| {
                let mut bench = Bench::new(dtype, t, 1);
                b.iter(|| bench.run(0));
            });
        }
    }
    group.finish();
}

/// The limit that decoding is to be compared with: summing memory, as many threads.
fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory");
    let words = vec![1_u64; 32 << 20];
    group.throughput(Throughput::Bytes(words.len() as u64 * 8));
    let pool = Bench::new(DType::F32, 1, 1).pool;
    group.bench_function("read", |b| {
        b.iter(|| {
            pool.run(&|wk| {
                let share = &words[wk.share(words.len(), 4096)];
                let mut sums = [0_u64; 32];
                for chunk in share.chunks_exact(32) {
                    for (sum, &word) in sums.iter_mut().zip(chunk) {
                        *sum = sum.wrapping_add(word);
                    }
                }
                black_box(sums);
            });
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = memory, decode, prompt
}
criterion_main!(benches);
