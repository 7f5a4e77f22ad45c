//! Tiles of unpacked weights: 8 rows by a strip of their length, laid out for kernels that keep one
//! row in each lane.
//!
//! A tile is filled once and meets all columns, so unpacking costs little per product; offsets are
//! taken off the codes here for the same reason. Four codes of a row, or one float, make a unit of
//! 4 bytes; units are transposed so that those of all rows stand side by side.

use std::arch::aarch64::{
    vdupq_n_s8, vld1q_u32, vreinterpretq_u32_u64, vreinterpretq_u64_u32, vst1q_f32, vst1q_s8,
    vst1q_u32, vsubq_s8, vtrn1q_u32, vtrn2q_u32, vzip1q_u64, vzip2q_u64,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::GROUP;
use super::tail::{Row, Tail};
use super::unpack::Weights;
use super::unpack_float::Floats;

/// Rows of a tile: two vectors.
pub(super) const ROWS: usize = 8;
/// Groups of quantised weights in a strip: a tile then takes 8 KiB of the L1 cache.
pub(super) const STRIP_GROUPS: usize = 4;
/// Units of a strip, for quantised weights; floats use as many.
pub(super) const STRIP_UNITS: usize = STRIP_GROUPS * GROUP / 4;
/// Most scales that a row has in a strip.
const STRIP_SCALES: usize = STRIP_GROUPS * GROUP / 16;

/// Memory for one tile; a thread keeps it on its stack.
#[repr(C, align(64))]
pub(super) struct Tile {
    /// `(rows, units)`: unit `u` of row `r` is `units[u * ROWS + r]`.
    pub(super) units: [u32; ROWS * STRIP_UNITS],
    /// `(rows, sub-blocks)`: scales.
    pub(super) d: [f32; ROWS * STRIP_SCALES],
    /// `(rows, sub-blocks)`: addends; unused when the format has none.
    pub(super) m: [f32; ROWS * STRIP_SCALES],
    /// Rows before transposition: `(units, rows)`.
    linear: [u32; ROWS * STRIP_UNITS],
}

impl Tile {
    pub(super) fn new() -> Self {
        Self {
            units: [0; ROWS * STRIP_UNITS],
            d: [0.0; ROWS * STRIP_SCALES],
            m: [0.0; ROWS * STRIP_SCALES],
            linear: [0; ROWS * STRIP_UNITS],
        }
    }

    /// Unpacks groups `groups` of `rows`, at most [`ROWS`]; rows that are missing become zeros.
    ///
    /// # Safety
    /// The rows exist and are of type `W`; there are at most [`STRIP_GROUPS`] groups; the processor
    /// has NEON.
    #[inline(always)]
    pub(super) unsafe fn fill<W: Weights>(
        &mut self,
        p: &Product,
        rows: &Range<usize>,
        groups: &Range<usize>,
    ) {
        let scales = if W::BY_16 { 16 } else { 8 };
        let units = groups.len() * GROUP / 4;
        let mut tail = Tail::uninit();
        for r in 0..ROWS {
            let line = &mut self.linear[r * STRIP_UNITS..][..units];
            if r >= rows.len() {
                line.fill(0);
                for j in 0..groups.len() * scales {
                    self.d[j * ROWS + r] = 0.0;
                    self.m[j * ROWS + r] = 0.0;
                }
                continue;
            }
            let line = line.as_mut_ptr().cast::<i8>();
            // SAFETY: the row exists, and so do its groups; `line` has room for all of them.
            unsafe {
                let row = Row::new::<W>(p, rows.start + r, &mut tail);
                for (i, g) in groups.clone().enumerate() {
                    let group = row.group::<W>(g);
                    let s = W::scales(group);
                    let (mut d, mut m) = ([0.0_f32; 16], [0.0_f32; 16]);
                    for quad in 0..scales / 4 {
                        vst1q_f32(d.as_mut_ptr().add(4 * quad), s.d[quad]);
                        vst1q_f32(m.as_mut_ptr().add(4 * quad), s.m[quad]);
                    }
                    for j in 0..scales {
                        self.d[(i * scales + j) * ROWS + r] = d[j];
                        if W::HAS_MIN {
                            self.m[(i * scales + j) * ROWS + r] = m[j];
                        }
                    }
                    for c in 0..8 {
                        let codes = W::codes(group, c);
                        for h in 0..2 {
                            let codes = vsubq_s8(codes[h], vdupq_n_s8(W::OFFSET));
                            vst1q_s8(line.add(i * GROUP + c * 32 + h * 16), codes);
                        }
                    }
                }
            }
        }
        self.transpose(units);
    }

    /// Converts elements `span` of `rows`, at most [`ROWS`]; missing rows and elements become zeros.
    ///
    /// # Safety
    /// As [`Tile::fill`]; the span has at most [`STRIP_UNITS`] elements.
    #[inline(always)]
    pub(super) unsafe fn fill_floats<W: Floats>(
        &mut self,
        p: &Product,
        rows: &Range<usize>,
        span: &Range<usize>,
    ) {
        let units = span.len().next_multiple_of(4);
        for r in 0..ROWS {
            let line = &mut self.linear[r * STRIP_UNITS..][..units];
            let mut done = 0;
            if r < rows.len() {
                // SAFETY: the row exists; elements are read up to the end of the span only.
                unsafe {
                    let start = p.w.add((rows.start + r) * p.w_stride + span.start * W::BYTES);
                    while done + 4 <= span.len() {
                        let four = W::load4(start.add(done * W::BYTES));
                        vst1q_f32(line.as_mut_ptr().add(done).cast(), four);
                        done += 4;
                    }
                    while done < span.len() {
                        line[done] = W::load1(start.add(done * W::BYTES)).to_bits();
                        done += 1;
                    }
                }
            }
            line[done..].fill(0);
        }
        self.transpose(units);
    }

    /// `linear (units, rows)` to `units (rows, units)`, in squares of 4 by 4; `units` is a multiple
    /// of 4.
    #[inline(always)]
    fn transpose(&mut self, units: usize) {
        for r in (0..ROWS).step_by(4) {
            for u in (0..units).step_by(4) {
                let from = self.linear[r * STRIP_UNITS + u..][..3 * STRIP_UNITS + 4].as_ptr();
                let to = self.units[u * ROWS + r..][..3 * ROWS + 4].as_mut_ptr();
                // SAFETY: the slices reach from the first to the last element of the square.
                unsafe {
                    let row = |i: usize| vld1q_u32(from.add(i * STRIP_UNITS));
                    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                    let pair = |v| vreinterpretq_u64_u32(v);
                    let (ab, cd) = (pair(vtrn1q_u32(a, b)), pair(vtrn1q_u32(c, d)));
                    let (ab_odd, cd_odd) = (pair(vtrn2q_u32(a, b)), pair(vtrn2q_u32(c, d)));
                    let columns = [
                        vzip1q_u64(ab, cd),
                        vzip1q_u64(ab_odd, cd_odd),
                        vzip2q_u64(ab, cd),
                        vzip2q_u64(ab_odd, cd_odd),
                    ];
                    for i in 0..4 {
                        vst1q_u32(to.add(i * ROWS), vreinterpretq_u32_u64(columns[i]));
                    }
                }
            }
        }
    }
}

/// The results of the rows of a tile for one column, from `dst` on.
///
/// # Safety
/// `rows` floats are readable at `dst`; at most [`ROWS`].
#[inline(always)]
pub(super) unsafe fn read_results(dst: *const f32, rows: usize) -> [f32; ROWS] {
    let mut all = [0.0; ROWS];
    // SAFETY: passed on.
    unsafe { std::ptr::copy_nonoverlapping(dst, all.as_mut_ptr(), rows) };
    all
}

/// Writes the first `rows` of `all` to `dst`.
///
/// # Safety
/// `rows` floats are writable at `dst`; at most [`ROWS`].
#[inline(always)]
pub(super) unsafe fn write_results(dst: *mut f32, rows: usize, all: &[f32; ROWS]) {
    // SAFETY: passed on.
    unsafe { std::ptr::copy_nonoverlapping(all.as_ptr(), dst, rows) };
}
