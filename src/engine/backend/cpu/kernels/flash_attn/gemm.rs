//! Products of the small matrices of one attention tile, held in registers.
//!
//! Not the matrix product of the model's weights: operands are `f32`, in the cache, and padded so
//! that no column is left over.

use super::super::simd::Simd;

/// `c = a · b`, or `c = a · b + fade · c`: `a` is `m`×`k`, `b` `k`×`n` and `c` `m`×`n` row-major.
#[derive(Clone, Copy)]
pub(super) struct Gemm {
    pub(super) m: usize,
    /// A multiple of the vector width.
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: *const f32,
    /// Floats between elements of a column of `a`, and of a row.
    pub(super) a_strides: (usize, usize),
    pub(super) b: *const f32,
    pub(super) ldb: usize,
    pub(super) c: *mut f32,
    pub(super) ldc: usize,
    /// A factor per row of what `c` holds; without it, `c` is overwritten.
    pub(super) fade: Option<*const f32>,
}

/// Rows of the widest register tile.
const ROWS: usize = 6;

/// Passes of the innermost loop per step of what runs beside it.
pub(super) const STEP: usize = 4;

impl Gemm {
    /// How often a product calls its `step`, nearly.
    pub(super) fn steps<S: Simd>(&self) -> usize {
        (self.m * self.n * self.k / (S::TILE * S::W * 2 / 3) / STEP).max(1)
    }

    /// Computes the product, and calls `step` about [`Gemm::steps`] times meanwhile.
    ///
    /// # Safety
    /// The three matrices are live, as is a factor for each row; `c` overlaps none of them.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(&self, s: S, step: &mut impl FnMut()) {
        // With many rows, a strip of `b` as wide as the register tile stays in the first-level
        // cache while all rows pass over it.
        let strip = if self.m >= ROWS { S::TILE / ROWS * S::W } else { self.n };
        for from in (0..self.n).step_by(strip) {
            let to = (from + strip).min(self.n);
            let mut row = 0;
            // SAFETY: rows stay below `m` and columns below `n`.
            unsafe {
                // Eight rows are better cut in equal halves than with a thin rest.
                while row + ROWS <= self.m && row + 8 != self.m {
                    self.rows::<S, ROWS>(s, row, from, to, step);
                    row += ROWS;
                }
                while row + 4 <= self.m {
                    self.rows::<S, 4>(s, row, from, to, step);
                    row += 4;
                }
                if row + 2 <= self.m {
                    self.rows::<S, 2>(s, row, from, to, step);
                    row += 2;
                }
                if row < self.m {
                    self.rows::<S, 1>(s, row, from, to, step);
                }
            }
        }
    }

    /// `M` rows from `row`, columns `from..to`, in the widest tiles that the registers hold.
    ///
    /// # Safety
    /// As [`Gemm::run`]; rows and columns exist.
    #[inline(always)]
    unsafe fn rows<S: Simd, const M: usize>(
        &self,
        s: S,
        row: usize,
        from: usize,
        to: usize,
        step: &mut impl FnMut(),
    ) {
        let mut column = from;
        // SAFETY: each tile ends at or below column `to`.
        unsafe {
            while 8 * M <= S::TILE && column + 8 * S::W <= to {
                self.tile::<S, M, 8>(s, row, column, step);
                column += 8 * S::W;
            }
            while 4 * M <= S::TILE && column + 4 * S::W <= to {
                self.tile::<S, M, 4>(s, row, column, step);
                column += 4 * S::W;
            }
            while 2 * M <= S::TILE && column + 2 * S::W <= to {
                self.tile::<S, M, 2>(s, row, column, step);
                column += 2 * S::W;
            }
            while column < to {
                self.tile::<S, M, 1>(s, row, column, step);
                column += S::W;
            }
        }
    }

    /// `M` rows by `N` vectors.
    ///
    /// # Safety
    /// As [`Gemm::rows`].
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(
        &self,
        s: S,
        row: usize,
        column: usize,
        step: &mut impl FnMut(),
    ) {
        let mut acc = [[s.splat(0.0); N]; M];
        // SAFETY: the tile is inside `c`, its rows inside `a`, its columns inside `b`.
        unsafe {
            let (down, along) = self.a_strides;
            let a = self.a.add(row * down);
            let b = self.b.add(column);
            let (mut left, mut a, mut b) = (self.k, a, b);
            while left > 0 {
                step();
                for _ in 0..left.min(STEP) {
                    rank_one(s, &mut acc, b, |i| s.splat(*a.add(i * down)));
                    (a, b) = (a.add(along), b.add(self.ldb));
                }
                left = left.saturating_sub(STEP);
            }
            for i in 0..M {
                let fade = self.fade.map(|f| s.splat(*f.add(row + i)));
                for j in 0..N {
                    let c = self.c.add((row + i) * self.ldc + column + j * S::W);
                    let sum = fade.map_or(acc[i][j], |f| s.fma(f, s.load(c), acc[i][j]));
                    s.store(c, sum);
                }
            }
        }
    }
}

/// `acc[i][j] += x(i) * line[j]`, where the vectors of `line` stand `W` floats apart.
///
/// # Safety
/// `N` vectors are readable at `line`.
#[inline(always)]
pub(super) unsafe fn rank_one<S: Simd, const M: usize, const N: usize>(
    s: S,
    acc: &mut [[S::F; N]; M],
    line: *const f32,
    x: impl Fn(usize) -> S::F,
) {
    let mut vectors = [s.splat(0.0); N];
    for j in 0..N {
        // SAFETY: as the caller vouches.
        vectors[j] = unsafe { s.load(line.add(j * S::W)) };
    }
    for i in 0..M {
        let x = x(i);
        for j in 0..N {
            acc[i][j] = s.fma(x, vectors[j], acc[i][j]);
        }
    }
}
