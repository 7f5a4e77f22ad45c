//! Products with plain weights in `f32`, with AVX2: row dot products and tiles.

use std::arch::x86_64::{
    _mm256_fmadd_ps, _mm256_load_ps, _mm256_loadu_ps, _mm256_maskstore_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_store_ps,
};
use std::marker::PhantomData;
use std::ops::Range;

use super::super::Product;
use super::super::columns::Column;
use super::dot_avx2::reduce;
use super::fill::{Shape, Tile};
use super::panel::{self, Packing};
use super::tail::{fetch, fetches_ahead};
use super::tile_avx2::row_masks;
use super::tiles::{self, Block, Place, TileKernel};
use super::unpack_float::Floats;

/// Rows of a tile: two vectors.
const ROWS: usize = 16;
/// Columns that meet a tile at a time: 12 sums, and registers left for operands.
const COLUMNS: usize = 6;

/// 16 rows as they are.
struct Rows16;

impl Shape for Rows16 {
    const ROWS: usize = ROWS;
    const LANES: usize = 8;
}

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot_rows<W: Floats>(p: &Product, rows: Range<usize>) {
    let mut c = 0;
    while c < p.cols.count {
        // SAFETY: passed on; the columns are below the count.
        c += unsafe {
            match p.cols.count - c {
                1 => dot_columns::<W, 4, 1>(p, rows.clone(), c),
                2 => dot_columns::<W, 2, 2>(p, rows.clone(), c),
                3 => dot_columns::<W, 1, 3>(p, rows.clone(), c),
                _ => dot_columns::<W, 1, 4>(p, rows.clone(), c),
            }
        };
    }
}

/// # Safety
/// As [`dot_rows`]; `T` columns start at `first`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_columns<W: Floats, const R: usize, const T: usize>(
    p: &Product,
    rows: Range<usize>,
    first: usize,
) -> usize {
    // Far apart, so that memory is read in several streams: one does not fill the bus.
    let apart = rows.len() / R;
    // SAFETY: rows and columns exist and have `k` elements.
    unsafe {
        let cols: [Column; T] = std::array::from_fn(|t| p.cols.get(first + t));
        for row in rows.start..rows.start + apart {
            dot_block::<W, R, T>(p, row, apart, &cols);
        }
        for row in rows.start + R * apart..rows.end {
            dot_block::<W, 1, T>(p, row, 0, &cols);
        }
    }
    T
}

/// `R` rows from `row` on, `apart` rows apart.
///
/// # Safety
/// As [`dot_rows`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_block<W: Floats, const R: usize, const T: usize>(
    p: &Product,
    row: usize,
    apart: usize,
    cols: &[Column; T],
) {
    /// Chains per row and column, to hide the latency of additions.
    const CHAINS: usize = 2;
    const STEP: usize = 8 * CHAINS;
    let ahead = fetches_ahead();
    // SAFETY: rows and columns exist and have `k` elements.
    unsafe {
        let start = |r: usize| p.w.add((row + r * apart) * p.w_stride);
        let mut acc = [[[_mm256_setzero_ps(); CHAINS]; T]; R];
        let mut i = 0;
        while i + STEP <= p.k {
            for r in 0..R {
                let w = start(r).add(i * W::BYTES);
                if ahead {
                    fetch(w.wrapping_add(p.w_stride), STEP * W::BYTES);
                }
                for c in 0..CHAINS {
                    let w = W::load8(w.add(8 * c * W::BYTES));
                    for t in 0..T {
                        let x = _mm256_loadu_ps(cols[t].x.cast::<f32>().add(i + 8 * c));
                        acc[r][t][c] = _mm256_fmadd_ps(w, x, acc[r][t][c]);
                    }
                }
            }
            i += STEP;
        }
        for r in 0..R {
            let w = start(r);
            for t in 0..T {
                let x = cols[t].x.cast::<f32>();
                let mut sum = 0.0;
                for c in 0..CHAINS {
                    sum += reduce(acc[r][t][c]);
                }
                for e in i..p.k {
                    sum += W::load1(w.add(e * W::BYTES)) * *x.add(e);
                }
                *cols[t].dst.add(row + r * apart) = sum;
            }
        }
    }
}

/// # Safety
/// As [`dot_rows`], with at most [`super::super::MOST_ROWS`] rows.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile_rows<W: Floats>(p: &Product, rows: Range<usize>) {
    // SAFETY: passed on.
    unsafe { tiles::run::<Plain<W>>(p, rows) }
}

/// How activations are interleaved for weights `W`.
pub(super) fn packing<W: Floats>() -> Packing {
    Plain::<W>::PACKING
}

/// Interleaves part `index` of `parts` of all columns.
///
/// # Safety
/// As [`tiles::pack`]; the weights are of type `W`; the processor has what [`tile_rows`] enables.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack_part<W: Floats>(p: &Product, index: usize, parts: usize, to: *mut u32) {
    // SAFETY: passed on.
    unsafe { tiles::pack::<Plain<W>>(p, index, parts, to) }
}

struct Plain<W>(PhantomData<W>);

impl<W: Floats> TileKernel for Plain<W> {
    const ROWS: usize = ROWS;
    const STRIP: usize = Rows16::STRIP_FLOATS;
    const PACKING: Packing = Packing::Floats;

    #[inline(always)]
    fn length(p: &Product) -> usize {
        p.k
    }

    #[inline(always)]
    fn width(_left: usize) -> usize {
        COLUMNS
    }

    #[inline(always)]
    unsafe fn pack(p: &Product, block: Block, strip: &Range<usize>, to: *mut u32) -> usize {
        // SAFETY: passed on.
        unsafe { panel::pack_floats::<COLUMNS>(&p.cols.block(block.first), strip, to) }
    }

    #[inline(always)]
    unsafe fn fill(tile: &mut Tile, p: &Product, rows: &Range<usize>, strip: &Range<usize>) {
        // SAFETY: passed on.
        unsafe { tile.fill_floats::<W, Rows16>(p, rows, strip) }
    }

    #[inline(always)]
    unsafe fn multiply(
        at: &Place,
        p: &Product,
        block: Block,
        x: *const u32,
        sums: *mut f32,
    ) -> usize {
        // SAFETY: passed on.
        unsafe { multiply(at, p, block, x, sums) }
    }
}

/// See [`TileKernel::multiply`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply(at: &Place, p: &Product, block: Block, x: *const u32, sums: *mut f32) -> usize {
    // SAFETY: tile and panel hold the strip; what is loaded as a vector is aligned to 32 bytes;
    // results are stored under the masks of existing rows.
    unsafe {
        let mut total = [[_mm256_setzero_ps(); 2]; COLUMNS];
        if !at.first {
            for t in 0..COLUMNS {
                for v in 0..2 {
                    total[t][v] = _mm256_load_ps(sums.add(t * ROWS + 8 * v));
                }
            }
        }
        let mut units = at.tile.units.as_ptr().cast::<f32>();
        for e in 0..at.strip.len() {
            let w = [_mm256_load_ps(units), _mm256_load_ps(units.add(8))];
            units = units.add(ROWS);
            let x = x.add(e * COLUMNS).cast::<f32>();
            for t in 0..COLUMNS {
                let x = _mm256_set1_ps(*x.add(t));
                total[t][0] = _mm256_fmadd_ps(w[0], x, total[t][0]);
                total[t][1] = _mm256_fmadd_ps(w[1], x, total[t][1]);
            }
        }
        let masks = row_masks(at.rows);
        for t in 0..COLUMNS {
            for v in 0..2 {
                if !at.last {
                    _mm256_store_ps(sums.add(t * ROWS + 8 * v), total[t][v]);
                } else if t < block.count {
                    let dst = p.cols.get(block.first + t).dst.add(at.row + 8 * v);
                    _mm256_maskstore_ps(dst, masks[v], total[t][v]);
                }
            }
        }
    }
    at.strip.len() * COLUMNS
}
