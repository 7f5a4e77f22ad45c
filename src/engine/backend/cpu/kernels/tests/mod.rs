//! Every kernel on every instruction set and 1 to 4 threads, against naive `f64` code.
//!
//! Tensors have gaps between rows, filled with a number that no kernel may read or change.

mod attention;
mod elementwise;
mod experts;
mod norm;
mod rope;
mod rows;
mod top_k;

use super::simd::{Kernel, Simd, dispatch};
use crate::engine::backend::cpu::{Isa, TensorRef, ThreadPool, Worker};
use crate::engine::tensor::{DType, dequantize, quantize_vec};

/// What gaps hold: large enough to spoil any sum it gets into.
const GAP: f32 = 1.0e30;

/// Relative error of one vectorised `exp` and a division.
const EXP_TOLERANCE: f64 = 1e-6;

/// Numbers that depend on the seed alone (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In `-1.0..1.0`.
    fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 33) as usize % n
    }
}

/// An F32 tensor `(ne0, ne1, ne2)` with `gap` floats after each row.
#[derive(Clone)]
struct Floats {
    data: Vec<f32>,
    ne: [usize; 3],
    gap: usize,
}

impl Floats {
    fn new(ne: [usize; 3], gap: usize, mut value: impl FnMut() -> f32) -> Self {
        let mut data = Vec::new();
        for _ in 0..ne[1] * ne[2] {
            data.extend((0..ne[0]).map(|_| value()));
            data.extend(std::iter::repeat_n(GAP, gap));
        }
        Self { data, ne, gap }
    }

    fn random(ne: [usize; 3], gap: usize, random: &mut Random) -> Self {
        Self::new(ne, gap, || 3.0 * random.float())
    }

    fn zeros(ne: [usize; 3], gap: usize) -> Self {
        Self::new(ne, gap, || 0.0)
    }

    fn view(&mut self) -> TensorRef {
        let nb1 = (self.ne[0] + self.gap) * 4;
        TensorRef {
            ptr: self.data.as_mut_ptr().cast(),
            dtype: DType::F32,
            ne: [self.ne[0], self.ne[1], self.ne[2], 1],
            nb: [4, nb1, nb1 * self.ne[1], nb1 * self.ne[1] * self.ne[2]],
        }
    }

    fn row(&self, r: usize) -> &[f32] {
        &self.data[r * (self.ne[0] + self.gap)..][..self.ne[0]]
    }

    /// True while no gap was written to.
    fn gaps_hold(&self) -> bool {
        (0..self.ne[1] * self.ne[2]).all(|r| {
            let end = r * (self.ne[0] + self.gap) + self.ne[0];
            self.data[end..end + self.gap].iter().all(|&x| x == GAP)
        })
    }
}

/// An I32 tensor without gaps.
struct Ints {
    data: Vec<i32>,
    ne: [usize; 2],
}

impl Ints {
    fn view(&mut self) -> TensorRef {
        let ne = [self.ne[0], self.ne[1], 1, 1];
        TensorRef::contiguous(self.data.as_mut_ptr().cast(), DType::I32, ne)
    }
}

/// A tensor `(ne0, ne1, ne2)` of any weight type, without gaps.
#[derive(Clone)]
struct Bytes {
    data: Vec<u8>,
    dtype: DType,
    ne: [usize; 3],
}

impl Bytes {
    fn quantized(dtype: DType, ne: [usize; 3], random: &mut Random) -> Self {
        let mut data = Vec::new();
        for _ in 0..ne[1] * ne[2] {
            let row: Vec<f32> = (0..ne[0]).map(|_| 3.0 * random.float()).collect();
            data.extend(quantize_vec(dtype, &row).unwrap());
        }
        Self { data, dtype, ne }
    }

    fn view(&mut self) -> TensorRef {
        let [ne0, ne1, ne2] = self.ne;
        TensorRef::contiguous(self.data.as_mut_ptr(), self.dtype, [ne0, ne1, ne2, 1])
    }

    fn row(&self, r: usize) -> &[u8] {
        let len = self.dtype.row_bytes(self.ne[0]).unwrap();
        &self.data[r * len..][..len]
    }

    fn floats(&self, r: usize) -> Vec<f32> {
        let mut floats = vec![0.0; self.ne[0]];
        dequantize(self.dtype, self.row(r), &mut floats).unwrap();
        floats
    }
}

/// Runs `job` on a pool of `threads`, once per instruction set.
fn on_every_isa(
    threads: usize,
    mut job: impl FnMut(&mut dyn FnMut(&(dyn Fn(&Worker, Isa) + Sync))),
) {
    let pool = ThreadPool::new(threads);
    for isa in Isa::available() {
        job(&mut |kernel| pool.run(&|wk| kernel(wk, isa)));
    }
}

/// True when `got` is `want` up to `tolerance`, relative to `scale` or to `want` itself.
fn close(got: f32, want: f64, scale: f64, tolerance: f64) -> bool {
    (f64::from(got) - want).abs() <= tolerance * want.abs().max(scale)
}

/// Applies one function of [`Simd`] to every element.
struct Map<'a>(&'a mut [f32], Function);

#[derive(Clone, Copy)]
enum Function {
    Exp,
    Sigmoid,
    Tanh,
}

impl Kernel for Map<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for chunk in self.0.chunks_mut(S::W) {
            let n = chunk.len();
            // SAFETY: the chunk has `n` floats.
            unsafe {
                let x = s.load_n(chunk.as_ptr(), n);
                let y = match self.1 {
                    Function::Exp => s.exp(x),
                    Function::Sigmoid => s.sigmoid(x),
                    Function::Tanh => s.tanh(x),
                };
                s.store_n(chunk.as_mut_ptr(), y, n);
            }
        }
    }
}

fn map(isa: Isa, x: &[f32], function: Function) -> Vec<f32> {
    let mut y = x.to_vec();
    // SAFETY: `isa` comes from `Isa::available`.
    unsafe { dispatch(isa, Map(&mut y, function)) }
    y
}

#[test]
fn exp_and_its_relatives_are_accurate_over_their_range() {
    let x: Vec<f32> = (-87_000..88_000).step_by(7).map(|i| i as f32 / 1000.0).collect();
    for isa in Isa::available() {
        let (exp, sigmoid) = (map(isa, &x, Function::Exp), map(isa, &x, Function::Sigmoid));
        let tanh = map(isa, &x, Function::Tanh);
        for (i, &x) in x.iter().enumerate() {
            let x = f64::from(x);
            assert!(close(exp[i], x.exp(), 0.0, EXP_TOLERANCE), "{isa} e^{x} = {}", exp[i]);
            let want = 1.0 / (1.0 + (-x).exp());
            assert!(close(sigmoid[i], want, 0.0, EXP_TOLERANCE), "{isa} σ({x}) = {}", sigmoid[i]);
            assert!(close(tanh[i], x.tanh(), 1.0, EXP_TOLERANCE), "{isa} tanh {x} = {}", tanh[i]);
        }
    }
}

#[test]
fn exp_saturates_without_nan() {
    let x = [f32::NEG_INFINITY, -1.0e4, -88.0, 0.0, 200.0, f32::INFINITY];
    for isa in Isa::available() {
        let y = map(isa, &x, Function::Exp);
        assert_eq!(&y[..4], &[0.0, 0.0, 0.0, 1.0], "{isa}");
        assert!(y[4] > 1.0e38 && y[5] > 1.0e38, "{isa} {y:?}");
    }
}
