//! One tile of attention: the query heads of one or more key heads, for a few tokens, over a range of
//! keys.
//!
//! Keys pass in blocks. A block is widened to `f32` once and serves every query row of its head;
//! each row keeps its running maximum and sum (online softmax, Dao et al., arXiv 2205.14135), so
//! the matrix of scores never exists. Blocks that the mask hides from all rows are not read.

use std::ops::Range;
use std::slice;

use half::f16;

use super::super::convert::rows_to_f32;
use super::super::simd::{Kernel, Simd};
use super::gemm::Gemm;
use super::plan::{BLOCK, Buffers, Plan};
use crate::engine::backend::cpu::TensorRef;

/// `-inf` as an IEEE half float.
const NEG_INFINITY: u16 = 0xFC00;

/// A tile of work; see the module.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) plan: &'a Plan,
    /// F32 `(d, n_head, t)`.
    pub(super) q: TensorRef,
    /// `(d, n_kv, n_head_kv)`.
    pub(super) k: TensorRef,
    /// `(dv, n_kv, n_head_kv)`.
    pub(super) v: TensorRef,
    /// F16 `(n_kv, t)`.
    pub(super) mask: TensorRef,
    pub(super) scale: f32,
    pub(super) softcap: f32,
    /// First and number of key heads.
    pub(super) heads: (usize, usize),
    /// First and number of tokens.
    pub(super) tokens: (usize, usize),
    /// Which part of the visible keys, of how many.
    pub(super) split: (usize, usize),
    pub(super) buffers: Buffers,
}

/// What the mask says of a block of keys.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sight {
    /// No row sees a key of it.
    None,
    /// Every row sees every key, without a bias.
    All,
    /// Anything else.
    Some,
}

impl Kernel for Tile<'_> {
    type Out = ();

    /// Leaves the unnormalised sums in `buffers.o`, the maxima in `buffers.max` and the sums of
    /// weights in `buffers.sum`. Rows of a key head stand together, the head within its group
    /// fastest, then the token.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (first, n) = self.heads;
        for head in first..first + n {
            self.head(head).start(s);
        }
        let (part, parts) = self.split;
        let mine = if parts == 1 {
            0..usize::MAX
        } else {
            let visible = self.visible_blocks();
            visible * part / parts..visible * (part + 1) / parts
        };
        let mut seen = 0;
        for keys in self.blocks() {
            let sight = self.sight(&keys);
            if sight == Sight::None {
                continue;
            }
            if mine.contains(&seen) {
                let keys = if sight == Sight::Some { self.trim(keys) } else { keys };
                if self.plan.few {
                    self.bias(s, &keys, sight);
                }
                // All heads of a block before the next one: together they are one stretch of memory.
                for head in first..first + n {
                    self.head(head).block(s, &keys, sight);
                }
            }
            seen += 1;
            if seen >= mine.end {
                break;
            }
        }
    }
}

impl<'a> Tile<'a> {
    /// The part of the tile that belongs to one key head.
    #[inline(always)]
    fn head(&self, index: usize) -> Head<'_, 'a> {
        let rows = self.tokens.1 * self.plan.group;
        let first = (index - self.heads.0) * self.plan.head_rows;
        // SAFETY: the buffers hold `head_rows` rows for each head of the tile.
        let buffers = unsafe { self.buffers.at_row(self.plan, first) };
        Head { tile: self, index, rows, buffers }
    }

    /// The blocks of keys, the last one shorter.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let n_kv = self.k.ne[1];
        (0..n_kv).step_by(BLOCK).map(move |first| first..(first + BLOCK).min(n_kv))
    }

    fn visible_blocks(&self) -> usize {
        self.blocks().filter(|keys| self.sight(keys) != Sight::None).count()
    }

    pub(super) fn each_token(&self) -> Range<usize> {
        self.tokens.0..self.tokens.0 + self.tokens.1
    }

    /// The mask of `keys` for one token.
    pub(super) fn mask_row(&self, token: usize, keys: &Range<usize>) -> &[u16] {
        // SAFETY: the mask is F16 with a row per token and a column per key; nobody writes it.
        unsafe {
            let row = self.mask.row(token, 0, 0).cast::<u16>();
            slice::from_raw_parts(row.add(keys.start), keys.len())
        }
    }

    /// The keys without those at either end that the mask hides from all tokens: in a prompt, most of
    /// a block at the edge of what its tokens see.
    fn trim(&self, keys: Range<usize>) -> Range<usize> {
        let mut hidden = [true; BLOCK];
        for token in self.each_token() {
            for (hidden, &x) in hidden.iter_mut().zip(self.mask_row(token, &keys)) {
                *hidden &= x == NEG_INFINITY;
            }
        }
        let hidden = &hidden[..keys.len()];
        let first = hidden.iter().take_while(|x| **x).count();
        let last = hidden[first..].iter().rev().take_while(|x| **x).count();
        keys.start + first..keys.end - last
    }

    fn sight(&self, keys: &Range<usize>) -> Sight {
        let (mut hidden, mut open) = (true, true);
        for token in self.each_token() {
            let row = self.mask_row(token, keys);
            hidden &= row.iter().fold(0, |acc, &x| acc | (x ^ NEG_INFINITY)) == 0;
            open &= row.iter().fold(0, |acc, &x| acc | (x << 1)) == 0;
            if !hidden && !open {
                return Sight::Some;
            }
        }
        if hidden { Sight::None } else { Sight::All }
    }
}

/// The query rows of a tile that share one key head.
pub(super) struct Head<'a, 'b> {
    pub(super) tile: &'a Tile<'b>,
    /// The key head.
    pub(super) index: usize,
    /// Query rows: `token * group + head` of the group.
    pub(super) rows: usize,
    pub(super) buffers: Buffers,
}

impl Head<'_, '_> {
    /// Copies the query rows, scaled and padded with zeros, and clears the accumulators.
    #[inline(always)]
    fn start<S: Simd>(&self, s: S) {
        let (tile, rows) = (self.tile, self.rows);
        let Plan { group, d_padded, dv_padded, few, head_rows, .. } = *tile.plan;
        let (d, scale) = (tile.q.ne[0], s.splat(tile.scale));
        for row in 0..rows {
            let (token, head) = (tile.tokens.0 + row / group, self.index * group + row % group);
            if few {
                self.lay_out_row::<S>(row, token, head);
                continue;
            }
            for i in (0..d_padded).step_by(S::W) {
                let n = d.saturating_sub(i).min(S::W);
                // SAFETY: head and token exist, `i + n <= d`, and the buffer's rows are `d_padded`
                // long.
                unsafe {
                    let x = s.load_n(tile.q.row(head, token, 0).cast::<f32>().add(i), n);
                    s.store(self.buffers.q.add(row * d_padded + i), s.mul(x, scale));
                }
            }
        }
        // SAFETY: the buffers have `head_rows` rows.
        unsafe {
            self.buffers.o.write_bytes(0, rows * dv_padded);
            slice::from_raw_parts_mut(self.buffers.max, head_rows).fill(f32::NEG_INFINITY);
            slice::from_raw_parts_mut(self.buffers.sum, head_rows).fill(0.0);
        }
    }

    /// Scores of one block of keys, the step of the softmax, and the block's share of the values.
    #[inline(always)]
    fn block<S: Simd>(&self, s: S, keys: &Range<usize>, sight: Sight) {
        let Plan { dv_padded, .. } = *self.tile.plan;
        let rows = self.rows;
        let padded = keys.len().next_multiple_of(16);
        let Buffers { scores, v, o, fade, .. } = self.buffers;
        let (m, n, k) = (rows, dv_padded, keys.len());
        let (a, b, c, fade) = (scores, v, o, Some(fade.cast_const()));
        // SAFETY: buffers hold `head_rows` rows and BLOCK keys; weights of padding are 0 and its
        // values are cleared by `widen`.
        unsafe {
            // The strides are constants in each branch, which the products are compiled for.
            if self.tile.plan.few {
                self.few_weights(s, keys, padded, sight);
                widen(s, &self.tile.v, self.index, keys, padded, v, dv_padded);
                let a_strides = (1, self.tile.plan.head_rows);
                let gemm = Gemm { m, n, k, a, a_strides, b, ldb: n, c, ldc: n, fade };
                let mut ahead = self.ahead(&self.tile.v, keys, gemm.steps::<S>());
                gemm.run(s, &mut || ahead.step(s));
                ahead.finish(s);
            } else {
                self.scores(s, rows, keys, padded);
                self.cap_and_mask(s, rows, keys, padded, sight);
                self.soft_max(s, rows, padded);
                widen(s, &self.tile.v, self.index, keys, padded, v, dv_padded);
                let a_strides = (BLOCK, 1);
                Gemm { m, n, k, a, a_strides, b, ldb: n, c, ldc: n, fade }.run(s, &mut || ());
            }
        }
    }

    /// `scores[row][key] = q[row] · k[key]`.
    #[inline(always)]
    fn scores<S: Simd>(&self, s: S, rows: usize, keys: &Range<usize>, padded: usize) {
        let d = self.tile.plan.d_padded;
        let Buffers { q, k, k_columns, scores, .. } = self.buffers;
        // SAFETY: buffers hold `rows` rows of `d`, BLOCK keys of `d` and `rows` rows of BLOCK.
        unsafe {
            widen(s, &self.tile.k, self.index, keys, padded, k, d);
            for key in (0..padded).step_by(8) {
                for i in (0..d).step_by(8) {
                    s.transpose8(k.add(key * d + i), d, k_columns.add(i * BLOCK + key), BLOCK);
                }
            }
            let (m, n, k) = (rows, padded, d);
            let (a, b, c) = (q, k_columns, scores);
            Gemm { m, n, k, a, a_strides: (d, 1), b, ldb: BLOCK, c, ldc: BLOCK, fade: None }
                .run(s, &mut || ());
        }
    }

    /// Caps the scores and adds the mask; scores of padding become −∞.
    #[inline(always)]
    fn cap_and_mask<S: Simd>(
        &self,
        s: S,
        rows: usize,
        keys: &Range<usize>,
        padded: usize,
        sight: Sight,
    ) {
        let scores = self.buffers.scores;
        if self.tile.softcap != 0.0 {
            let (cap, inverse) = (s.splat(self.tile.softcap), s.splat(1.0 / self.tile.softcap));
            self.each_score(s, rows, padded, |x, _| s.mul(cap, s.tanh(s.mul(x, inverse))));
        }
        if sight == Sight::All && keys.len() == padded {
            return;
        }
        let group = self.tile.plan.group;
        let mut bias = [f32::NEG_INFINITY; BLOCK];
        for (i, token) in self.tile.each_token().enumerate() {
            for (to, &bits) in bias.iter_mut().zip(self.tile.mask_row(token, keys)) {
                *to = f16::from_bits(bits).to_f32();
            }
            for row in i * group..(i + 1) * group {
                for key in (0..padded).step_by(S::W) {
                    // SAFETY: `key` is below BLOCK and `row` below `rows`.
                    unsafe {
                        let p = scores.add(row * BLOCK + key);
                        s.store(p, s.add(s.load(p), s.load(bias.as_ptr().add(key))));
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn each_score<S: Simd>(
        &self,
        s: S,
        rows: usize,
        padded: usize,
        f: impl Fn(S::F, usize) -> S::F,
    ) {
        for row in 0..rows {
            for key in (0..padded).step_by(S::W) {
                // SAFETY: `key` is below BLOCK and `row` below `rows`.
                unsafe {
                    let p = self.buffers.scores.add(row * BLOCK + key);
                    s.store(p, f(s.load(p), row));
                }
            }
        }
    }

    /// Turns scores into weights relative to each row's new maximum; `fade` is what that makes of the
    /// row's earlier weights.
    #[inline(always)]
    fn soft_max<S: Simd>(&self, s: S, rows: usize, padded: usize) {
        let Buffers { scores, fade, max, sum, .. } = self.buffers;
        for row in 0..rows {
            // SAFETY: `row` is below `rows`, keys below BLOCK.
            unsafe {
                let line = scores.add(row * BLOCK);
                let mut largest = s.load(line);
                for key in (S::W..padded).step_by(S::W) {
                    largest = s.max(largest, s.load(line.add(key)));
                }
                let old = *max.add(row);
                let new = old.max(s.largest(largest));
                if new == f32::NEG_INFINITY {
                    line.write_bytes(0, padded);
                    *fade.add(row) = 1.0;
                    continue;
                }
                let shift = s.splat(new);
                let mut total = s.splat(0.0);
                for key in (0..padded).step_by(S::W) {
                    let p = line.add(key);
                    let weight = s.exp(s.sub(s.load(p), shift));
                    total = s.add(total, weight);
                    s.store(p, weight);
                }
                let faded = if new == old { 1.0 } else { (old - new).exp() };
                *max.add(row) = new;
                *sum.add(row) = *sum.add(row) * faded + s.sum(total);
                *fade.add(row) = faded;
            }
        }
    }
}

/// Widens `keys` of one head into rows `stride` long at `dst`, and clears what pads them: the end of
/// each row, and rows from `keys.len()` to `padded`.
///
/// # Safety
/// `x` is a live `(n, n_kv, n_head_kv)` with these keys and this head; `dst` has room for `padded`
/// rows, and `n <= stride`.
#[inline(always)]
pub(super) unsafe fn widen<S: Simd>(
    s: S,
    x: &TensorRef,
    head: usize,
    keys: &Range<usize>,
    padded: usize,
    dst: *mut f32,
    stride: usize,
) {
    let n = x.ne[0];
    // SAFETY: as the caller vouches.
    unsafe {
        let from = x.row(keys.start, head, 0);
        rows_to_f32(s, x.dtype, from, x.nb[1], dst, stride, n, keys.len());
        if stride > n {
            for i in 0..keys.len() {
                dst.add(i * stride + n).write_bytes(0, stride - n);
            }
        }
        if padded > keys.len() {
            dst.add(keys.len() * stride).write_bytes(0, (padded - keys.len()) * stride);
        }
    }
}
