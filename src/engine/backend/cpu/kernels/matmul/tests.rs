//! Every instruction set and every type against two references: the scalar kernel on the same
//! rounded activations (nearly exact), and plain arithmetic in `f64` on the dequantised weights
//! (within what rounding activations to 8 bits costs).

mod every_type;
mod several;

use proptest::prelude::*;

use super::super::super::pool::ThreadPool;
use super::*;
use crate::engine::tensor::convert;

/// Order of summation is all that may differ between kernels: relative to the sum of magnitudes.
const SAME_INPUT: f64 = 1e-5;

/// Half a step of 127 on the largest of 32 activations, relative to the sum of `|w| * largest`.
const INT8_ROUNDING: f64 = 0.5 / 127.0 + SAME_INPUT;

/// Weights in memory of their own, `shift` bytes off any alignment.
struct Weights {
    bytes: Vec<u8>,
    shift: usize,
    values: Vec<f32>,
    dtype: DType,
}

impl Weights {
    fn new(dtype: DType, elements: usize, seed: u64, shift: usize) -> Self {
        let x = noise(elements, seed);
        let packed = convert::quantize_vec(dtype, &x).expect("whole blocks");
        let mut values = vec![0.0; elements];
        convert::dequantize(dtype, &packed, &mut values).expect("whole blocks");
        let mut bytes = vec![0xaa; shift];
        bytes.extend_from_slice(&packed);
        Self { bytes, shift, values, dtype }
    }

    fn tensor(&self, ne: [usize; 4]) -> TensorRef {
        let ptr = self.bytes[self.shift..].as_ptr().cast_mut();
        TensorRef::contiguous(ptr, self.dtype, ne)
    }
}

/// Repeatable values between -1 and 1, with an outlier now and then.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let v = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            if (state >> 32).is_multiple_of(64) { v * 8.0 } else { v }
        })
        .collect()
}

/// Rows of floats with gaps of `gap` floats between them.
struct Rows {
    data: Vec<f32>,
    stride: usize,
}

impl Rows {
    fn new(k: usize, rows: usize, gap: usize, seed: u64) -> Self {
        Self { data: noise((k + gap) * rows, seed), stride: k + gap }
    }

    fn row(&self, r: usize, k: usize) -> &[f32] {
        &self.data[r * self.stride..][..k]
    }

    fn tensor(&mut self, ne: [usize; 4]) -> TensorRef {
        let mut t = TensorRef::contiguous(self.data.as_mut_ptr().cast(), DType::F32, ne);
        t.nb[1] = self.stride * 4;
        t.nb[2] = t.nb[1] * ne[1];
        t
    }
}

/// `scratch` aligned as promised, and a canary behind it.
fn scratch(bytes: usize) -> Vec<[u64; 8]> {
    vec![[0x5a5a_5a5a_5a5a_5a5a; 8]; bytes.div_ceil(64) + 2]
}

fn aligned(room: &mut [[u64; 8]]) -> *mut u8 {
    let ptr = room.as_mut_ptr().cast::<u8>();
    // SAFETY: the vector has a spare element, so rounding up stays inside.
    unsafe { ptr.add(ptr.align_offset(SCRATCH_ALIGN)) }
}

/// `dot(w, x)` in `f64`, and the sum of `|w|` times the largest `|x|` of each 32.
fn exact(w: &[f32], x: &[f32]) -> (f64, f64) {
    let (mut sum, mut scale) = (0.0, 0.0);
    for (w, x) in w.chunks(32).zip(x.chunks(32)) {
        let largest = x.iter().fold(0.0_f32, |a, &b| a.max(b.abs()));
        for i in 0..w.len() {
            sum += f64::from(w[i]) * f64::from(x[i]);
            scale += f64::from(w[i].abs()) * f64::from(largest);
        }
    }
    (sum, scale)
}

#[derive(Clone, Debug)]
struct Case {
    dtype: DType,
    k: usize,
    n: usize,
    t: usize,
    gap: usize,
    shift: usize,
    threads: usize,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (0..DType::WEIGHTS.len(), 1_usize..20, 1_usize..70, 1_usize..70);
    (shape, (0_usize..4, 0_usize..8, 1_usize..5, any::<u64>())).prop_map(
        |((dtype, blocks, n, t), (gap, shift, threads, seed))| {
            let dtype = DType::WEIGHTS[dtype];
            let k = match dtype.block_len() {
                256 => 256 * (1 + blocks % 4),
                1 => 17 * blocks,
                len => len * blocks,
            };
            Case { dtype, k, n, t, gap, shift, threads, seed }
        },
    )
}

fn product_of(isa: Isa, c: &Case, w: &Weights, x: &mut Rows) -> Vec<f32> {
    let pool = ThreadPool::new(c.threads);
    let mut dst = vec![f32::NAN; (c.n + 3) * c.t];
    let mut dst_t = TensorRef::contiguous(dst.as_mut_ptr().cast(), DType::F32, [c.n, c.t, 1, 1]);
    dst_t.nb[1] = (c.n + 3) * 4;
    let bytes = mul_mat_scratch_bytes(c.dtype, c.k, c.t, c.threads);
    let mut room = scratch(bytes);
    let (w_t, x_t) = (w.tensor([c.k, c.n, 1, 1]), x.tensor([c.k, c.t, 1, 1]));
    let room_ptr = aligned(&mut room) as usize;
    pool.run(&|wk| {
        // SAFETY: all tensors are live, the result is written by this job only, `isa` is available.
        unsafe { mul_mat(wk, isa, w_t, x_t, dst_t, room_ptr as *mut u8, false) };
        wk.barrier();
        // A second product of the same activations must not need them prepared again.
        // SAFETY: as above.
        unsafe { mul_mat(wk, isa, w_t, x_t, dst_t, room_ptr as *mut u8, true) };
    });
    for row in dst.chunks(c.n + 3) {
        assert!(row[c.n..].iter().all(|v| v.is_nan()), "{isa} wrote behind a row");
    }
    let end = room_ptr + bytes - room.as_ptr() as usize;
    let tail = &bytemuck::cast_slice::<[u64; 8], u8>(&room)[end..];
    assert!(tail.iter().all(|&b| b == 0x5a), "{isa} wrote behind the scratch");
    dst.chunks(c.n + 3).flat_map(|row| row[..c.n].to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn products_agree(c in case()) {
        let w = Weights::new(c.dtype, c.k * c.n, c.seed, c.shift);
        let mut x = Rows::new(c.k, c.t, c.gap, c.seed ^ 1);
        let reference = product_of(Isa::Scalar, &c, &w, &mut x);
        for isa in Isa::available() {
            let got = product_of(isa, &c, &w, &mut x);
            for i in 0..c.n * c.t {
                let (row, col) = (i % c.n, i / c.n);
                let (want, scale) = exact(&w.values[row * c.k..][..c.k], x.row(col, c.k));
                let rounding = if c.dtype.is_quantised() { INT8_ROUNDING } else { SAME_INPUT };
                let (a, b) = (f64::from(got[i]), f64::from(reference[i]));
                prop_assert!((a - b).abs() <= scale * SAME_INPUT, "{isa} ({row}, {col}): {a} {b}");
                prop_assert!((a - want).abs() <= scale * rounding, "{isa} ({row}, {col}): {a} {want}");
            }
        }
    }

    #[test]
    fn products_by_expert_agree(
        c in case(),
        n_expert in 1_usize..6,
        n_used in 1_usize..4,
        shared in any::<bool>(),
    ) {
        let c = Case { t: c.t.min(30), n: c.n.min(40), ..c };
        let w = Weights::new(c.dtype, c.k * c.n * n_expert, c.seed, c.shift);
        let x_rows = if shared { 1 } else { n_used };
        let mut x = Rows::new(c.k, x_rows * c.t, c.gap, c.seed ^ 1);
        // The last id of some tokens names no expert: its row must become zeros.
        let ids: Vec<i32> = (0..n_used * c.t)
            .map(|i| if i % 11 == 10 { -1 } else { ((i as u64 ^ c.seed) % n_expert as u64) as i32 })
            .collect();
        for isa in Isa::available() {
            let got = product_by_expert(isa, &c, [n_expert, n_used, x_rows], &w, &mut x, &ids);
            for pair in 0..n_used * c.t {
                let (slot, token) = (pair % n_used, pair / n_used);
                let x_row = x.row(token * x_rows + if shared { 0 } else { slot }, c.k);
                for row in 0..c.n {
                    let (want, scale) = match usize::try_from(ids[pair]) {
                        Ok(e) => exact(&w.values[(e * c.n + row) * c.k..][..c.k], x_row),
                        Err(_) => (0.0, 0.0),
                    };
                    let rounding = if c.dtype.is_quantised() { INT8_ROUNDING } else { SAME_INPUT };
                    let a = f64::from(got[pair * c.n + row]);
                    prop_assert!((a - want).abs() <= scale * rounding, "{isa} {row} {pair}: {a} {want}");
                }
            }
        }
    }
}

/// Beyond what one worker's room holds at a time: more columns than a panel, more rows than a chunk.
#[test]
fn panels_and_chunks_join_without_a_seam() {
    for dtype in [DType::Q8_0, DType::Q4_K, DType::Q6_K, DType::Q5_K, DType::F16] {
        for (n, t) in [(37, 530), (600, 9)] {
            let (gap, shift, threads, seed) = (1, 3, 2, 7);
            let c = Case { dtype, k: 768, n, t, gap, shift, threads, seed };
            let w = Weights::new(dtype, c.k * n, seed, shift);
            let mut x = Rows::new(c.k, t, gap, seed ^ 1);
            let reference = product_of(Isa::Scalar, &c, &w, &mut x);
            for isa in Isa::available() {
                let got = product_of(isa, &c, &w, &mut x);
                for i in 0..n * t {
                    let (row, col) = (i % n, i / n);
                    let (_, scale) = exact(&w.values[row * c.k..][..c.k], x.row(col, c.k));
                    let (a, b) = (f64::from(got[i]), f64::from(reference[i]));
                    assert!(
                        (a - b).abs() <= scale * SAME_INPUT,
                        "{isa} {dtype} ({row}, {col}): {a} {b}"
                    );
                }
            }
        }
    }
}

fn product_by_expert(
    isa: Isa,
    c: &Case,
    [n_expert, n_used, x_rows]: [usize; 3],
    w: &Weights,
    x: &mut Rows,
    ids: &[i32],
) -> Vec<f32> {
    let pool = ThreadPool::new(c.threads);
    let mut dst = vec![f32::NAN; c.n * n_used * c.t];
    let dst_t = TensorRef::contiguous(dst.as_mut_ptr().cast(), DType::F32, [c.n, n_used, c.t, 1]);
    let ids_t =
        TensorRef::contiguous(ids.as_ptr().cast_mut().cast(), DType::I32, [n_used, c.t, 1, 1]);
    let bytes = mul_mat_id_scratch_bytes(c.dtype, c.k, x_rows, n_expert, n_used, c.t, c.threads);
    let mut room = scratch(bytes);
    let room_ptr = aligned(&mut room) as usize;
    let (w_t, x_t) = (w.tensor([c.k, c.n, n_expert, 1]), x.tensor([c.k, x_rows, c.t, 1]));
    pool.run(&|wk| {
        // SAFETY: all tensors are live, the result is written by this job only, `isa` is available.
        unsafe { mul_mat_id(wk, isa, w_t, x_t, ids_t, dst_t, room_ptr as *mut u8, false) };
    });
    dst
}
