//! Launches of the CUDA backend that do the work of several nodes, through an emulated driver: they
//! give what the nodes give one by one, and they are as few as they should be.
//!
//! The emulated device is one whose launches may overlap (compute capability 9.0), so that every
//! kernel here also begins before the one before it has run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use gpuwhy::engine::graph::{GluKind, Op, RopeMode, RopeParams};
use gpuwhy::engine::tensor::DType;

use support::cuda::emulated;
use support::memory_image::{CACHE_TYPES, Case, Pair, Placed, Random};

type Nodes = Vec<(Op, Vec<Placed>, Placed)>;

/// Order of summation, relative to the largest element of a row.
const SAME_INPUT: f32 = 2e-5;

/// Runs `body` on the emulated device with `settings`, and with a trace of what the driver did.
fn traced(test: &str, settings: &[(&str, &str)], body: impl FnOnce(&mut Devices)) {
    let trace = std::env::temp_dir().join(format!("gpuwhy-{test}-{}", std::process::id()));
    let mut all = vec![("CUDA_EMULATOR_TRACE", trace.to_str().unwrap())];
    all.push(("CUDA_EMULATOR_CAPABILITY", "9.0"));
    all.extend_from_slice(settings);
    emulated(test, &all, || {
        let trace = std::env::var("CUDA_EMULATOR_TRACE").unwrap();
        body(&mut Devices { pair: Pair::open(), trace });
    });
    let _ = std::fs::remove_file(&trace);
}

/// What ran.
struct Ran {
    /// Kernels in the order in which they ran.
    kernels: Vec<String>,
    /// Those that began before the one before them.
    early: Vec<String>,
}

struct Devices {
    pair: Pair,
    trace: String,
}

impl Devices {
    /// Checks that the nodes joined give what they give one by one; what ran when they were joined.
    fn check(&mut self, what: &str, case: &Case, nodes: &Nodes) -> Ran {
        let device = self.pair.cuda.as_mut();
        let single = case.run_all(device, nodes, true);
        std::fs::write(&self.trace, "").unwrap();
        let mut joined = case.run_all(device, nodes, false);
        for (op, _, dst) in nodes {
            if dst.dtype == DType::F32 && !matches!(op, Op::SetRows) {
                take_what_is_near(what, op, dst, &mut joined, &single);
            }
        }
        let differs = (0..joined.len()).find(|&i| joined[i] != single[i]);
        assert!(differs.is_none(), "{what}: byte {differs:?} differs");
        let text = std::fs::read_to_string(&self.trace).unwrap();
        let lines = || text.lines().map(str::to_string);
        Ran {
            kernels: lines().filter(|l| !l.starts_with("cu") && !l.contains(' ')).collect(),
            early: lines().filter_map(|l| Some(l.strip_prefix("early ")?.to_string())).collect(),
        }
    }
}

/// Checks a result that may differ in the order of its sums, and takes the other one's.
fn take_what_is_near(what: &str, op: &Op, dst: &Placed, joined: &mut [u8], single: &[u8]) {
    for at in dst.rows() {
        let places = || (0..dst.ne[0]).map(|i| at + 4 * i..at + 4 * i + 4);
        let read = |image: &[u8], place: std::ops::Range<usize>| {
            f32::from_le_bytes(image[place].try_into().unwrap())
        };
        let row: Vec<f32> = places().map(|p| read(single, p)).collect();
        let most = row.iter().fold(1e-6f32, |m, v| m.max(v.abs())) * SAME_INPUT;
        for (place, want) in places().zip(row) {
            let got = read(joined, place.clone());
            assert!((got - want).abs() <= most, "{what}: {}: {got}, not {want}", op.name());
            joined[place.clone()].copy_from_slice(&single[place]);
        }
    }
}

fn weights(case: &mut Case, random: &mut Random, dtype: DType, ne: [usize; 3]) -> Placed {
    case.random(random, dtype, ne, 0, 16)
}

fn floats(case: &mut Case, random: &mut Random, ne: [usize; 3]) -> Placed {
    case.random(random, DType::F32, ne, 0, 16)
}

fn result(case: &mut Case, ne: [usize; 3]) -> Placed {
    case.room(DType::F32, ne, 0, 16)
}

/// Of one type and of two, with biases and without, in rows that warps share and rows that share a warp.
#[test]
fn query_key_and_value_take_one_launch() {
    traced("query_key_and_value_take_one_launch", &[], |devices| {
        use DType::{F16, F32, Q4_0, Q4_K, Q5_K, Q6_K, Q8_0};
        let mut random = Random(1);
        for (i, (types, kernel)) in [
            ([Q4_K, Q4_K, Q4_K], "mul_mat_vec_q4_k"),
            ([Q4_K, Q4_K, Q6_K], "mul_mat_vec_q4_k_q6_k"),
            ([Q4_K, Q6_K, Q6_K], "mul_mat_vec_q4_k_q6_k"),
            ([Q5_K, Q5_K, Q6_K], "mul_mat_vec_q5_k_q6_k"),
            ([Q4_K, Q4_K, Q5_K], "mul_mat_vec_q4_k_q5_k"),
            ([Q8_0, Q8_0, Q8_0], "mul_mat_vec_q8_0"),
            ([Q4_0, Q4_0, Q4_0], "mul_mat_vec_q4_0"),
            ([F16, F16, F16], "mul_mat_vec_f16"),
            ([F32, F32, F32], "mul_mat_vec_f32"),
        ]
        .into_iter()
        .enumerate()
        {
            let k = [512, 2304, 4352][i % 3];
            let mut case = Case::new();
            let norm_weight = floats(&mut case, &mut random, [k, 1, 1]);
            let before = floats(&mut case, &mut random, [k, 1, 1]);
            let x = result(&mut case, [k, 1, 1]);
            // The norm writes `x`, so that a product that reads too early shows.
            let mut nodes: Nodes = vec![(Op::RmsNorm { eps: 1e-5 }, vec![before, norm_weight], x)];
            let rows = [70, 24, 24];
            let dst = rows.map(|n| result(&mut case, [n, 1, 1]));
            for (side, dtype) in types.into_iter().enumerate() {
                let w = weights(&mut case, &mut random, dtype, [k, rows[side], 1]);
                nodes.push((Op::MulMat, vec![w, x], dst[side]));
            }
            if i % 2 == 1 {
                for (side, n) in rows.into_iter().enumerate() {
                    let bias = floats(&mut case, &mut random, [n, 1, 1]);
                    let sum = if i % 4 == 1 { result(&mut case, [n, 1, 1]) } else { dst[side] };
                    nodes.push((Op::Add, vec![dst[side], bias], sum));
                }
            }
            let ran = devices.check(&format!("{types:?} {k}"), &case, &nodes);
            assert_eq!(ran.kernels, ["rms_norm_f32", kernel]);
            assert_eq!(ran.early, [kernel]);
        }
    });
}

#[test]
fn gate_up_and_their_unit_take_one_launch() {
    traced("gate_up_and_their_unit_take_one_launch", &[], |devices| {
        let mut random = Random(2);
        for (i, dtype) in DType::WEIGHTS.into_iter().enumerate() {
            let k = if dtype.block_len() == 256 { [256, 2304] } else { [96, 2080] }[i % 2];
            let (n, kind) = (21, [GluKind::Silu, GluKind::Gelu][i / 2 % 2]);
            // Plain, or by expert for some tokens with some experts each.
            for (slots, tokens) in [(1, 1), (3, 2)] {
                let experts = slots > 1;
                if experts && i % 3 != 0 {
                    continue;
                }
                let mut case = Case::new();
                let before = floats(&mut case, &mut random, [k, 1, tokens]);
                let x = result(&mut case, [k, 1, tokens]);
                let n_expert = if experts { 4 } else { 1 };
                let gate = weights(&mut case, &mut random, dtype, [k, n, n_expert]);
                let up = weights(&mut case, &mut random, dtype, [k, n, n_expert]);
                // One id names no expert.
                let ids: Vec<i32> =
                    (0..slots * tokens).map(|i| [2, 0, 3, 1, 7, 2][i % 6]).collect();
                let ids = case.integers(&ids, slots);
                let dst = [(); 3].map(|()| result(&mut case, [n, slots, tokens]));
                let src = |w| if experts { vec![w, x, ids] } else { vec![w, x] };
                let op = if experts { Op::MulMatId } else { Op::MulMat };
                let nodes = vec![
                    (Op::Scale { factor: 0.5 }, vec![before], x),
                    (op, src(gate), dst[0]),
                    (op, src(up), dst[1]),
                    (Op::Glu(kind), vec![dst[0], dst[1]], dst[2]),
                ];
                let what = format!("{dtype} {k} {kind:?} {slots} {tokens}");
                let ran = devices.check(&what, &case, &nodes);
                let kernel = format!("mul_mat_vec_glu_{}", dtype.to_string().to_lowercase());
                assert_eq!(ran.kernels, ["scale_f32", &kernel], "{what}");
                assert_eq!(ran.early, [kernel], "{what}");
            }
        }
    });
}

/// The way out of attention and of the feed-forward block, and what must stay apart.
#[test]
fn sums_join_products_and_what_would_race_stays_apart() {
    traced("sums_join_products_and_what_would_race_stays_apart", &[], |devices| {
        let mut random = Random(3);
        let (k, n) = (512, 96);
        for in_place in [false, true] {
            let mut case = Case::new();
            let x = floats(&mut case, &mut random, [k, 1, 1]);
            let residual = floats(&mut case, &mut random, [n, 1, 1]);
            let w = weights(&mut case, &mut random, DType::Q6_K, [k, n, 1]);
            let norm_weight = floats(&mut case, &mut random, [n, 1, 1]);
            let dst = result(&mut case, [n, 1, 1]);
            let sum = if in_place { residual } else { result(&mut case, [n, 1, 1]) };
            let normed = result(&mut case, [n, 1, 1]);
            let nodes = vec![
                (Op::MulMat, vec![w, x], dst),
                (Op::Add, vec![dst, residual], sum),
                (Op::RmsNorm { eps: 1e-5 }, vec![sum, norm_weight], normed),
            ];
            let ran = devices.check(&format!("residual, in place {in_place}"), &case, &nodes);
            assert_eq!(ran.kernels, ["mul_mat_vec_q6_k", "rms_norm_f32"]);
        }

        // A unit that is written over the activations: other blocks still read them.
        let mut case = Case::new();
        let x = floats(&mut case, &mut random, [k, 1, 1]);
        let gate = weights(&mut case, &mut random, DType::Q4_K, [k, n, 1]);
        let up = weights(&mut case, &mut random, DType::Q4_K, [k, n, 1]);
        let dst = [(); 2].map(|()| result(&mut case, [n, 1, 1]));
        let over = Placed { ne: dst[0].ne, nb: dst[0].nb, ..x };
        let nodes = vec![
            (Op::MulMat, vec![gate, x], dst[0]),
            (Op::MulMat, vec![up, x], dst[1]),
            (Op::Glu(GluKind::Silu), vec![dst[0], dst[1]], over),
        ];
        let ran = devices.check("a unit over the activations", &case, &nodes);
        assert_eq!(ran.kernels, ["mul_mat_vec_q4_k", "glu_silu_f32"]);

        // A product of what another product wrote.
        let mut case = Case::new();
        let x = floats(&mut case, &mut random, [n, 1, 1]);
        let w = weights(&mut case, &mut random, DType::F16, [n, n, 1]);
        let dst = [(); 2].map(|()| result(&mut case, [n, 1, 1]));
        let nodes = vec![(Op::MulMat, vec![w, x], dst[0]), (Op::MulMat, vec![w, dst[0]], dst[1])];
        assert_eq!(devices.check("a chain", &case, &nodes).kernels.len(), 2);
    });
}

fn turn(d: usize) -> Op {
    Op::Rope(RopeParams {
        mode: RopeMode::Neox,
        n_dims: d,
        freq_base: 10_000.0,
        freq_scale: 1.0,
        n_ctx_orig: 4096,
        ext_factor: 0.0,
        attn_factor: 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    })
}

/// Queries and keys turn, keys and values are stored: in the order that a layer has it.
#[test]
fn queries_keys_and_the_cache_take_one_launch() {
    traced("queries_keys_and_the_cache_take_one_launch", &[], |devices| {
        let mut random = Random(9);
        for (i, dtype) in CACHE_TYPES.into_iter().enumerate() {
            let (t, in_place, with_queries) = (1 + 2 * (i % 2), i % 3 == 1, i % 4 != 3);
            // More heads than a block turns, in two groups of which one is not full.
            let (d, heads, heads_kv) = (32, 4, 11);
            let mut case = Case::new();
            let q = floats(&mut case, &mut random, [d, heads, t]);
            let k = floats(&mut case, &mut random, [d, heads_kv, t]);
            let v = floats(&mut case, &mut random, [d * heads_kv, t, 1]);
            let positions = case.integers(&[7, 8, 9][..t], t);
            // One cell lies outside the cache.
            let cells = case.integers(&[4, 6, 5][..t], t);
            let turned = if in_place { k } else { result(&mut case, [d, heads_kv, t]) };
            let k_rows = Placed { ne: v.ne, nb: v.nb, ..turned };
            let cache = [(); 2].map(|()| case.random(&mut random, dtype, [v.ne[0], 6, 1], 0, 32));
            let mut nodes: Nodes = Vec::new();
            if with_queries {
                nodes.push((turn(d), vec![q, positions], q));
            }
            nodes.push((turn(d), vec![k, positions], turned));
            nodes.push((Op::SetRows, vec![k_rows, cells, cache[0]], cache[0]));
            nodes.push((Op::SetRows, vec![v, cells, cache[1]], cache[1]));
            let what = format!("{dtype}, {t} tokens, in place {in_place}, queries {with_queries}");
            let ran = devices.check(&what, &case, &nodes);
            let kernel = format!("rope_set_rows_{}", dtype.to_string().to_lowercase());
            assert_eq!(ran.kernels, [kernel], "{what}");
        }
    });
}

#[test]
fn keys_and_values_take_one_launch_without_turning() {
    traced("keys_and_values_take_one_launch_without_turning", &[], |devices| {
        let mut random = Random(10);
        let mut case = Case::new();
        let [k, v] = [(); 2].map(|()| floats(&mut case, &mut random, [96, 2, 1]));
        let cells = case.integers(&[4, 1], 2);
        let cache = [(); 2].map(|()| case.random(&mut random, DType::F16, [96, 6, 1], 0, 32));
        let nodes = vec![
            (Op::SetRows, vec![k, cells, cache[0]], cache[0]),
            (Op::SetRows, vec![v, cells, cache[1]], cache[1]),
        ];
        assert_eq!(devices.check("keys and values", &case, &nodes).kernels, ["set_rows_f16"]);
    });
}

/// A residual sum and its norm, where no product stands before them.
#[test]
fn a_sum_and_its_norm_take_one_launch() {
    traced("a_sum_and_its_norm_take_one_launch", &[], |devices| {
        let mut random = Random(4);
        for (t, in_place) in [(1, false), (3, false), (3, true)] {
            let n = 64;
            let mut case = Case::new();
            let [a, b] = [(); 2].map(|()| floats(&mut case, &mut random, [n, t, 1]));
            let weight = floats(&mut case, &mut random, [n, 1, 1]);
            let sum = if in_place { a } else { result(&mut case, [n, t, 1]) };
            let normed = if in_place { b } else { result(&mut case, [n, t, 1]) };
            let nodes = vec![
                (Op::Add, vec![a, b], sum),
                (Op::RmsNorm { eps: 1e-5 }, vec![sum, weight], normed),
            ];
            let ran = devices.check(&format!("{t} {in_place}"), &case, &nodes);
            assert_eq!(ran.kernels, ["add_rms_norm_f32"]);
        }
    });
}

/// Weights that an earlier node computes, as no model has them: their product may not begin early.
fn product_of_computed_weights(random: &mut Random) -> (Case, Nodes) {
    let mut case = Case::new();
    let before = floats(&mut case, random, [64, 40, 1]);
    let w = result(&mut case, [64, 40, 1]);
    let x = floats(&mut case, random, [64, 1, 1]);
    let [y, z] = [(); 2].map(|()| result(&mut case, [64, 1, 1]));
    let dst = result(&mut case, [40, 1, 1]);
    let nodes = vec![
        (Op::Scale { factor: 2.0 }, vec![before], w),
        (Op::Scale { factor: 3.0 }, vec![x], y),
        (Op::Scale { factor: 4.0 }, vec![y], z),
        (Op::MulMat, vec![w, z], dst),
    ];
    (case, nodes)
}

#[test]
fn only_kernels_that_may_begin_early_do() {
    traced("only_kernels_that_may_begin_early_do", &[], |devices| {
        let (case, nodes) = product_of_computed_weights(&mut Random(5));
        let ran = devices.check("computed weights", &case, &nodes);
        assert_eq!(ran.kernels.len(), 4);
        assert_eq!(ran.early, ["scale_f32", "scale_f32"]);
    });
}

#[test]
fn nothing_begins_early_on_older_devices_and_drivers() {
    let name = "nothing_begins_early_on_older_devices_and_drivers";
    for setting in [
        ("CUDA_EMULATOR_CAPABILITY", "8.9"),
        ("CUDA_EMULATOR_DRIVER", "12020"),
        ("GPUWHY_NO_CUDA_OVERLAP", "1"),
    ] {
        traced(name, &[setting], |devices| {
            let (case, nodes) = product_of_computed_weights(&mut Random(5));
            let ran = devices.check("older", &case, &nodes);
            assert_eq!((ran.kernels.len(), ran.early.len()), (4, 0));
        });
    }
}

/// Several sequences at once: what makes activations rounds them as well, and matrices of one type share
/// a launch.
#[test]
fn a_batch_rounds_its_activations_where_they_are_made() {
    traced("a_batch_rounds_its_activations_where_they_are_made", &[], |devices| {
        let mut random = Random(6);
        for (i, (dtype, t)) in
            [(DType::Q4_K, 5), (DType::Q2_K, 2), (DType::Q8_0, 8)].into_iter().enumerate()
        {
            let (k, n) = (512, 256);
            let mut case = Case::new();
            let [a, b] = [(); 2].map(|()| floats(&mut case, &mut random, [k, t, 1]));
            let norm_weight = floats(&mut case, &mut random, [k, 1, 1]);
            let [sum, x] = [(); 2].map(|()| result(&mut case, [k, t, 1]));
            let w = [(); 3].map(|()| weights(&mut case, &mut random, dtype, [k, n, 1]));
            let other = weights(&mut case, &mut random, DType::Q6_K, [k, 40, 1]);
            let down = weights(&mut case, &mut random, dtype, [n, 48, 1]);
            let y = [(); 4].map(|()| result(&mut case, [n, t, 1]));
            let [z, out] = [40, 48].map(|n| result(&mut case, [n, t, 1]));
            let kind = [GluKind::Silu, GluKind::Gelu][i % 2];
            let mut nodes: Nodes = Vec::new();
            if i != 1 {
                nodes.push((Op::Add, vec![a, b], sum));
            }
            let normed = if i == 1 { a } else { sum };
            nodes.push((Op::RmsNorm { eps: 1e-5 }, vec![normed, norm_weight], x));
            nodes.extend((0..3).map(|i| (Op::MulMat, vec![w[i], x], y[i])));
            nodes.push((Op::MulMat, vec![other, x], z));
            nodes.push((Op::Glu(kind), vec![y[0], y[1]], y[3]));
            nodes.push((Op::MulMat, vec![down, y[3]], out));
            let ran = devices.check(&format!("{dtype} {t}"), &case, &nodes);
            let few = format!("mul_mat_few_{}", dtype.to_string().to_lowercase());
            let norm = if i == 1 { "rms_norm_q8" } else { "add_rms_norm_q8" };
            assert_eq!(ran.kernels, [norm, &few, "mul_mat_few_q6_k", "glu_q8", &few]);
            assert_eq!(ran.early, ran.kernels[1..]);
        }
    });
}

#[test]
fn a_router_takes_one_launch() {
    traced("a_router_takes_one_launch", &[], |devices| {
        let mut random = Random(7);
        for (t, normalise) in [(1, true), (3, false)] {
            let (n, k) = (60, 4);
            let mut case = Case::new();
            let [before, logits] = [(); 2].map(|()| floats(&mut case, &mut random, [n, t, 1]));
            let probs = result(&mut case, [n, t, 1]);
            let ids = case.room(DType::I32, [k, t, 1], 0, 4);
            let chosen = result(&mut case, [k, t, 1]);
            let nodes = vec![
                (Op::Scale { factor: 2.0 }, vec![before], logits),
                (Op::SoftMax, vec![logits], probs),
                (Op::TopK { k }, vec![probs], ids),
                (Op::ExpertWeights { normalise }, vec![probs, ids], chosen),
            ];
            let ran = devices.check(&format!("{t} tokens"), &case, &nodes);
            assert_eq!(ran.kernels, ["scale_f32", "router_f32"]);
        }
    });
}
