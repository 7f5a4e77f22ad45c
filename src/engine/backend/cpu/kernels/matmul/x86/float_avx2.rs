//! Products with plain weights in `f32`, with AVX2: row dot products and tiles.

use std::arch::x86_64::{
    __m256i, _mm256_fmadd_ps, _mm256_load_ps, _mm256_loadu_ps, _mm256_maskload_ps,
    _mm256_maskstore_ps, _mm256_set1_ps, _mm256_setzero_ps,
};
use std::ops::Range;

use super::super::Product;
use super::super::columns::Column;
use super::dot_avx2::reduce;
use super::fill::{STRIP_UNITS, Tile};
use super::tile_avx2::row_masks;
use super::unpack_float::Floats;

/// Rows of a tile: two vectors.
const ROWS: usize = 16;
/// Columns that meet a tile at a time.
const COLUMNS: usize = 5;

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_columns<W: Floats, const T: usize>(
    p: &Product,
    rows: Range<usize>,
    first: usize,
) -> usize {
    /// Chains per row and column, to hide the latency of additions.
    const CHAINS: usize = 4;
    // SAFETY: rows and columns exist and have `k` elements.
    unsafe {
        let cols: [Column; T] = std::array::from_fn(|t| p.cols.get(first + t));
        for row in rows {
            let w = p.w.add(row * p.w_stride);
            let mut acc = [[_mm256_setzero_ps(); CHAINS]; T];
            let mut i = 0;
            while i + 8 * CHAINS <= p.k {
                for c in 0..CHAINS {
                    let e = i + 8 * c;
                    let w = W::load8(w.add(e * W::BYTES));
                    for t in 0..T {
                        let x = _mm256_loadu_ps(cols[t].x.cast::<f32>().add(e));
                        acc[t][c] = _mm256_fmadd_ps(w, x, acc[t][c]);
                    }
                }
                i += 8 * CHAINS;
            }
            while i + 8 <= p.k {
                let w = W::load8(w.add(i * W::BYTES));
                for t in 0..T {
                    let x = _mm256_loadu_ps(cols[t].x.cast::<f32>().add(i));
                    acc[t][0] = _mm256_fmadd_ps(w, x, acc[t][0]);
                }
                i += 8;
            }
            for t in 0..T {
                let mut sum = 0.0;
                for c in 0..CHAINS {
                    sum += reduce(acc[t][c]);
                }
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
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile_rows<W: Floats>(p: &Product, rows: Range<usize>) {
    let mut tile = Tile::new();
    for row in rows.clone().step_by(ROWS) {
        let here = row..(row + ROWS).min(rows.end);
        // SAFETY: the processor has AVX2.
        let masks = unsafe { row_masks(here.len()) };
        for start in (0..p.k).step_by(STRIP_UNITS) {
            let span = start..(start + STRIP_UNITS).min(p.k);
            // SAFETY: rows and elements exist.
            unsafe { tile.fill_floats::<W, ROWS>(p, &here, &span) };
            let mut c = 0;
            while c < p.cols.count {
                // SAFETY: the columns are below the count.
                c += unsafe {
                    match p.cols.count - c {
                        1 => tile_columns::<1>(&tile, p, row, masks, &span, c),
                        2 => tile_columns::<2>(&tile, p, row, masks, &span, c),
                        3 => tile_columns::<3>(&tile, p, row, masks, &span, c),
                        4 => tile_columns::<4>(&tile, p, row, masks, &span, c),
                        _ => tile_columns::<COLUMNS>(&tile, p, row, masks, &span, c),
                    }
                };
            }
        }
    }
}

/// Adds what a tile contributes to `T` columns from `first` on; the first strip of a row sets them.
///
/// # Safety
/// As [`dot_rows`]; the columns exist; `masks` select the rows that exist.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_columns<const T: usize>(
    tile: &Tile,
    p: &Product,
    row: usize,
    masks: [__m256i; 2],
    span: &Range<usize>,
    first: usize,
) -> usize {
    // SAFETY: the tile holds the span of 16 rows, the columns have at least as many elements.
    unsafe {
        let cols: [Column; T] = std::array::from_fn(|t| p.cols.get(first + t));
        let mut total = [[_mm256_setzero_ps(); 2]; T];
        if span.start > 0 {
            for t in 0..T {
                for h in 0..2 {
                    total[t][h] = _mm256_maskload_ps(cols[t].dst.add(row + 8 * h), masks[h]);
                }
            }
        }
        let mut units = tile.units.as_ptr().cast::<f32>();
        for e in span.clone() {
            let w = [_mm256_load_ps(units), _mm256_load_ps(units.add(8))];
            units = units.add(ROWS);
            for t in 0..T {
                let x = _mm256_set1_ps(*cols[t].x.cast::<f32>().add(e));
                total[t][0] = _mm256_fmadd_ps(w[0], x, total[t][0]);
                total[t][1] = _mm256_fmadd_ps(w[1], x, total[t][1]);
            }
        }
        for t in 0..T {
            for h in 0..2 {
                _mm256_maskstore_ps(cols[t].dst.add(row + 8 * h), masks[h], total[t][h]);
            }
        }
    }
    T
}
