//! Tiles of 32 rows against many columns, with AVX-512 and VNNI.
//!
//! Rows stand in lanes: one instruction multiplies four codes of 16 rows with four activations of a
//! column and adds them up, so that no lanes are ever summed. Offsets of codes cost nothing: the
//! sums start at `-offset * Σq` instead of 0.

use std::arch::x86_64::{
    __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps,
    _mm512_mullo_epi32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_slli_epi32,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::{GROUP, RowLayout};
use super::super::columns::Column;
use super::fill::{STRIP_GROUPS, Tile};
use super::unpack::Weights;

/// Rows of a tile: two vectors.
const ROWS: usize = 32;
/// Columns that meet a tile at a time: with two vectors of rows they take 24 accumulators.
const COLUMNS: usize = 6;

/// A tile and where it belongs.
struct Place<'a> {
    tile: &'a Tile,
    /// First row of the result.
    row: usize,
    /// Which of the 32 rows exist, as one mask per vector.
    masks: [u16; 2],
    /// Groups of the row that the tile holds.
    groups: Range<usize>,
    layout: RowLayout,
}

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn rows<W: Weights>(p: &Product, rows: Range<usize>) {
    let mut tile = Tile::new();
    let layout = RowLayout::new(p.k);
    let groups = p.k.div_ceil(GROUP);
    for row in rows.clone().step_by(ROWS) {
        let here = row..(row + ROWS).min(rows.end);
        let mask = u32::MAX >> (ROWS - here.len());
        let masks = [mask as u16, (mask >> 16) as u16];
        for first in (0..groups).step_by(STRIP_GROUPS) {
            let groups = first..(first + STRIP_GROUPS).min(groups);
            // SAFETY: rows and groups exist.
            unsafe { tile.fill::<W, ROWS, false>(p, &here, &groups) };
            let place = Place { tile: &tile, row, masks, groups, layout };
            let mut c = 0;
            while c < p.cols.count {
                // SAFETY: the columns are below the count.
                c += unsafe {
                    match p.cols.count - c {
                        1 => columns::<W, 1>(&place, p, c),
                        2 => columns::<W, 2>(&place, p, c),
                        3 => columns::<W, 3>(&place, p, c),
                        4 => columns::<W, 4>(&place, p, c),
                        5 => columns::<W, 5>(&place, p, c),
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn columns<W: Weights, const T: usize>(at: &Place, p: &Product, first: usize) -> usize {
    let per_sub = if W::BY_16 { 4 } else { 8 };
    let subs_per_group = if W::BY_16 { 16 } else { 8 };
    let (sub_start, subs) = (at.groups.start * subs_per_group, at.groups.len() * subs_per_group);
    // SAFETY: the tile holds `subs` sub-blocks of 32 rows; the activations of a column have as many
    // scales and sums; results are loaded and stored under the masks of existing rows.
    unsafe {
        let cols: [Column; T] = std::array::from_fn(|t| p.cols.get(first + t));
        let mut total = [[_mm512_setzero_ps(); 2]; T];
        if at.groups.start > 0 {
            for t in 0..T {
                for h in 0..2 {
                    let from = cols[t].dst.add(at.row + 16 * h);
                    total[t][h] = _mm512_maskz_loadu_ps(at.masks[h], from);
                }
            }
        }
        let mut units = at.tile.units.as_ptr();
        for j in 0..subs {
            let sub = sub_start + j;
            let q = sub * per_sub * 4;
            let mut sums = [[_mm512_setzero_si512(); 2]; T];
            for t in 0..T {
                sums[t] = [start::<W>(cols[t].x, &at.layout, sub); 2];
            }
            for s in 0..per_sub {
                let low = _mm512_loadu_si512(units.cast());
                let high = _mm512_loadu_si512(units.add(16).cast());
                units = units.add(ROWS);
                for t in 0..T {
                    let x = cols[t].x.add(q + 4 * s).cast::<i32>().read();
                    let x = _mm512_set1_epi32(x);
                    sums[t][0] = _mm512_dpbusd_epi32(sums[t][0], low, x);
                    sums[t][1] = _mm512_dpbusd_epi32(sums[t][1], high, x);
                }
            }
            let block = if W::BY_16 { sub / 2 } else { sub };
            let sum_at = if W::BY_16 { at.layout.sum16 } else { at.layout.sum32 };
            for h in 0..2 {
                let d = _mm512_loadu_ps(at.tile.d.as_ptr().add(j * ROWS + 16 * h));
                for t in 0..T {
                    let s = cols[t].x.add(at.layout.scale).cast::<f32>().add(block).read();
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[t][h]), d);
                    total[t][h] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(s), total[t][h]);
                    if W::HAS_MIN {
                        let m = _mm512_loadu_ps(at.tile.m.as_ptr().add(j * ROWS + 16 * h));
                        let sum = cols[t].x.add(sum_at).cast::<f32>().add(sub).read();
                        total[t][h] = _mm512_fmadd_ps(m, _mm512_set1_ps(sum), total[t][h]);
                    }
                }
            }
        }
        for t in 0..T {
            for h in 0..2 {
                let to = cols[t].dst.add(at.row + 16 * h);
                _mm512_mask_storeu_ps(to, at.masks[h], total[t][h]);
            }
        }
    }
    T
}

/// `-offset * Σq` of sub-block `sub`, in all lanes.
///
/// # Safety
/// `x` is a quantised row that has the sub-block; inlined where AVX-512 is enabled.
#[inline(always)]
unsafe fn start<W: Weights>(x: *const u8, layout: &RowLayout, sub: usize) -> __m512i {
    // SAFETY: passed on.
    unsafe {
        if W::OFFSET == 0 {
            return _mm512_setzero_si512();
        }
        let at = if W::BY_16 { layout.neg16 } else { layout.neg32 };
        let sum = _mm512_set1_epi32(x.add(at).cast::<i32>().add(sub).read());
        match W::OFFSET {
            4 => _mm512_slli_epi32::<2>(sum),
            8 => _mm512_slli_epi32::<3>(sum),
            16 => _mm512_slli_epi32::<4>(sum),
            32 => _mm512_slli_epi32::<5>(sum),
            128 => _mm512_slli_epi32::<7>(sum),
            other => _mm512_mullo_epi32(sum, _mm512_set1_epi32(other)),
        }
    }
}
