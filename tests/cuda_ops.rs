//! Every CUDA kernel but the matrix products against the CPU engine, through an emulated driver:
//! random shapes, tails, strides and alignments.
//!
//! A case is an image of memory in which all operands lie. Both devices run the operation on a copy,
//! so that whatever a kernel writes beside its result shows as well.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use gpuwhy::engine::backend::cpu::{CpuDevice, Threads};
use gpuwhy::engine::backend::{BoundNode, BoundTensor, BufferId, Device, open_cuda_device};
use gpuwhy::engine::graph::{GluKind, Op, RopeMode, RopeParams};
use gpuwhy::engine::tensor::{DType, quantize_vec};

use support::cuda::emulated;

/// The types that a KV cache can have on the GPU.
const CACHE_TYPES: [DType; 8] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
];

/// xorshift64*: the same cases every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Roughly normal with deviation 1.
    fn float(&mut self) -> f32 {
        (0..6).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).sum::<f32>()
            / std::f32::consts::SQRT_2
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// A tensor of a case.
#[derive(Clone, Copy)]
struct Placed {
    offset: usize,
    dtype: DType,
    ne: [usize; 4],
    nb: [usize; 4],
}

impl Placed {
    fn bound(&self, buffer: BufferId) -> BoundTensor {
        BoundTensor { buffer, offset: self.offset, dtype: self.dtype, ne: self.ne, nb: self.nb }
    }

    /// Where each row starts.
    fn rows(&self) -> Vec<usize> {
        let [_, n1, n2, _] = self.ne;
        let at = |i: usize| self.offset + i % n1 * self.nb[1] + i / n1 * self.nb[2];
        (0..n1 * n2).map(at).collect()
    }
}

/// An image of memory with the operands of one operation.
struct Case {
    image: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        Self { image: vec![0x5a; 64] }
    }

    /// Room for a tensor whose rows are `gap` bytes apart, at a multiple of `align`.
    fn room(&mut self, dtype: DType, [n0, n1, n2]: [usize; 3], gap: usize, align: usize) -> Placed {
        let offset = self.image.len().next_multiple_of(align);
        // An odd multiple, so that a kernel cannot count on more.
        let offset = if offset.is_multiple_of(2 * align) { offset + align } else { offset };
        let row = dtype.row_bytes(n0).unwrap() + gap;
        self.image.resize(offset + row * n1 * n2 + 64, 0x5a);
        let nb = [dtype.block_bytes(), row, row * n1, row * n1 * n2];
        Placed { offset, dtype, ne: [n0, n1, n2, 1], nb }
    }

    fn fill(&mut self, to: &Placed, values: &[f32]) {
        for (at, row) in to.rows().into_iter().zip(values.chunks(to.ne[0])) {
            let bytes = quantize_vec(to.dtype, row).unwrap();
            self.image[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// A tensor of random numbers.
    fn random(
        &mut self,
        random: &mut Random,
        dtype: DType,
        ne: [usize; 3],
        gap: usize,
        align: usize,
    ) -> Placed {
        let placed = self.room(dtype, ne, gap, align);
        let values = random.floats(ne.iter().product());
        self.fill(&placed, &values);
        placed
    }

    fn integers(&mut self, values: &[i32], ne0: usize) -> Placed {
        let placed = self.room(DType::I32, [ne0, values.len() / ne0, 1], 0, 4);
        for (i, value) in values.iter().enumerate() {
            self.image[placed.offset + 4 * i..][..4].copy_from_slice(&value.to_le_bytes());
        }
        placed
    }

    /// What the image is after `device` has run the operation.
    fn run(&self, device: &mut dyn Device, op: Op, src: &[Placed], dst: &Placed) -> Vec<u8> {
        self.run_all(device, &[(op, src.to_vec(), *dst)], false)
    }

    /// What the image is after several operations, which may be joined unless they are timed.
    fn run_all(
        &self,
        device: &mut dyn Device,
        nodes: &[(Op, Vec<Placed>, Placed)],
        timed: bool,
    ) -> Vec<u8> {
        let buffer = device.alloc(self.image.len(), "a test").unwrap();
        device.write(buffer, 0, &self.image).unwrap();
        let bind = |(op, src, dst): &(Op, Vec<Placed>, Placed)| {
            let types: Vec<DType> = src.iter().map(|s| s.dtype).collect();
            device.supports(op, &types).unwrap();
            let src = src.iter().map(|s| s.bound(buffer)).collect();
            BoundNode { op: *op, src, dst: dst.bound(buffer) }
        };
        let nodes: Vec<BoundNode> = nodes.iter().map(bind).collect();
        let program = device.compile(&nodes, 1).unwrap();
        let mut times = Vec::new();
        device.submit(&program, timed.then_some(&mut times)).unwrap();
        device.finish().unwrap();
        let mut after = vec![0; self.image.len()];
        device.read(buffer, 0, &mut after).unwrap();
        drop(program);
        device.free(buffer);
        after
    }
}

/// How far a result may be from the CPU's.
#[derive(Clone, Copy)]
enum Bound {
    /// The same bytes.
    Same,
    /// Up to `absolute + relative · |expected|`.
    Near { absolute: f32, relative: f32 },
}

/// The devices that are compared.
struct Pair {
    cpu: CpuDevice,
    cuda: Box<dyn Device>,
}

impl Pair {
    fn open() -> Self {
        Self {
            cpu: CpuDevice::new(Threads::new(1, 1)),
            cuda: Box::new(open_cuda_device(0).unwrap()),
        }
    }

    fn compare(
        &mut self,
        what: &str,
        case: &Case,
        op: Op,
        src: &[Placed],
        dst: &Placed,
        to: Bound,
    ) {
        let want = case.run(&mut self.cpu, op, src, dst);
        let mut got = case.run(self.cuda.as_mut(), op, src, dst);
        if let Bound::Near { absolute, relative } = to {
            for at in dst.rows() {
                for i in 0..dst.ne[0] {
                    let place = at + 4 * i..at + 4 * i + 4;
                    let read =
                        |image: &[u8]| f32::from_le_bytes(image[place.clone()].try_into().unwrap());
                    let (g, w) = (read(&got), read(&want));
                    let close = (g - w).abs() <= absolute + relative * w.abs();
                    assert!(close || g == w, "{what}: element {i} at {at} is {g}, not {w}");
                    got[place.clone()].copy_from_slice(&want[place]);
                }
            }
        }
        let differs = (0..got.len()).find(|&i| got[i] != want[i]);
        assert!(differs.is_none(), "{what}: byte {differs:?} of {} differs", got.len());
    }
}

const EXACT_FLOATS: Bound = Bound::Near { absolute: 0.0, relative: 0.0 };

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
            let what = format!("sum ({width}, {k}, {t})");
            pair.compare(&what, &case, Op::ExpertSum, &[x, weights], &dst, near);
        }
    });
}

/// A residual sum and its norm, queries and keys that turn, keys and values that are stored: what a
/// layer has, in the order it has it. Joined launches must do what those of single nodes do.
#[test]
fn joined_launches_do_what_single_ones_do() {
    let trace = std::env::temp_dir().join(format!("gpuwhy-joined-{}", std::process::id()));
    let path = trace.to_str().unwrap();
    emulated("joined_launches_do_what_single_ones_do", &[("CUDA_EMULATOR_TRACE", path)], || {
        let path = std::env::var("CUDA_EMULATOR_TRACE").unwrap();
        let (mut pair, mut random) = (Pair::open(), Random(9));
        for (t, in_place) in [(1, false), (3, false), (3, true)] {
            let (n, d, heads, heads_kv) = (64, 32, 4, 2);
            let mut case = Case::new();
            let a = case.random(&mut random, DType::F32, [n, t, 1], 0, 16);
            let b = case.random(&mut random, DType::F32, [n, t, 1], 0, 16);
            let weight = case.random(&mut random, DType::F32, [n, 1, 1], 0, 16);
            let sum = if in_place { a } else { case.room(DType::F32, [n, t, 1], 0, 16) };
            let normed = if in_place { b } else { case.room(DType::F32, [n, t, 1], 0, 16) };
            let q = case.random(&mut random, DType::F32, [d, heads, t], 0, 16);
            let k = case.random(&mut random, DType::F32, [d, heads_kv, t], 0, 16);
            let v = case.random(&mut random, DType::F32, [d * heads_kv, t, 1], 0, 16);
            let positions = case.integers(&[7, 8, 9][..t], t);
            let cells = case.integers(&[4, 1, 5][..t], t);
            let k_turned = if in_place { k } else { case.room(k.dtype, [d, heads_kv, t], 0, 16) };
            let k_rows = Placed { ne: v.ne, nb: v.nb, ..k_turned };
            let cache = |case: &mut Case, random: &mut Random| {
                case.random(random, DType::F16, [d * heads_kv, 6, 1], 0, 32)
            };
            let (cache_k, cache_v) = (cache(&mut case, &mut random), cache(&mut case, &mut random));
            let turn = Op::Rope(RopeParams {
                mode: RopeMode::Neox,
                n_dims: d,
                freq_base: 10_000.0,
                freq_scale: 1.0,
                n_ctx_orig: 4096,
                ext_factor: 0.0,
                attn_factor: 1.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
            });
            let nodes = [
                (Op::Add, vec![a, b], sum),
                (Op::RmsNorm { eps: 1e-5 }, vec![sum, weight], normed),
                (turn, vec![q, positions], q),
                (turn, vec![k, positions], k_turned),
                (Op::SetRows, vec![k_rows, cells, cache_k], cache_k),
                (Op::SetRows, vec![v, cells, cache_v], cache_v),
            ];
            let single = case.run_all(pair.cuda.as_mut(), &nodes, true);
            std::fs::write(&path, "").unwrap();
            let joined = case.run_all(pair.cuda.as_mut(), &nodes, false);
            assert!(single == joined, "t {t}, in place {in_place}");
            let ran = std::fs::read_to_string(&path).unwrap();
            for (kernel, times) in
                [("add_rms_norm_f32", 1), ("add_f32", 0), ("rope_f32", 1), ("set_rows_f16", 1)]
            {
                let lines = ran.lines().filter(|l| l.split_whitespace().any(|w| w == kernel));
                assert_eq!(lines.count(), times, "{kernel} in:\n{ran}");
            }
        }
    });
    let _ = std::fs::remove_file(&trace);
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
