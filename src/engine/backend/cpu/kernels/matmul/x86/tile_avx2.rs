//! Tiles of 16 rows against many columns, with AVX2.
//!
//! As [`super::tile_avx512`], with rows in 8 lanes. Products are added in 16 bits as long as they
//! cannot overflow there, which depends on the largest code: 2 · 127 · 15 allows eight additions,
//! 31 four, 63 two. Larger codes go by magnitude with their sign on the activation, and are widened
//! at once.

use std::arch::x86_64::{
    __m256i, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_cvtepi32_ps,
    _mm256_fmadd_ps, _mm256_load_ps, _mm256_load_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_mul_ps,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_sign_epi8,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::{GROUP, RowLayout};
use super::super::columns::Column;
use super::fill::{STRIP_GROUPS, Tile};
use super::unpack::Weights;

/// Rows of a tile: two vectors.
const ROWS: usize = 16;
/// Columns that meet a tile at a time: with two vectors of rows they take 8 accumulators.
const COLUMNS: usize = 4;

/// A tile and where it belongs.
struct Place<'a> {
    tile: &'a Tile,
    /// First row of the result.
    row: usize,
    /// Which of the 16 rows exist, as lanes of -1.
    masks: [__m256i; 2],
    /// Groups of the row that the tile holds.
    groups: Range<usize>,
    layout: RowLayout,
}

/// Masks for the first `n` of 16 rows.
///
/// # Safety
/// The processor has AVX2; inlined where it is enabled.
#[inline(always)]
pub(super) unsafe fn row_masks(n: usize) -> [__m256i; 2] {
    let lanes: [i32; 16] = std::array::from_fn(|i| if i < n { -1 } else { 0 });
    // SAFETY: both halves of the array are readable.
    unsafe {
        [
            _mm256_loadu_si256(lanes.as_ptr().cast()),
            _mm256_loadu_si256(lanes.as_ptr().add(8).cast()),
        ]
    }
}

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<W: Weights>(p: &Product, rows: Range<usize>) {
    let mut tile = Tile::new();
    let layout = RowLayout::new(p.k);
    let groups = p.k.div_ceil(GROUP);
    for row in rows.clone().step_by(ROWS) {
        let here = row..(row + ROWS).min(rows.end);
        // SAFETY: the processor has AVX2.
        let masks = unsafe { row_masks(here.len()) };
        for first in (0..groups).step_by(STRIP_GROUPS) {
            let groups = first..(first + STRIP_GROUPS).min(groups);
            // SAFETY: rows and groups exist.
            unsafe { tile.fill::<W, ROWS, true>(p, &here, &groups) };
            let place = Place { tile: &tile, row, masks, groups, layout };
            let mut c = 0;
            while c < p.cols.count {
                // SAFETY: the columns are below the count.
                c += unsafe {
                    match p.cols.count - c {
                        1 => columns::<W, 1>(&place, p, c),
                        2 => columns::<W, 2>(&place, p, c),
                        3 => columns::<W, 3>(&place, p, c),
                        _ => columns::<W, COLUMNS>(&place, p, c),
                    }
                };
            }
        }
    }
}

/// Adds what a tile contributes to `T` columns from `first` on; the first strip of a row sets them.
///
/// # Safety
/// As [`rows`]; the columns exist.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn columns<W: Weights, const T: usize>(at: &Place, p: &Product, first: usize) -> usize {
    let per_sub = if W::BY_16 { 4 } else { 8 };
    let subs_per_group = if W::BY_16 { 16 } else { 8 };
    let (sub_start, subs) = (at.groups.start * subs_per_group, at.groups.len() * subs_per_group);
    // SAFETY: the tile holds `subs` sub-blocks of 16 rows; the activations of a column have as many
    // scales and sums; results are loaded and stored under the masks of existing rows.
    unsafe {
        let cols: [Column; T] = std::array::from_fn(|t| p.cols.get(first + t));
        let mut total = [[_mm256_setzero_ps(); 2]; T];
        if at.groups.start > 0 {
            for t in 0..T {
                for h in 0..2 {
                    let from = cols[t].dst.add(at.row + 8 * h);
                    total[t][h] = _mm256_maskload_ps(from, at.masks[h]);
                }
            }
        }
        let mut units = at.tile.units.as_ptr();
        for j in 0..subs {
            let sub = sub_start + j;
            let x = std::array::from_fn(|t| cols[t].x.add(sub * per_sub * 4));
            let sums = sums::<W, T>(units, x, per_sub);
            units = units.add(per_sub * ROWS);
            let block = if W::BY_16 { sub / 2 } else { sub };
            let sum_at = if W::BY_16 { at.layout.sum16 } else { at.layout.sum32 };
            for t in 0..T {
                let s = cols[t].x.add(at.layout.scale).cast::<f32>().add(block).read();
                let s = _mm256_set1_ps(s);
                for h in 0..2 {
                    let d = _mm256_load_ps(at.tile.d.as_ptr().add(j * ROWS + 8 * h));
                    let sum = correct::<W>(sums[t][h], cols[t].x, &at.layout, sub);
                    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), d);
                    total[t][h] = _mm256_fmadd_ps(scaled, s, total[t][h]);
                    if W::HAS_MIN {
                        let m = _mm256_load_ps(at.tile.m.as_ptr().add(j * ROWS + 8 * h));
                        let sum = cols[t].x.add(sum_at).cast::<f32>().add(sub).read();
                        total[t][h] = _mm256_fmadd_ps(m, _mm256_set1_ps(sum), total[t][h]);
                    }
                }
            }
        }
        for t in 0..T {
            for h in 0..2 {
                let to = cols[t].dst.add(at.row + 8 * h);
                _mm256_maskstore_ps(to, at.masks[h], total[t][h]);
            }
        }
    }
    T
}

/// Products of one sub-block, summed, for `T` columns of 16 rows.
///
/// # Safety
/// As [`columns`]; `units` starts the sub-block, `x` are its activations.
#[inline(always)]
unsafe fn sums<W: Weights, const T: usize>(
    units: *const u32,
    x: [*const u8; T],
    per_sub: usize,
) -> [[__m256i; 2]; T] {
    let steps = match W::MAX_CODE {
        ..=15 => per_sub,
        16..=31 => 4,
        32..=63 => 2,
        _ => 1,
    };
    // SAFETY: the sub-block has `per_sub` units of 16 rows, and as many units of activations.
    unsafe {
        let one = _mm256_set1_epi16(1);
        let mut wide = [[_mm256_setzero_si256(); 2]; T];
        for from in (0..per_sub).step_by(steps) {
            let mut pairs = [[_mm256_setzero_si256(); 2]; T];
            for s in from..from + steps {
                let w = [
                    _mm256_load_si256(units.add(s * ROWS).cast()),
                    _mm256_load_si256(units.add(s * ROWS + 8).cast()),
                ];
                for t in 0..T {
                    let q = _mm256_set1_epi32(x[t].add(4 * s).cast::<i32>().read());
                    for h in 0..2 {
                        let product = if W::MAX_CODE <= 63 {
                            _mm256_maddubs_epi16(w[h], q)
                        } else {
                            _mm256_maddubs_epi16(_mm256_abs_epi8(w[h]), _mm256_sign_epi8(q, w[h]))
                        };
                        pairs[t][h] = if s == from {
                            product
                        } else {
                            _mm256_add_epi16(pairs[t][h], product)
                        };
                    }
                }
            }
            for t in 0..T {
                for h in 0..2 {
                    let sum = _mm256_madd_epi16(pairs[t][h], one);
                    wide[t][h] = _mm256_add_epi32(wide[t][h], sum);
                }
            }
        }
        wide
    }
}

/// Takes `offset * Σq` of sub-block `sub` off.
///
/// # Safety
/// As [`columns`].
#[inline(always)]
unsafe fn correct<W: Weights>(
    sum: __m256i,
    x: *const u8,
    layout: &RowLayout,
    sub: usize,
) -> __m256i {
    if W::OFFSET == 0 || W::MAX_CODE > 63 {
        return sum;
    }
    let at = if W::BY_16 { layout.neg16 } else { layout.neg32 };
    // SAFETY: the row has a sum for each of its sub-blocks.
    unsafe {
        let neg = x.add(at).cast::<i32>().add(sub).read() * W::OFFSET;
        _mm256_add_epi32(sum, _mm256_set1_epi32(neg))
    }
}
