//! The cases: every operation with the types, and the kinds of shapes, that models have.

use crate::engine::graph::{GluKind, Op, RopeMode, RopeParams};
use crate::engine::tensor::DType;

use super::data::{Operand, Random};

/// Differences from another order of sums of F32 values, over their root mean square.
const TOLERANCE_SUM: f32 = 2e-4;

/// One rounding to 16 bits on the way, as in an F16 product on tensor cores.
const TOLERANCE_F16: f32 = 1e-2;

/// Activations rounded to 8 bits per 32 values, on both sides and not alike.
const TOLERANCE_QUANTISED: f32 = 6e-2;

/// One step of the cache's type, where two kernels may round a value to different sides.
const TOLERANCE_CACHE: f32 = 3e-1;

/// Where a case's result goes.
pub(super) enum Output {
    /// To memory of its own.
    New(DType, [usize; 4]),
    /// Into this operand.
    Into(usize),
}

/// One node with its operands.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) op: Op,
    pub(super) src: Vec<Operand>,
    pub(super) output: Output,
    pub(super) n_tokens: usize,
    pub(super) tolerance: f32,
}

impl Case {
    fn new(op: Op, src: Vec<Operand>, output: Output, n_tokens: usize, tolerance: f32) -> Self {
        let shapes: Vec<String> = src
            .iter()
            .map(|s| {
                let last = s.ne.iter().rposition(|&n| n != 1).unwrap_or(0);
                let ne: Vec<String> = s.ne[..=last].iter().map(usize::to_string).collect();
                format!("{} ({})", s.dtype, ne.join(", "))
            })
            .collect();
        Self { name: shapes.join(", "), op, src, output, n_tokens, tolerance }
    }
}

/// A case of every kind.
pub(super) fn all(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::WEIGHTS {
        cases.push(get_rows(dtype, random));
        // One token, few, and many: each has kernels of its own.
        for t in [1, random.within(2, 8), random.within(9, 40), random.within(41, 100)] {
            cases.push(mul_mat(dtype, t, random));
        }
        for t in [1, random.within(2, 6), random.within(20, 40)] {
            cases.push(mul_mat_id(dtype, t, random));
        }
    }
    for t in [1, random.within(2, 40)] {
        small(t, random, &mut cases);
        for mode in [RopeMode::Norm, RopeMode::Neox] {
            cases.push(rope(mode, t, random));
        }
    }
    for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0] {
        cases.push(set_rows(dtype, random));
        for (d, t) in [(64, 1), (128, 1), (128, random.within(2, 40)), (256, random.within(2, 9))] {
            cases.push(flash_attn(dtype, d, t, random));
        }
    }
    cases.push(flash_attn(DType::F16, 96, 3, random));
    cases
}

/// A row length: a multiple of the type's block, of 32 at least.
fn row_length(dtype: DType, random: &mut Random) -> usize {
    dtype.block_len().max(32) * random.within(1, if dtype.block_len() > 32 { 4 } else { 20 })
}

fn get_rows(dtype: DType, random: &mut Random) -> Case {
    let (n, rows, t) = (row_length(dtype, random), random.within(2, 40), random.within(1, 9));
    let table = Operand::random(dtype, [n, rows, 1, 1], random);
    let ids = Operand::whole([t, 1, 1, 1], (0..t).map(|_| random.within(0, rows - 1)));
    let output = Output::New(DType::F32, [n, t, 1, 1]);
    Case::new(Op::GetRows, vec![table, ids], output, t, TOLERANCE_SUM)
}

fn tolerance_of(weights: DType) -> f32 {
    match weights {
        DType::F32 => TOLERANCE_SUM,
        DType::F16 | DType::BF16 => TOLERANCE_F16,
        _ => TOLERANCE_QUANTISED,
    }
}

fn mul_mat(dtype: DType, t: usize, random: &mut Random) -> Case {
    let (k, n) = (row_length(dtype, random), random.within(1, 150));
    let w = Operand::random(dtype, [k, n, 1, 1], random);
    let x = Operand::random(DType::F32, [k, t, 1, 1], random);
    let output = Output::New(DType::F32, [n, t, 1, 1]);
    Case::new(Op::MulMat, vec![w, x], output, t, tolerance_of(dtype))
}

fn mul_mat_id(dtype: DType, t: usize, random: &mut Random) -> Case {
    let (k, n, experts) = (row_length(dtype, random), random.within(1, 70), random.within(4, 9));
    let used = random.within(1, 4);
    let slots = if random.within(0, 1) == 0 { 1 } else { used };
    let w = Operand::random(dtype, [k, n, experts, 1], random);
    let x = Operand::random(DType::F32, [k, slots, t, 1], random);
    let mut ids = Vec::new();
    for _ in 0..t {
        let first = random.within(0, experts - 1);
        ids.extend((0..used).map(|i| (first + i) % experts));
    }
    let ids = Operand::whole([used, t, 1, 1], ids);
    let output = Output::New(DType::F32, [n, used, t, 1]);
    Case::new(Op::MulMatId, vec![w, x, ids], output, t, tolerance_of(dtype))
}

/// Everything on F32 rows.
fn small(t: usize, random: &mut Random, cases: &mut Vec<Case>) {
    let n = random.within(1, 700);
    let ne = [n, t, 1, 1];
    let output = || Output::New(DType::F32, ne);
    let x = |random: &mut Random| Operand::random(DType::F32, ne, random);
    let row = |random: &mut Random| Operand::random(DType::F32, [n, 1, 1, 1], random);
    let mut add = |op, src, output| {
        cases.push(Case::new(op, src, output, t, TOLERANCE_SUM));
    };
    add(Op::RmsNorm { eps: 1e-5 }, vec![x(random), row(random)], output());
    let (d, heads) = (random.within(1, 4) * 32, random.within(1, 9));
    let per_head = [d, heads, t, 1];
    let heads = Operand::random(DType::F32, per_head, random);
    let weight = Operand::random(DType::F32, [d, 1, 1, 1], random);
    add(Op::RmsNorm { eps: 1e-6 }, vec![heads, weight], Output::New(DType::F32, per_head));
    for op in [Op::Add, Op::Mul] {
        add(op, vec![x(random), x(random)], output());
        add(op, vec![x(random), row(random)], output());
    }
    add(Op::Scale { factor: 0.37 }, vec![x(random)], output());
    for kind in [GluKind::Silu, GluKind::Gelu] {
        add(Op::Glu(kind), vec![x(random), x(random)], output());
    }
    add(Op::SoftMax, vec![x(random)], output());
    let (experts, k) = (random.within(8, 130), random.within(1, 8));
    let scores = Operand::random(DType::F32, [experts, t, 1, 1], random);
    add(Op::TopK { k }, vec![scores], Output::New(DType::I32, [k, t, 1, 1]));
    for normalise in [false, true] {
        let values: Vec<f32> = (0..experts * t).map(|_| random.float().abs() + 0.01).collect();
        let scores = Operand::new(DType::F32, [experts, t, 1, 1], &values);
        let ids = Operand::whole([k, t, 1, 1], (0..k * t).map(|i| (i * 7) % experts));
        let output = Output::New(DType::F32, [k, t, 1, 1]);
        add(Op::ExpertWeights { normalise }, vec![scores, ids], output);
    }
    let parts = Operand::random(DType::F32, [n, k, t, 1], random);
    let weights = Operand::random(DType::F32, [k, t, 1, 1], random);
    add(Op::ExpertSum, vec![parts, weights], output());
    let widths: Vec<usize> = (0..random.within(2, 4)).map(|_| random.within(1, 90)).collect();
    let part = |&n: &usize| Operand::random(DType::F32, [n, t, 1, 1], random);
    let parts = widths.iter().map(part).collect();
    add(Op::Concat, parts, Output::New(DType::F32, [widths.iter().sum(), t, 1, 1]));
}

fn rope(mode: RopeMode, t: usize, random: &mut Random) -> Case {
    let (d, heads) = (random.within(1, 4) * 32, random.within(1, 9));
    // Some models turn only a part of each head, some stretch the context by YaRN.
    let n_dims = if random.within(0, 1) == 0 { d } else { d / 2 };
    let yarn = random.within(0, 1) == 0;
    let params = RopeParams {
        mode,
        n_dims,
        freq_base: 10_000.0,
        freq_scale: if yarn { 0.25 } else { 1.0 },
        n_ctx_orig: 4096,
        ext_factor: if yarn { 1.0 } else { 0.0 },
        attn_factor: 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    };
    let x = Operand::random(DType::F32, [d, heads, t, 1], random);
    // Angles grow with the position, and with them what single precision loses.
    let first = random.within(0, 500);
    let mut src = vec![x, Operand::whole([t, 1, 1, 1], first..first + t)];
    if random.within(0, 1) == 0 {
        let factors: Vec<f32> = (0..n_dims / 2).map(|_| 1.5 + random.float()).collect();
        src.push(Operand::new(DType::F32, [n_dims / 2, 1, 1, 1], &factors));
    }
    let output = Output::New(DType::F32, [d, heads, t, 1]);
    Case::new(Op::Rope(params), src, output, t, 5.0 * TOLERANCE_SUM)
}

fn set_rows(dtype: DType, random: &mut Random) -> Case {
    let (n, cells, t) = (32 * random.within(1, 12), random.within(20, 60), random.within(1, 20));
    let rows = Operand::random(DType::F32, [n, t, 1, 1], random);
    let first = random.within(0, cells - 1);
    let ids = Operand::whole([t, 1, 1, 1], (0..t).map(|i| (first + i) % cells));
    let cache = Operand::random(dtype, [n, cells, 1, 1], random);
    let tolerance = match dtype {
        DType::F32 => 0.0,
        DType::F16 => 1e-3,
        _ => TOLERANCE_CACHE,
    };
    Case::new(Op::SetRows, vec![rows, ids, cache], Output::Into(2), t, tolerance)
}

fn flash_attn(dtype: DType, d: usize, t: usize, random: &mut Random) -> Case {
    let (n_head_kv, group) = (random.within(1, 3), random.within(1, 4));
    // The runtime rounds the cells that attention looks at to whole blocks of 32.
    let n_kv = 32 * random.within(t.div_ceil(32).max(1), 9);
    let n_head = n_head_kv * group;
    let q = Operand::random(DType::F32, [d, n_head, t, 1], random);
    // Heads lie side by side in the cells' rows.
    let mut cells = || {
        let mut cells = Operand::random(dtype, [d * n_head_kv, n_kv, 1, 1], random);
        let (row, head) = (cells.nb[1], cells.nb[1] / n_head_kv);
        cells.ne = [d, n_kv, n_head_kv, 1];
        cells.nb = [cells.nb[0], row, head, head * n_head_kv];
        cells
    };
    let (k, v) = (cells(), cells());
    let past = n_kv - t;
    let window = if random.within(0, 2) == 0 { 40 } else { usize::MAX };
    let seen = move |cell: usize, i: usize| cell <= past + i && past + i - cell < window;
    let mask = Operand::mask(n_kv, t, seen);
    let softcap = if random.within(0, 2) == 0 { 30.0 } else { 0.0 };
    let op = Op::FlashAttn { scale: 1.0 / (d as f32).sqrt(), softcap };
    let output = Output::New(DType::F32, [d, n_head, t, 1]);
    let tolerance = if dtype == DType::F32 { TOLERANCE_F16 } else { 3.0 * TOLERANCE_F16 };
    let mut case = Case::new(op, vec![q, k, v, mask], output, t, tolerance);
    if window != usize::MAX {
        case.name.push_str(", window 40");
    }
    if softcap > 0.0 {
        case.name.push_str(", soft-cap 30");
    }
    case
}
