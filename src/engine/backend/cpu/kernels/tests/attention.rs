//! Attention against the textbook: all scores, one softmax, one weighted sum, in `f64`.

use half::f16;
use proptest::prelude::*;

use super::super::flash_attn::{flash_attn, flash_attn_scratch_bytes};
use super::{Bytes, Floats, Random, close, on_every_isa};
use crate::engine::backend::cpu::TensorRef;
use crate::engine::tensor::DType;

/// Error allowed in a result, in units of what rounding makes of one score: half a unit in the last
/// place of `scale · Σ |q · k|`. A score that is off by `δ` changes its weight by `δ` of itself, so
/// a result is off by `δ` times the largest value. The worst seen was half of this.
const ATTENTION_TOLERANCE: f64 = 4.0;

/// Rounding to `f32`.
const UNIT: f64 = 1.0 / (1_u64 << 24) as f64;

/// The shapes of one call.
#[derive(Clone, Copy, Debug)]
struct Shape {
    d: usize,
    dv: usize,
    n_head_kv: usize,
    group: usize,
    n_kv: usize,
    t: usize,
}

#[derive(Clone, Copy, Debug)]
enum Masking {
    /// Token `i` sees all but the last `t - 1 - i` keys.
    Causal,
    /// As `Causal`, and only the last few of those.
    Window,
    /// Each key with a chance of one half, with a bias.
    Random,
    /// Some tokens see nothing at all.
    Blind,
    /// Everything.
    Open,
}

struct Mask {
    data: Vec<f16>,
    n_kv: usize,
}

impl Mask {
    fn new(masking: Masking, shape: Shape, random: &mut Random) -> Self {
        let Shape { n_kv, t, .. } = shape;
        let mut data = Vec::new();
        for token in 0..t {
            for key in 0..n_kv {
                let causal = key + t <= token + n_kv;
                let seen = match masking {
                    Masking::Causal => causal,
                    Masking::Window => causal && key + t + 70 > token + n_kv,
                    Masking::Random => random.bits() & 16 == 0,
                    Masking::Blind => token % 2 == 1,
                    Masking::Open => true,
                };
                let bias = if matches!(masking, Masking::Random) { random.float() } else { 0.0 };
                data.push(if seen { f16::from_f32(bias) } else { f16::NEG_INFINITY });
            }
        }
        Self { data, n_kv }
    }

    fn view(&mut self) -> TensorRef {
        let ne = [self.n_kv, self.data.len() / self.n_kv, 1, 1];
        TensorRef::contiguous(self.data.as_mut_ptr().cast(), DType::F16, ne)
    }
}

/// The cache has a row per key that holds all heads; this is the view of it that kernels get.
fn by_head(cache: TensorRef, shape: Shape, d: usize) -> TensorRef {
    TensorRef {
        ne: [d, shape.n_kv, shape.n_head_kv, 1],
        nb: [cache.nb[0], cache.nb[1], cache.dtype.row_bytes(d).unwrap(), cache.nb[1] * shape.n_kv],
        ..cache
    }
}

/// The largest `scale · Σ |q · k|` of one token's query heads over all keys: how large the terms are
/// that a score is added up from. At least 1, for the rounding of what follows the scores.
fn score_terms(shape: Shape, q: &[&[f32]], k: &[Vec<f32>], scale: f32) -> f64 {
    let sum = |head: usize, key: &Vec<f32>| {
        let row = &key[head / shape.group * shape.d..][..shape.d];
        q[head].iter().zip(row).map(|(&a, &b)| f64::from(a * b).abs()).sum::<f64>()
    };
    let all = (0..q.len()).flat_map(|head| k.iter().map(move |key| (head, key)));
    let largest = all.map(|(head, key)| sum(head, key)).fold(0.0, f64::max);
    (largest * f64::from(scale)).max(1.0)
}

/// `out[head][i]` for one token.
fn reference(
    shape: Shape,
    q: &[&[f32]],
    k: &[Vec<f32>],
    v: &[Vec<f32>],
    mask: &[f16],
    scale: f32,
    softcap: f32,
) -> Vec<Vec<f64>> {
    (0..shape.n_head_kv * shape.group)
        .map(|head| {
            let (at_k, at_v) = (head / shape.group * shape.d, head / shape.group * shape.dv);
            let scores: Vec<f64> = (0..shape.n_kv)
                .map(|key| {
                    let row = &k[key][at_k..at_k + shape.d];
                    let dot: f64 =
                        q[head].iter().zip(row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    let (score, cap) = (dot * f64::from(scale), f64::from(softcap));
                    let score = if cap == 0.0 { score } else { cap * (score / cap).tanh() };
                    score + f64::from(mask[key])
                })
                .collect();
            let max = scores.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
            if max == f64::NEG_INFINITY {
                return vec![0.0; shape.dv];
            }
            let weights: Vec<f64> = scores.iter().map(|x| (x - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            (0..shape.dv)
                .map(|i| {
                    let terms =
                        (0..shape.n_kv).map(|key| weights[key] * f64::from(v[key][at_v + i]));
                    terms.sum::<f64>() / sum
                })
                .collect()
        })
        .collect()
}

fn check(shape: Shape, dtype: DType, masking: Masking, softcap: f32, threads: usize, seed: u64) {
    let random = &mut Random::new(seed);
    let Shape { d, dv, n_head_kv, group, n_kv, t } = shape;
    let n_head = n_head_kv * group;
    let mut q = Floats::random([d, n_head, t], 5, random);
    let mut k = Bytes::quantized(dtype, [d * n_head_kv, n_kv, 1], random);
    let mut v = Bytes::quantized(dtype, [dv * n_head_kv, n_kv, 1], random);
    let mut mask = Mask::new(masking, shape, random);
    let mut out = Floats::new([dv, n_head, t], 2, || 7.0);
    let scale = 1.0 / (d as f32).sqrt();

    let keys: Vec<Vec<f32>> = (0..n_kv).map(|key| k.floats(key)).collect();
    let values: Vec<Vec<f32>> = (0..n_kv).map(|key| v.floats(key)).collect();
    let want: Vec<Vec<f64>> = (0..t)
        .flat_map(|token| {
            let rows: Vec<&[f32]> = (0..n_head).map(|h| q.row(token * n_head + h)).collect();
            let mask = &mask.data[token * n_kv..][..n_kv];
            reference(shape, &rows, &keys, &values, mask, scale, softcap)
        })
        .collect();

    let tolerances: Vec<f64> = (0..t)
        .map(|token| {
            let rows: Vec<&[f32]> = (0..n_head).map(|h| q.row(token * n_head + h)).collect();
            ATTENTION_TOLERANCE * UNIT * score_terms(shape, &rows, &keys, scale)
        })
        .collect();

    let (k_view, v_view) = (by_head(k.view(), shape, d), by_head(v.view(), shape, dv));
    let (q_view, mask_view) = (q.view(), mask.view());
    let bytes = flash_attn_scratch_bytes(d, dv, n_head, n_head_kv, n_kv, t, threads);
    // Garbage in the scratch memory must not matter.
    let mut scratch = vec![0xFF_u8; bytes];
    on_every_isa(threads, |run| {
        let dst = out.view();
        let memory = Scratch(&raw mut scratch[..]);
        // SAFETY: all tensors are live and have fitting shapes; the scratch is large enough.
        run(&|wk, isa| unsafe {
            let scratch = memory.get();
            flash_attn(wk, isa, q_view, k_view, v_view, mask_view, dst, scale, softcap, scratch);
        });
        assert!(out.gaps_hold());
        for r in 0..n_head * t {
            for i in 0..dv {
                let got = out.row(r)[i];
                assert!(
                    close(got, want[r][i], 3.0, tolerances[r / n_head]),
                    "{shape:?} {dtype} {masking:?} row {r} element {i}: {got}, not {}",
                    want[r][i]
                );
            }
        }
        out.data.iter_mut().filter(|x| **x != super::GAP).for_each(|x| *x = 7.0);
    });
}

/// Scratch memory that all workers may name.
#[derive(Clone, Copy)]
struct Scratch(*mut [u8]);
// SAFETY: the kernel cuts it into parts, one per worker.
unsafe impl Sync for Scratch {}

impl Scratch {
    fn get(&self) -> *mut [u8] {
        self.0
    }
}

fn masking() -> impl Strategy<Value = Masking> {
    prop_oneof![
        Just(Masking::Causal),
        Just(Masking::Window),
        Just(Masking::Random),
        Just(Masking::Blind),
        Just(Masking::Open),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn plain_caches(
        d in prop::sample::select(vec![32_usize, 40, 64, 80, 96, 100, 128, 192, 256]),
        dv in prop::sample::select(vec![32_usize, 40, 64, 72, 128]),
        n_head_kv in 1_usize..4,
        group in 1_usize..17,
        n_kv in 1_usize..400,
        t in prop_oneof![1_usize..4, 4_usize..30],
        dtype in prop::sample::select(vec![DType::F32, DType::F16, DType::BF16]),
        masking in masking(),
        capped: bool,
        threads in 1_usize..5,
        seed: u64,
    ) {
        let shape = Shape { d, dv, n_head_kv, group, n_kv: n_kv.max(t), t };
        check(shape, dtype, masking, if capped { 20.0 } else { 0.0 }, threads, seed);
    }

    #[test]
    fn quantised_caches(
        d in prop::sample::select(vec![32_usize, 64, 96, 128, 256]),
        dv in prop::sample::select(vec![32_usize, 64, 128]),
        n_head_kv in 1_usize..4,
        group in 1_usize..5,
        n_kv in 1_usize..300,
        t in 1_usize..12,
        dtype in prop::sample::select(vec![
            DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::IQ4_NL,
        ]),
        masking in masking(),
        threads in 1_usize..5,
        seed: u64,
    ) {
        let shape = Shape { d, dv, n_head_kv, group, n_kv: n_kv.max(t), t };
        check(shape, dtype, masking, 0.0, threads, seed);
    }

    #[test]
    fn one_token_over_a_long_context(
        n_head_kv in 1_usize..4,
        group in 1_usize..17,
        n_kv in 300_usize..1200,
        dtype in prop::sample::select(vec![DType::F16, DType::Q8_0, DType::Q5_1]),
        capped: bool,
        masking in masking(),
        threads in 1_usize..5,
        seed: u64,
    ) {
        let shape = Shape { d: 64, dv: 64, n_head_kv, group, n_kv, t: 1 };
        check(shape, dtype, masking, if capped { 20.0 } else { 0.0 }, threads, seed);
    }
}

#[test]
fn tiles_of_many_tokens_meet_at_their_edges() {
    for (t, group) in [(63, 1), (64, 2), (65, 1), (130, 3)] {
        let shape = Shape { d: 64, dv: 64, n_head_kv: 2, group, n_kv: 192, t };
        check(shape, DType::F16, Masking::Causal, 0.0, 2, t as u64);
    }
}

#[test]
fn wide_heads_round_no_worse_than_their_scores() {
    let shape = Shape { d: 256, dv: 64, n_head_kv: 3, group: 3, n_kv: 223, t: 7 };
    check(shape, DType::Q5_1, Masking::Random, 0.0, 1, 13_888_339_121_539_150_726);
}
