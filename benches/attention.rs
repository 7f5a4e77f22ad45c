//! Attention over a full cache: one token at two depths, and a prompt, with F16 and Q8_0 caches.
//!
//! The shape is that of a 1.1-billion-parameter llama: 32 query heads of 64 on 4 key heads.
//! Throughput is given twice, to hold it against both limits of a machine: multiply-adds of visible
//! pairs, and bytes of the cache (keys and values). Calls go through one cache after the other, as
//! layers do, so that decode finds nothing in the caches of a core.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpuwhy::engine::backend::cpu::kernels::flash_attn::{flash_attn, flash_attn_scratch_bytes};
use gpuwhy::engine::backend::cpu::{Isa, TensorRef, ThreadPool};
use gpuwhy::engine::tensor::{DType, quantize_vec};
use half::f16;

const HEAD: usize = 64;
const N_HEAD: usize = 32;
const N_HEAD_KV: usize = 4;

/// Bytes that all layers of a decode case hold at least: more than the caches of a core.
const ALL_LAYERS: usize = 64 << 20;

/// Memory that all workers may name.
struct Shared<T: ?Sized>(*mut T);
// SAFETY: the kernel deals the memory out among the workers.
unsafe impl<T: ?Sized> Sync for Shared<T> {}

impl<T: ?Sized> Shared<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

/// Operands of one call, with the memory behind them.
struct Case {
    q: Vec<f32>,
    /// Keys, then values, of each layer.
    cache: Vec<[Vec<u8>; 2]>,
    /// The layer of the next call.
    layer: usize,
    mask: Vec<f16>,
    out: Vec<f32>,
    scratch: Vec<u8>,
    dtype: DType,
    n_kv: usize,
    t: usize,
}

/// Numbers that look random enough not to be special.
fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % 10_007) as f32 / 5003.0) - 1.0).collect()
}

impl Case {
    fn new(dtype: DType, n_kv: usize, t: usize, threads: usize) -> Self {
        let cache = floats(HEAD * N_HEAD_KV * n_kv);
        let bytes = quantize_vec(dtype, &cache).expect("cache rows are whole blocks");
        // A prompt reads its cache once for many tokens: one layer does.
        let layers = if t > 1 { 1 } else { ALL_LAYERS.div_ceil(2 * bytes.len()) };
        let mask = (0..t).flat_map(|token| {
            (0..n_kv).map(
                move |key| {
                    if key + t <= token + n_kv { f16::ZERO } else { f16::NEG_INFINITY }
                },
            )
        });
        let scratch = flash_attn_scratch_bytes(HEAD, HEAD, N_HEAD, N_HEAD_KV, n_kv, t, threads);
        Self {
            q: floats(HEAD * N_HEAD * t),
            cache: vec![[bytes.clone(), bytes.clone()]; layers],
            layer: 0,
            mask: mask.collect(),
            out: vec![0.0; HEAD * N_HEAD * t],
            scratch: vec![0; scratch],
            dtype,
            n_kv,
            t,
        }
    }

    fn cache_view(&self, bytes: *mut u8) -> TensorRef {
        let head = self.dtype.row_bytes(HEAD).expect("a head is whole blocks");
        let row = head * N_HEAD_KV;
        TensorRef {
            ptr: bytes,
            dtype: self.dtype,
            ne: [HEAD, self.n_kv, N_HEAD_KV, 1],
            nb: [self.dtype.block_bytes(), row, head, row * self.n_kv],
        }
    }

    fn run(&mut self, pool: &ThreadPool) {
        let heads = [HEAD, N_HEAD, self.t, 1];
        let q = TensorRef::contiguous(self.q.as_mut_ptr().cast(), DType::F32, heads);
        let dst = TensorRef::contiguous(self.out.as_mut_ptr().cast(), DType::F32, heads);
        let mask = [self.n_kv, self.t, 1, 1];
        let mask = TensorRef::contiguous(self.mask.as_mut_ptr().cast(), DType::F16, mask);
        self.layer = (self.layer + 1) % self.cache.len();
        let [k, v] = self.cache[self.layer].each_mut().map(Vec::as_mut_ptr);
        let (k, v) = (self.cache_view(k), self.cache_view(v));
        let scratch = Shared(&raw mut self.scratch[..]);
        let isa = Isa::detect();
        pool.run(&|wk| {
            // SAFETY: all operands are live and of fitting shapes; the scratch is large enough.
            unsafe { flash_attn(wk, isa, q, k, v, mask, dst, 0.125, 0.0, scratch.get()) }
        });
        black_box(&self.out);
    }

    fn throughput(&self) -> Throughput {
        let bytes: usize = self.cache[0].iter().map(Vec::len).sum();
        Throughput::ElementsAndBytes { elements: self.multiply_adds(), bytes: bytes as u64 }
    }

    /// Multiply-adds of the pairs that the causal mask shows.
    fn multiply_adds(&self) -> u64 {
        let pairs: usize = (0..self.t).map(|token| self.n_kv - self.t + token + 1).sum();
        (pairs * N_HEAD * HEAD * 2) as u64
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn decode(c: &mut Criterion) {
    let pool = ThreadPool::new(threads());
    let mut group = c.benchmark_group("attention/decode");
    for dtype in [DType::F16, DType::Q8_0, DType::Q4_0] {
        for depth in [2048, 8192] {
            let mut case = Case::new(dtype, depth, 1, pool.threads());
            group.throughput(case.throughput());
            group.bench_function(BenchmarkId::new(dtype.name(), depth), |b| {
                b.iter(|| case.run(&pool));
            });
        }
    }
}

fn prompt(c: &mut Criterion) {
    let pool = ThreadPool::new(threads());
    let mut group = c.benchmark_group("attention/prompt");
    group.sample_size(20);
    for dtype in [DType::F16, DType::Q8_0] {
        let mut case = Case::new(dtype, 512, 512, pool.threads());
        group.throughput(case.throughput());
        group.bench_function(BenchmarkId::new(dtype.name(), 512), |b| b.iter(|| case.run(&pool)));
    }
}

criterion_group!(benches, decode, prompt);
criterion_main!(benches);
