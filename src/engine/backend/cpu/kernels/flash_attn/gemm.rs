//! Products of the small matrices of one attention tile, held in registers.
//!
//! Not the matrix product of the model's weights: operands are `f32`, in the cache, and padded so
//! that no column is left over.

use super::super::simd::Simd;

/// `c = a · b` or `c += a · b`, all row-major: `a` is `m`×`k` with rows `lda` apart, `b` `k`×`n`,
/// `c` `m`×`n`.
#[derive(Clone, Copy)]
pub(super) struct Gemm {
    pub(super) m: usize,
    /// A multiple of the vector width.
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: *const f32,
    pub(super) lda: usize,
    pub(super) b: *const f32,
    pub(super) ldb: usize,
    pub(super) c: *mut f32,
    pub(super) ldc: usize,
    /// Adds to `c` instead of overwriting it.
    pub(super) accumulate: bool,
}

/// Rows of the widest register tile.
const ROWS: usize = 6;

impl Gemm {
    /// Computes the product.
    ///
    /// # Safety
    /// The three matrices are live, and `c` overlaps neither of the others.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(&self, s: S) {
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
                    self.rows::<S, ROWS>(s, row, from, to);
                    row += ROWS;
                }
                while row + 4 <= self.m {
                    self.rows::<S, 4>(s, row, from, to);
                    row += 4;
                }
                if row + 2 <= self.m {
                    self.rows::<S, 2>(s, row, from, to);
                    row += 2;
                }
                if row < self.m {
                    self.rows::<S, 1>(s, row, from, to);
                }
            }
        }
    }

    /// `M` rows from `row`, columns `from..to`, in the widest tiles that the registers hold.
    ///
    /// # Safety
    /// As [`Gemm::run`]; rows and columns exist.
    #[inline(always)]
    unsafe fn rows<S: Simd, const M: usize>(&self, s: S, row: usize, from: usize, to: usize) {
        let mut column = from;
        // SAFETY: each tile ends at or below column `to`.
        unsafe {
            while 8 * M <= S::TILE && column + 8 * S::W <= to {
                self.tile::<S, M, 8>(s, row, column);
                column += 8 * S::W;
            }
            while 4 * M <= S::TILE && column + 4 * S::W <= to {
                self.tile::<S, M, 4>(s, row, column);
                column += 4 * S::W;
            }
            while 2 * M <= S::TILE && column + 2 * S::W <= to {
                self.tile::<S, M, 2>(s, row, column);
                column += 2 * S::W;
            }
            while column < to {
                self.tile::<S, M, 1>(s, row, column);
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
    ) {
        let mut acc = [[s.splat(0.0); N]; M];
        // SAFETY: the tile is inside `c`, its rows inside `a`, its columns inside `b`.
        unsafe {
            let a = self.a.add(row * self.lda);
            let b = self.b.add(column);
            for p in 0..self.k {
                let mut line = [s.splat(0.0); N];
                for j in 0..N {
                    line[j] = s.load(b.add(p * self.ldb + j * S::W));
                }
                for i in 0..M {
                    let x = s.splat(*a.add(i * self.lda + p));
                    for j in 0..N {
                        acc[i][j] = s.fma(x, line[j], acc[i][j]);
                    }
                }
            }
            for i in 0..M {
                for j in 0..N {
                    let c = self.c.add((row + i) * self.ldc + column + j * S::W);
                    let x = if self.accumulate { s.add(acc[i][j], s.load(c)) } else { acc[i][j] };
                    s.store(c, x);
                }
            }
        }
    }
}
