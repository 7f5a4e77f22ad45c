//! The largest values of each row: the experts that a router scores highest, the likeliest tokens.
//!
//! One pass over the row, which stops only at values that belong among the `k` largest so far; of a
//! vocabulary in random order these are about `k · ln(n / k)`.

use super::simd::{Kernel, Simd, dispatch};
use crate::engine::backend::cpu::{Isa, TensorRef, Worker};

/// Vectors that are compared at a time.
const GROUP: usize = 8;

/// Indices of the `k` largest of each row, largest first, the lower index first among equals: F32
/// `(n, t)` → I32 `(k, t)` with `k <= n`. NaN counts as −∞.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn top_k(wk: &Worker, isa: Isa, x: TensorRef, dst: TensorRef) {
    let k = dst.ne[0];
    for row in wk.share(x.rows(), 1) {
        // SAFETY: `row` is a row of both; `dst` is I32 with `k` elements per row; the processor has
        // `isa`.
        unsafe {
            let picks = std::slice::from_raw_parts_mut(dst.flat_row(row).cast::<i32>(), k);
            dispatch(isa, Largest { values: x.f32_row(row), picks });
        }
    }
}

struct Largest<'a> {
    values: &'a [f32],
    picks: &'a mut [i32],
}

impl Largest<'_> {
    #[inline(always)]
    fn at(&self, i: usize) -> f32 {
        if self.values[i].is_nan() { f32::NEG_INFINITY } else { self.values[i] }
    }

    /// Puts index `i`, larger than all before it, among the first `n` picks where it belongs.
    fn insert(&mut self, i: usize, n: usize) {
        let value = self.at(i);
        let place = self.picks[..n].partition_point(|&p| self.at(p as usize) >= value);
        let end = (n + 1).min(self.picks.len());
        if place < end {
            self.picks.copy_within(place..end - 1, place + 1);
            self.picks[place] = i as i32;
        }
    }
}

impl Kernel for Largest<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (n, k) = (self.values.len(), self.picks.len());
        if k == 0 {
            return;
        }
        for i in 0..k {
            self.insert(i, i);
        }
        let step = GROUP * S::W;
        let mut i = k;
        while i < n {
            let least = self.at(self.picks[k - 1] as usize);
            if n - i >= step {
                let mut found = s.splat(0.0);
                for part in 0..GROUP {
                    // SAFETY: `step` elements from `i` are below `n`.
                    let x = unsafe { s.load(self.values.as_ptr().add(i + part * S::W)) };
                    found = s.add(found, s.keep_ge(s.splat(1.0), x, least));
                }
                if s.sum(found) == 0.0 {
                    i += step;
                    continue;
                }
            }
            for i in i..(i + step).min(n) {
                // Equals come later and so lose.
                if self.at(i) > self.at(self.picks[k - 1] as usize) {
                    self.insert(i, k);
                }
            }
            i += step;
        }
    }
}
