//! A block of keys for a few query rows, as in decode: the rows stand in the lanes of vectors.
//!
//! Scores then need no sums across lanes and the softmax none either. Where rows fill only a part of
//! a vector, each has `W / rows` lanes for as many elements of the head, and those lanes are added
//! up at the end. The number of rows is rounded up to a power of two; the added ones are zeros that
//! nobody reads.

use std::ops::Range;

use super::super::convert::{row_to_f32, rows_to_f32};
use super::super::simd::Simd;
use super::gemm::{STEP, rank_one};
use super::plan::{BLOCK, Buffers, PANEL};
use super::tile::{Head, Sight, Tile};
use crate::engine::backend::cpu::TensorRef;
use crate::engine::tensor::DType;

/// Floats of the widest vector.
const WIDEST: usize = 16;

/// Lanes that one of `rows` query rows has in a vector.
const fn lanes<S: Simd>(rows: usize) -> usize {
    if S::W > rows { S::W / rows } else { 1 }
}

impl Tile<'_> {
    /// Lays out what the mask adds to the scores of a block, unless it adds nothing. Keys that pad
    /// the block are hidden.
    #[inline(always)]
    pub(super) fn bias<S: Simd>(&self, s: S, keys: &Range<usize>, sight: Sight) {
        let padded = keys.len().next_multiple_of(16);
        if sight == Sight::All && keys.len() == padded {
            return;
        }
        let (group, stride) = (self.plan.group, self.plan.head_rows);
        let mut line = [f32::NEG_INFINITY; BLOCK];
        // SAFETY: the buffer holds `padded` keys of `stride` rows, and a line of the mask as many
        // keys as the block.
        unsafe {
            self.buffers.bias.write_bytes(0, padded * stride);
            for (i, token) in self.each_token().enumerate() {
                let mask = self.mask_row(token, keys).as_ptr().cast();
                row_to_f32(s, DType::F16, mask, line.as_mut_ptr(), keys.len());
                for (key, &x) in line[..padded].iter().enumerate() {
                    for row in i * group..(i + 1) * group {
                        *self.buffers.bias.add(key * stride + row) = x;
                    }
                }
            }
        }
    }
}

/// Cache lines of keys or values that the next block will want, asked for while this one is computed.
pub(super) struct Ahead {
    /// The row that is asked for now.
    row: *const u8,
    /// Bytes of it that were asked for, and that are wanted.
    at: usize,
    bytes: usize,
    /// Bytes between rows, and rows left after this one.
    stride: usize,
    left: usize,
    /// Lines per step.
    lines: usize,
}

impl Ahead {
    #[inline(always)]
    fn line<S: Simd>(&mut self, s: S) {
        if self.at >= self.bytes {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            self.at = 0;
            self.row = self.row.wrapping_add(self.stride);
        }
        s.prefetch(self.row.wrapping_add(self.at));
        self.at += 64;
    }

    /// Asks for the next few lines.
    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, s: S) {
        for _ in 0..self.lines {
            self.line(s);
        }
    }

    /// Asks for all lines that are left.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&mut self, s: S) {
        while self.left > 0 || self.at < self.bytes {
            self.line(s);
        }
    }
}

impl Head<'_, '_> {
    /// This head's share of the rows of `x` in the block after `keys`, to be asked for in `steps`.
    #[inline(always)]
    pub(super) fn ahead(&self, x: &TensorRef, keys: &Range<usize>, steps: usize) -> Ahead {
        let (first, heads) = self.tile.heads;
        let share = |i: usize| (keys.end + BLOCK * i / heads).min(x.ne[1]);
        let rows = share(self.index - first)..share(self.index - first + 1);
        // Heads of a key stand together as a rule; if not, only the first is asked for.
        let bytes = if x.nb[2] < x.nb[1] { heads * x.nb[2] } else { x.nb[2].min(x.nb[1]) };
        let row = x.ptr.cast_const().wrapping_add(first * x.nb[2] + rows.start * x.nb[1]);
        let at = if rows.is_empty() { bytes } else { 0 };
        let lines = (rows.len() * bytes / 64).div_ceil(steps);
        Ahead { row, at, bytes, stride: x.nb[1], left: rows.len().saturating_sub(1), lines }
    }

    /// Copies one query row, scaled, into its lanes: element `i` goes to lane `i % lanes` of those
    /// that the row has in vector `i / lanes`.
    #[inline(always)]
    pub(super) fn lay_out_row<S: Simd>(&self, row: usize, token: usize, head: usize) {
        let (rows, d_padded) = (self.tile.plan.head_rows, self.tile.plan.d_padded);
        let lanes = lanes::<S>(rows);
        let d = self.tile.q.ne[0];
        // SAFETY: the row has `d` elements, and the buffer `d_padded` for each of `rows` rows.
        unsafe {
            let from = self.tile.q.row(head, token, 0).cast::<f32>();
            let mut to = self.buffers.q.add(row * lanes);
            for i in (0..d_padded).step_by(lanes) {
                for j in 0..lanes {
                    *to.add(j) = if i + j < d { *from.add(i + j) * self.tile.scale } else { 0.0 };
                }
                to = to.add(rows * lanes);
            }
        }
    }

    /// The weights of a block, `(rows, keys)`, and `fade`.
    ///
    /// # Safety
    /// [`Tile::bias`] was called for these keys.
    #[inline(always)]
    pub(super) unsafe fn few_weights<S: Simd>(
        &self,
        s: S,
        keys: &Range<usize>,
        padded: usize,
        sight: Sight,
    ) {
        let d = self.tile.plan.d_padded;
        let Buffers { k, scores, bias, .. } = self.buffers;
        let rows = self.tile.plan.head_rows;
        let floats = padded * rows;
        // SAFETY: buffers hold BLOCK keys of `d` elements, and BLOCK scores of each row.
        unsafe {
            widen_panels(s, &self.tile.k, self.index, keys, padded, k, d);
            let steps = floats * d / (S::TILE * S::W * 2 / 3) / STEP;
            let mut ahead = self.ahead(&self.tile.k, keys, steps.max(1));
            self.few_scores(s, &mut ahead, padded);
            ahead.finish(s);
            let cap = self.tile.softcap;
            if cap != 0.0 {
                let (cap, inverse) = (s.splat(cap), s.splat(1.0 / cap));
                for i in (0..floats).step_by(S::W) {
                    let x = s.mul(s.load(scores.add(i)), inverse);
                    s.store(scores.add(i), s.mul(cap, s.tanh(x)));
                }
            }
            if sight != Sight::All || keys.len() != padded {
                for i in (0..floats).step_by(S::W) {
                    let x = s.add(s.load(scores.add(i)), s.load(bias.add(i)));
                    s.store(scores.add(i), x);
                }
            }
            self.few_soft_max(s, padded);
        }
    }

    /// `scores[key][row] = q[row] · k[key]`.
    ///
    /// # Safety
    /// The widened keys and the query rows are laid out.
    #[inline(always)]
    unsafe fn few_scores<S: Simd>(&self, s: S, ahead: &mut Ahead, padded: usize) {
        // SAFETY: as the caller vouches; `padded` is a multiple of the keys of a tile.
        unsafe {
            match lanes::<S>(self.tile.plan.head_rows) {
                1 => self.whole_vectors(s, ahead, padded),
                2 => self.shared_vectors(s, ahead, padded, 2),
                4 => self.shared_vectors(s, ahead, padded, 4),
                8 => self.shared_vectors(s, ahead, padded, 8),
                _ => self.shared_vectors(s, ahead, padded, 16),
            }
        }
    }

    /// Scores where rows fill whole vectors.
    ///
    /// # Safety
    /// As [`Head::few_scores`].
    #[inline(always)]
    unsafe fn whole_vectors<S: Simd>(&self, s: S, ahead: &mut Ahead, padded: usize) {
        let rows = self.tile.plan.head_rows;
        let mut column = 0;
        // SAFETY: as the caller vouches; columns stay below `rows`.
        unsafe {
            while column + 2 * S::W <= rows {
                for key in (0..padded).step_by(4) {
                    self.dots::<S, 4, 2>(s, key, column, 1, ahead);
                }
                column += 2 * S::W;
            }
            if column < rows {
                self.shared_vectors(s, ahead, padded, 1);
            }
        }
    }

    /// Scores where all rows are in one vector, with `lanes` lanes each.
    ///
    /// # Safety
    /// As [`Head::few_scores`].
    #[inline(always)]
    unsafe fn shared_vectors<S: Simd>(&self, s: S, ahead: &mut Ahead, padded: usize, lanes: usize) {
        // SAFETY: as the caller vouches.
        unsafe {
            if S::TILE >= 16 {
                for key in (0..padded).step_by(16) {
                    self.dots::<S, 16, 1>(s, key, 0, lanes, ahead);
                }
            } else {
                for key in (0..padded).step_by(8) {
                    self.dots::<S, 8, 1>(s, key, 0, lanes, ahead);
                }
            }
        }
    }

    /// Scores of `M` keys and `N` vectors of rows from `column`.
    ///
    /// # Safety
    /// As [`Head::few_scores`]; keys and columns exist, and `M` is a multiple of `lanes`.
    #[inline(always)]
    unsafe fn dots<S: Simd, const M: usize, const N: usize>(
        &self,
        s: S,
        key: usize,
        column: usize,
        lanes: usize,
        ahead: &mut Ahead,
    ) {
        let (rows, d) = (self.tile.plan.head_rows, self.tile.plan.d_padded);
        let mut acc = [[s.splat(0.0); N]; M];
        // SAFETY: as the caller vouches.
        unsafe {
            let k = self.buffers.k.add(key * PANEL);
            let q = self.buffers.q.add(column);
            // Rows are padded to a multiple of the widest vector.
            let chunk = (STEP * lanes).min(WIDEST);
            for from in (0..d).step_by(PANEL) {
                let k = k.add(from * BLOCK);
                for i in (0..PANEL.min(d - from)).step_by(chunk) {
                    ahead.step(s);
                    for i in (i..i + chunk).step_by(lanes) {
                        let line = q.add((from + i) * rows);
                        rank_one(s, &mut acc, line, |m| s.repeat(k.add(m * PANEL + i), lanes));
                    }
                }
            }
            let mut vectors = M;
            for share in [2, 4, 8, 16] {
                if share <= lanes {
                    vectors /= 2;
                    for m in 0..vectors {
                        acc[m][0] = s.pair_sums(acc[2 * m][0], acc[2 * m + 1][0]);
                    }
                }
            }
            let stride = if lanes == 1 { rows } else { S::W };
            let to = self.buffers.scores.add(key * rows + column);
            for m in 0..vectors {
                for j in 0..N {
                    s.store(to.add(m * stride + j * S::W), acc[m][j]);
                }
            }
        }
    }

    /// Turns scores into weights relative to each row's new maximum; `fade` is what that makes of the
    /// row's earlier weights.
    ///
    /// # Safety
    /// Scores of `padded` keys are there.
    #[inline(always)]
    unsafe fn few_soft_max<S: Simd>(&self, s: S, padded: usize) {
        let rows = self.tile.plan.head_rows;
        let Buffers { scores, fade, max, sum, .. } = self.buffers;
        let wide = rows.min(S::W);
        for column in (0..rows).step_by(S::W) {
            let each = || (column..padded * rows).step_by(rows.max(S::W));
            // SAFETY: `each` stays among the scores, and rows below `head_rows`.
            unsafe {
                let mut top = s.load(scores.add(column));
                for i in each() {
                    top = s.max(top, s.load(scores.add(i)));
                }
                let old = s.repeat(max.add(column), wide);
                let new = s.max(old, fold(s, top, wide, |a, b| s.max(a, b)));
                // A row that has seen nothing yet must not subtract −∞ from −∞.
                let shift = s.max(new, s.splat(f32::MIN));
                let mut total = s.splat(0.0);
                for i in each() {
                    let weight = s.exp(s.sub(s.load(scores.add(i)), shift));
                    total = s.add(total, weight);
                    s.store(scores.add(i), weight);
                }
                let total = fold(s, total, wide, |a, b| s.add(a, b));
                let faded = s.exp(s.sub(old, shift));
                let sums = s.fma(s.repeat(sum.add(column), wide), faded, total);
                s.store_n(max.add(column), new, wide);
                s.store_n(sum.add(column), sums, wide);
                s.store_n(fade.add(column), faded, wide);
            }
        }
    }
}

/// Widens keys into panels of PANEL elements of all of them, and clears what pads them: the end of
/// each row up to `d`, and keys from `keys.len()` to `padded`. The rows of a panel stand PANEL floats
/// apart whatever the head, so that the addresses of a tile are constants.
///
/// # Safety
/// `x` is a live `(n, n_kv, n_head_kv)` with these keys and this head, and `n <= d`; `dst` has room
/// for BLOCK rows of `d`.
#[inline(always)]
unsafe fn widen_panels<S: Simd>(
    s: S,
    x: &TensorRef,
    head: usize,
    keys: &Range<usize>,
    padded: usize,
    dst: *mut f32,
    d: usize,
) {
    let n = x.ne[0];
    // SAFETY: as the caller vouches. The rows of a narrow last panel lie apart all the same, and end
    // before BLOCK * PANEL floats of it.
    unsafe {
        for from in (0..d).step_by(PANEL) {
            let panel = dst.add(from * BLOCK);
            let wide = n.saturating_sub(from).min(PANEL);
            let row = x.row(keys.start, head, 0).add(from / x.dtype.block_len() * x.nb[0]);
            rows_to_f32(s, x.dtype, row, x.nb[1], panel, PANEL, wide, keys.len());
            if wide < PANEL {
                for i in 0..keys.len() {
                    panel.add(i * PANEL + wide).write_bytes(0, PANEL - wide);
                }
            }
            panel.add(keys.len() * PANEL).write_bytes(0, (padded - keys.len()) * PANEL);
        }
    }
}

/// Combines the parts of `n` lanes of a vector; every part of the result is the same.
#[inline(always)]
fn fold<S: Simd>(s: S, x: S::F, n: usize, f: impl Fn(S::F, S::F) -> S::F) -> S::F {
    let mut parts = [0.0; WIDEST];
    // SAFETY: no vector is wider than `parts`, and parts of `n` lanes divide it.
    unsafe {
        s.store(parts.as_mut_ptr(), x);
        let mut all = s.repeat(parts.as_ptr(), n);
        for at in (n..S::W).step_by(n) {
            all = f(all, s.repeat(parts.as_ptr().add(at), n));
        }
        all
    }
}
