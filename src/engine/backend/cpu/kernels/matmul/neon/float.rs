//! Products with plain weights in `f32`: row dot products and tiles.

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddvq_f32, vdupq_n_f32, vfmaq_f32, vfmaq_laneq_f32, vfmaq_n_f32,
    vld1q_f32, vst1q_f32,
};
use std::ops::Range;

use super::super::Product;
use super::fill::{ROWS, STRIP_UNITS, Tile, read_results, write_results};
use super::unpack_float::Floats;

/// Columns that meet a tile at a time.
const COLUMNS: usize = 6;

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn dot_rows<W: Floats>(p: &Product, rows: Range<usize>) {
    let mut c = 0;
    while c < p.cols.count {
        // SAFETY: passed on; the columns are below the count.
        c += unsafe {
            match p.cols.count - c {
                1 => dot_columns::<W, 1>(p, rows.clone(), c),
                2 => dot_columns::<W, 2>(p, rows.clone(), c),
                3 => dot_columns::<W, 3>(p, rows.clone(), c),
                _ => dot_columns::<W, 4>(p, rows.clone(), c),
            }
        };
    }
}

/// # Safety
/// As [`dot_rows`]; `T` columns start at `first`.
#[target_feature(enable = "neon")]
unsafe fn dot_columns<W: Floats, const T: usize>(
    p: &Product,
    rows: Range<usize>,
    first: usize,
) -> usize {
    /// Chains per row and column, to hide the latency of additions.
    const CHAINS: usize = 4;
    // SAFETY: rows and columns exist and have `k` elements.
    unsafe {
        let cols = p.cols.block::<T>(first);
        for row in rows {
            let w = p.w.add(row * p.w_stride);
            let mut acc = [[vdupq_n_f32(0.0); CHAINS]; T];
            let mut i = 0;
            while i + 4 * CHAINS <= p.k {
                for c in 0..CHAINS {
                    let e = i + 4 * c;
                    let w = W::load4(w.add(e * W::BYTES));
                    for t in 0..T {
                        let x = vld1q_f32(cols[t].x.cast::<f32>().add(e));
                        acc[t][c] = vfmaq_f32(acc[t][c], w, x);
                    }
                }
                i += 4 * CHAINS;
            }
            while i + 4 <= p.k {
                let w = W::load4(w.add(i * W::BYTES));
                for t in 0..T {
                    let x = vld1q_f32(cols[t].x.cast::<f32>().add(i));
                    acc[t][0] = vfmaq_f32(acc[t][0], w, x);
                }
                i += 4;
            }
            for t in 0..T {
                let [a, b, c, d] = acc[t];
                let mut sum = vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
                for e in i..p.k {
                    sum += W::load1(w.add(e * W::BYTES)) * *cols[t].x.cast::<f32>().add(e);
                }
                *cols[t].dst.add(row) = sum;
            }
        }
    }
    T
}

/// # Safety
/// As [`dot_rows`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn tile_rows<W: Floats>(p: &Product, rows: Range<usize>) {
    let mut tile = Tile::new();
    for row in rows.clone().step_by(ROWS) {
        let here = row..(row + ROWS).min(rows.end);
        for start in (0..p.k).step_by(STRIP_UNITS) {
            let span = start..(start + STRIP_UNITS).min(p.k);
            // SAFETY: rows and elements exist.
            unsafe { tile.fill_floats::<W>(p, &here, &span) };
            let mut c = 0;
            while c < p.cols.count {
                // SAFETY: the columns are below the count.
                c += unsafe {
                    match p.cols.count - c {
                        1 => tile_columns::<1>(&tile, p, &here, &span, c),
                        2 => tile_columns::<2>(&tile, p, &here, &span, c),
                        3 => tile_columns::<3>(&tile, p, &here, &span, c),
                        4 => tile_columns::<4>(&tile, p, &here, &span, c),
                        5 => tile_columns::<5>(&tile, p, &here, &span, c),
                        _ => tile_columns::<COLUMNS>(&tile, p, &here, &span, c),
                    }
                };
            }
        }
    }
}

/// Adds what a tile contributes to `T` columns from `first` on; the first strip of a row sets them.
///
/// # Safety
/// As [`dot_rows`]; rows and columns exist.
#[target_feature(enable = "neon")]
unsafe fn tile_columns<const T: usize>(
    tile: &Tile,
    p: &Product,
    rows: &Range<usize>,
    span: &Range<usize>,
    first: usize,
) -> usize {
    // SAFETY: the tile holds the span of 8 rows, the columns have at least as many elements.
    unsafe {
        let cols = p.cols.block::<T>(first);
        let mut total = [[vdupq_n_f32(0.0); 2]; T];
        if span.start > 0 {
            for t in 0..T {
                let before = read_results(cols[t].dst.add(rows.start), rows.len());
                total[t] = [vld1q_f32(before.as_ptr()), vld1q_f32(before.as_ptr().add(4))];
            }
        }
        let mut units = tile.units.as_ptr().cast::<f32>();
        let mut e = span.start;
        while e + 4 <= span.end {
            let mut x = [vdupq_n_f32(0.0); T];
            for t in 0..T {
                x[t] = vld1q_f32(cols[t].x.cast::<f32>().add(e));
            }
            total = element::<T, 0>(total, units, &x);
            total = element::<T, 1>(total, units, &x);
            total = element::<T, 2>(total, units, &x);
            total = element::<T, 3>(total, units, &x);
            units = units.add(4 * ROWS);
            e += 4;
        }
        while e < span.end {
            let w = [vld1q_f32(units), vld1q_f32(units.add(4))];
            for t in 0..T {
                let x = *cols[t].x.cast::<f32>().add(e);
                total[t] = [vfmaq_n_f32(total[t][0], w[0], x), vfmaq_n_f32(total[t][1], w[1], x)];
            }
            units = units.add(ROWS);
            e += 1;
        }
        for t in 0..T {
            let mut after = [0.0; ROWS];
            vst1q_f32(after.as_mut_ptr(), total[t][0]);
            vst1q_f32(after.as_mut_ptr().add(4), total[t][1]);
            write_results(cols[t].dst.add(rows.start), rows.len(), &after);
        }
    }
    T
}

/// Adds the products of element `LANE` after `units` with lane `LANE` of each column.
///
/// # Safety
/// As [`tile_columns`].
#[inline(always)]
unsafe fn element<const T: usize, const LANE: i32>(
    mut total: [[float32x4_t; 2]; T],
    units: *const f32,
    x: &[float32x4_t; T],
) -> [[float32x4_t; 2]; T] {
    // SAFETY: passed on.
    unsafe {
        let here = units.add(LANE as usize * ROWS);
        let w = [vld1q_f32(here), vld1q_f32(here.add(4))];
        for t in 0..T {
            total[t][0] = vfmaq_laneq_f32::<LANE>(total[t][0], w[0], x[t]);
            total[t][1] = vfmaq_laneq_f32::<LANE>(total[t][1], w[1], x[t]);
        }
        total
    }
}
