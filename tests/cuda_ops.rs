//! Every CUDA kernel but the matrix products against the CPU engine, through an emulated driver:
//! random shapes, tails, strides and alignments.
//!
//! A case is an image of memory in which all operands lie. Both devices run the operation on a copy,
//! so that whatever a kernel writes beside its result shows as well.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use gpuwhy::engine::graph::{GluKind, Op, RopeMode, RopeParams};
use gpuwhy::engine::tensor::DType;

use support::cuda::emulated;
use support::memory_image::{Bound, CACHE_TYPES, Case, EXACT_FLOATS, Pair, Placed, Random};

#[test]
fn elementwise_operations_agree() {
    emulated("elementwise_operations_agree", &[], || {
        let (mut pair, mut random) = (Pair::open(), Random(1));
        for round in 0..30 {
            let ne = [1 + random.below(1500), 1 + random.below(4), 1 + random.below(3)];
            let (gap, align) = random.pick(&[(0, 16), (0, 4), (16, 16), (4, 4)]);
            let mut case = Case::new();
            let a = case.random(&mut random, DType::F32, ne, gap, align);
            let b_ne = if round % 3 == 0 { [ne[0], 1, 1] } else { ne };
            let b = case.random(&mut random, DType::F32, b_ne, 0, align);
            let dst = if round % 5 == 0 { a } else { case.room(DType::F32, ne, gap, align) };
            for op in [Op::Add, Op::Mul] {
                let what = format!("{} {ne:?} {b_ne:?} gap {gap}", op.name());
                pair.compare(&what, &case, op, &[a, b], &dst, EXACT_FLOATS);
            }
            let op = Op::Scale { factor: 0.37 };
            pair.compare(&format!("SCALE {ne:?}"), &case, op, &[a], &dst, EXACT_FLOATS);
            if b_ne == ne {
                for kind in [GluKind::Silu, GluKind::Gelu] {
                    let what = format!("{kind:?} {ne:?} gap {gap}");
                    let near = Bound::Near { absolute: 1e-7, relative: 4e-6 };
                    pair.compare(&what, &case, Op::Glu(kind), &[a, b], &dst, near);
                }
            }
        }
    });
}

#[test]
fn rows_are_normed_as_on_the_cpu() {
    emulated("rows_are_normed_as_on_the_cpu", &[], || {
        let (mut pair, mut random) = (Pair::open(), Random(2));
        for round in 0..24 {
            let ne = [1 + random.below(3000), 1 + random.below(4), 1 + random.below(3)];
            let (gap, align) = random.pick(&[(0, 16), (0, 4), (16, 16), (4, 4)]);
            let mut case = Case::new();
            let x = case.random(&mut random, DType::F32, ne, gap, align);
            let weight = case.random(&mut random, DType::F32, [ne[0], 1, 1], 0, align);
            let dst = if round % 5 == 0 { x } else { case.room(DType::F32, ne, gap, align) };
            let near = Bound::Near { absolute: 1e-7, relative: 2e-6 };
            let what = format!("{ne:?} gap {gap} align {align}");
            let op = Op::RmsNorm { eps: 1e-5 };
            pair.compare(&format!("norm {what}"), &case, op, &[x, weight], &dst, near);
            let near = Bound::Near { absolute: 1e-9, relative: 1e-5 };
            pair.compare(&format!("softmax {what}"), &case, Op::SoftMax, &[x], &dst, near);
        }
        // A row that hides everything.
        let mut case = Case::new();
        let x = case.room(DType::F32, [40, 1, 1], 0, 16);
        case.fill(&x, &[f32::NEG_INFINITY; 40]);
        let dst = case.room(DType::F32, [40, 1, 1], 0, 16);
        pair.compare("softmax of nothing", &case, Op::SoftMax, &[x], &dst, EXACT_FLOATS);
    });
}

#[test]
fn heads_turn_as_on_the_cpu() {
    emulated("heads_turn_as_on_the_cpu", &[], || {
        let (mut pair, mut random) = (Pair::open(), Random(3));
        for round in 0..24 {
            let d = 2 * (1 + random.below(130));
            let (heads, t) = (1 + random.below(20), 1 + random.below(4));
            let n_dims = if round % 3 == 0 { d } else { 2 * random.below(d / 2 + 1) };
            let params = RopeParams {
                mode: random.pick(&[RopeMode::Norm, RopeMode::Neox]),
                n_dims,
                freq_base: random.pick(&[10_000.0, 1_000_000.0]),
                freq_scale: random.pick(&[1.0, 0.125]),
                n_ctx_orig: 4096,
                ext_factor: random.pick(&[0.0, 1.0]),
                attn_factor: 1.1,
                beta_fast: 32.0,
                beta_slow: 1.0,
            };
            let mut case = Case::new();
            let x = case.random(&mut random, DType::F32, [d, heads, t], 8, 4);
            let positions: Vec<i32> = (0..t).map(|_| random.below(8000) as i32).collect();
            let positions = case.integers(&positions, t);
            let mut src = vec![x, positions];
            if round % 2 == 0 && n_dims > 0 {
                let factors = case.room(DType::F32, [n_dims / 2, 1, 1], 0, 4);
                let values: Vec<f32> = (0..n_dims / 2).map(|i| 1.0 + (i % 5) as f32).collect();
                case.fill(&factors, &values);
                src.push(factors);
            }
            let dst = if round % 4 == 0 { x } else { case.room(DType::F32, [d, heads, t], 12, 4) };
            let near = Bound::Near { absolute: 2e-6, relative: 2e-6 };
            let what = format!("({d}, {heads}, {t}) {params:?}");
            pair.compare(&what, &case, Op::Rope(params), &src, &dst, near);
        }
    });
}

#[test]
fn rows_are_read_from_tables_of_every_type() {
    emulated("rows_are_read_from_tables_of_every_type", &[], || {
        let (mut pair, mut random) = (Pair::open(), Random(4));
        for dtype in DType::WEIGHTS {
            for n in [dtype.block_len(), dtype.block_len() * 9, 2304] {
                let (rows, t) = (7, 1 + random.below(4));
                let mut case = Case::new();
                let table = case.random(&mut random, dtype, [n, rows, 1], 0, 32);
                let ids: Vec<i32> = (0..t).map(|_| random.below(rows) as i32).collect();
                let ids = case.integers(&ids, t);
                let dst = case.room(DType::F32, [n, t, 1], 0, 4);
                let near = Bound::Near { absolute: 1e-7, relative: 1e-6 };
                pair.compare(
                    &format!("{dtype} {n}"),
                    &case,
                    Op::GetRows,
                    &[table, ids],
                    &dst,
                    near,
                );
            }
        }
    });
}

#[test]
fn the_cache_is_written_bit_for_bit() {
    emulated("the_cache_is_written_bit_for_bit", &[], || {
        let (mut pair, mut random) = (Pair::open(), Random(5));
        for dtype in CACHE_TYPES {
            for round in 0..6 {
                let n = dtype.block_len().max(8) * (1 + random.below(40));
                let (cells, t) = (9, 1 + random.below(5));
                let mut case = Case::new();
                let x = case.room(DType::F32, [n, t, 1], 4, 4);
                let mut values = random.floats(n * t);
                if round == 0 {
                    // Zeros, equal peaks, ties of rounding and numbers that no half can hold.
                    values[..8].copy_from_slice(&[0.0, 127.0, -127.0, 2.5, 0.5, -1.5, 1e-9, 3e-6]);
                    values[8.min(n * t - 1)] = 1e-38;
                }
                if round == 1 {
                    values.fill(0.0);
                }
                case.fill(&x, &values);
                let mut free: Vec<i32> = (0..cells).collect();
                let rows: Vec<i32> =
                    (0..t).map(|_| free.remove(random.below(free.len()))).collect();
                let rows = case.integers(&rows, t);
                let cache = case.random(&mut random, dtype, [n, cells as usize, 1], 0, 32);
                let src = [x, rows, cache];
                pair.compare(
                    &format!("{dtype} {n}"),
                    &case,
                    Op::SetRows,
                    &src,
                    &cache,
                    Bound::Same,
                );
            }
        }
    });
}

#[test]
fn experts_are_chosen_and_summed_as_on_the_cpu() {
    emulated("experts_are_chosen_and_summed_as_on_the_cpu", &[], || {
        let (mut pair, mut random) = (Pair::open(), Random(6));
        for round in 0..12 {
            // The last ones are rows as long as a vocabulary.
            let n = if round < 8 { 1 + random.below(300) } else { 4000 + random.below(6000) };
            let (k, t) = ((1 + random.below(9)).min(n), 1 + random.below(3));
            let mut case = Case::new();
            let x = case.room(DType::F32, [n, t, 1], 0, 4);
            let mut values = random.floats(n * t);
            // Equal ones, of which the first is taken.
            for i in 0..n * t {
                if i % 7 == 0 {
                    values[i] = 1.5;
                }
            }
            values[n / 2] = f32::NAN;
            case.fill(&x, &values);
            let picks = case.room(DType::I32, [k, t, 1], 0, 4);
            pair.compare(&format!("{k} of {n}"), &case, Op::TopK { k }, &[x], &picks, Bound::Same);

            let mut case = Case::new();
            let probabilities: Vec<f32> = random.floats(n * t).iter().map(|p| p.abs()).collect();
            let probs = case.room(DType::F32, [n, t, 1], 4, 4);
            case.fill(&probs, &probabilities);
            let ids: Vec<i32> = (0..k * t).map(|_| random.below(n) as i32).collect();
            let ids = case.integers(&ids, k);
            let weights = case.room(DType::F32, [k, t, 1], 0, 4);
            for normalise in [false, true] {
                let near = Bound::Near { absolute: 0.0, relative: 1e-6 };
                let op = Op::ExpertWeights { normalise };
                pair.compare("weights", &case, op, &[probs, ids], &weights, near);
            }

            let width = 1 + random.below(1200);
            let (gap, align) = random.pick(&[(0, 16), (0, 4), (16, 16)]);
            let mut case = Case::new();
            let x = case.random(&mut random, DType::F32, [width, k, t], gap, align);
            let weights = case.random(&mut random, DType::F32, [k, t, 1], 0, 4);
            let dst = case.room(DType::F32, [width, t, 1], gap, align);
            let near = Bound::Near { absolute: 1e-6, relative: 1e-6 };
            let parts: Vec<usize> = (0..2 + random.below(3))
                .map(|_| random.pick(&[4, 16, 7]) * random.below(90) + 4)
                .collect();
            let mut side = Case::new();
            let (gap, align) = random.pick(&[(0, 16), (0, 4), (4, 16)]);
            let rows: Vec<_> = parts
                .iter()
                .map(|&n| side.random(&mut random, DType::F32, [n, t, 1], gap, align))
                .collect();
            let whole = side.room(DType::F32, [parts.iter().sum(), t, 1], gap, align);
            pair.compare(&format!("{parts:?}"), &side, Op::Concat, &rows, &whole, Bound::Same);

            let what = format!("sum ({width}, {k}, {t})");
            pair.compare(&what, &case, Op::ExpertSum, &[x, weights], &dst, near);
        }
    });
}

/// Extents of one attention.
#[derive(Clone, Copy, Debug)]
struct Attention {
    d: usize,
    dv: usize,
    n_head: usize,
    n_head_kv: usize,
    n_kv: usize,
    t: usize,
    type_k: DType,
    type_v: DType,
    softcap: f32,
}

/// A case of attention: the cache as its cells lie, and a mask that hides what comes later, a third
/// of the rest, and from one token everything.
fn attention(random: &mut Random, a: &Attention, align: usize) -> (Case, Vec<Placed>, Placed) {
    let mut case = Case::new();
    let q = case.random(random, DType::F32, [a.d, a.n_head, a.t], 0, 16);
    let mut cache = |random: &mut Random, dtype: DType, d: usize| {
        let cells = case.random(random, dtype, [d * a.n_head_kv, a.n_kv, 1], 0, align);
        let head = dtype.row_bytes(d).unwrap();
        let nb = [dtype.block_bytes(), cells.nb[1], head, head * a.n_head_kv];
        Placed { ne: [d, a.n_kv, a.n_head_kv, 1], nb, ..cells }
    };
    let k = cache(random, a.type_k, a.d);
    let v = cache(random, a.type_v, a.dv);
    let mask = case.room(DType::F16, [a.n_kv, a.t, 1], 0, 2);
    let mut values = vec![0.0; a.n_kv * a.t];
    for (i, value) in values.iter_mut().enumerate() {
        let (token, cell) = (i / a.n_kv, i % a.n_kv);
        let later = cell + a.t > a.n_kv + token;
        if later || random.below(3) == 0 || (token == 1 && a.t > 2) {
            *value = f32::NEG_INFINITY;
        } else if random.below(8) == 0 {
            *value = -0.5;
        }
    }
    for (at, row) in mask.rows().into_iter().zip(values.chunks(a.n_kv)) {
        for (i, &value) in row.iter().enumerate() {
            let bits = half::f16::from_f32(value).to_le_bytes();
            case.image[at + 2 * i..at + 2 * i + 2].copy_from_slice(&bits);
        }
    }
    let dst = case.room(DType::F32, [a.dv, a.n_head, a.t], 0, 4);
    (case, vec![q, k, v, mask], dst)
}

fn attend(pair: &mut Pair, random: &mut Random, a: &Attention, align: usize, near: Bound) {
    let (case, src, dst) = attention(random, a, align);
    let op = Op::FlashAttn { scale: 1.0 / (a.d as f32).sqrt(), softcap: a.softcap };
    pair.compare(&format!("{a:?}"), &case, op, &src, &dst, near);
}

/// The kernel in floats, which takes every type and head size.
#[test]
fn attention_agrees_for_every_cache_type() {
    emulated("attention_agrees_for_every_cache_type", &[], || {
        let (mut pair, mut random) = (Pair::open(), Random(7));
        let near = Bound::Near { absolute: 4e-6, relative: 4e-6 };
        for (i, type_k) in CACHE_TYPES.into_iter().enumerate() {
            let type_v = CACHE_TYPES[(i + 3) % CACHE_TYPES.len()];
            let n_head_kv = 1 + random.below(2);
            let a = Attention {
                d: 32,
                dv: 32 * (1 + random.below(2)),
                n_head: n_head_kv * (1 + random.below(3)),
                n_head_kv,
                // Several parts of the context in every other case.
                n_kv: if i % 2 == 0 { 1 + random.below(60) } else { 300 + random.below(300) },
                t: 1 + random.below(3),
                type_k,
                type_v,
                softcap: random.pick(&[0.0, 20.0]),
            };
            attend(&mut pair, &mut random, &a, 32, near);
        }
        let base = Attention {
            d: 40,
            dv: 24,
            n_head: 2,
            n_head_kv: 1,
            n_kv: 19,
            t: 2,
            type_k: DType::F32,
            type_v: DType::F16,
            softcap: 0.0,
        };
        attend(&mut pair, &mut random, &base, 4, near);
    });
}

/// The tensor cores' kernels. Queries, quantised cells and weights are rounded to halves there, each
/// by up to 2^-11 of itself.
#[test]
fn attention_agrees_on_tensor_cores() {
    emulated("attention_agrees_on_tensor_cores", &[], || {
        let (mut pair, mut random) = (Pair::open(), Random(8));
        let near = Bound::Near { absolute: 2e-3, relative: 2e-3 };
        let types = [DType::F16, DType::Q8_0, DType::Q4_0, DType::BF16, DType::Q5_1];
        for (i, d) in [64, 64, 64, 64, 96, 128, 128, 256].into_iter().enumerate() {
            for few in [true, false] {
                let group = random.pick(&[1, 2, 4]);
                let n_head_kv = 1 + random.below(2);
                let t = if few { 1 + random.below(16 / group) } else { 33 + random.below(20) };
                let a = Attention {
                    d,
                    dv: d,
                    n_head: group * n_head_kv,
                    n_head_kv,
                    n_kv: random.pick(&[64, 65, 100, 131, 550]),
                    t,
                    type_k: types[i % types.len()],
                    type_v: types[(i + random.below(2)) % types.len()],
                    softcap: random.pick(&[0.0, 0.0, 20.0]),
                };
                let a = if few { a } else { Attention { n_kv: a.n_kv.min(131), ..a } };
                attend(&mut pair, &mut random, &a, 32, near);
            }
        }
    });
}
