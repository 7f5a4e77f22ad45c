//! Tiles of 8 rows against many columns, for quantised weights.
//!
//! Each lane belongs to a row, and the dot product instruction takes the activations by lane: four
//! of a column meet four codes of each row. A vector of activations thus serves four units of
//! weights, and no sum ever crosses lanes.

use std::arch::aarch64::{
    float32x4_t, int32x4_t, vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s32, vfmaq_n_f32, vld1q_f32,
    vld1q_s8, vld1q_u32, vmulq_f32, vreinterpretq_s8_u32, vst1q_f32,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::{GROUP, RowLayout};
use super::fill::{ROWS, STRIP_GROUPS, Tile, read_results, write_results};
use super::sdot::sdot_lane;
use super::unpack::Weights;

/// Columns that meet a tile at a time: with two vectors of rows they take 8 accumulators of whole
/// numbers and 8 of floats.
const COLUMNS: usize = 4;

/// A tile and where it belongs.
struct Place<'a> {
    tile: &'a Tile,
    /// Rows of the result that exist.
    rows: Range<usize>,
    /// Groups of the row that the tile holds.
    groups: Range<usize>,
    layout: RowLayout,
}

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has NEON with dot products.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn rows<W: Weights>(p: &Product, rows: Range<usize>) {
    let mut tile = Tile::new();
    let layout = RowLayout::new(p.k);
    let groups = p.k.div_ceil(GROUP);
    for row in rows.clone().step_by(ROWS) {
        let here = row..(row + ROWS).min(rows.end);
        for first in (0..groups).step_by(STRIP_GROUPS) {
            let groups = first..(first + STRIP_GROUPS).min(groups);
            // SAFETY: rows and groups exist.
            unsafe { tile.fill::<W>(p, &here, &groups) };
            let place = Place { tile: &tile, rows: here.clone(), groups, layout };
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
#[target_feature(enable = "neon,dotprod")]
unsafe fn columns<W: Weights, const T: usize>(at: &Place, p: &Product, first: usize) -> usize {
    let per_sub = if W::BY_16 { 4 } else { 8 };
    let subs_per_group = if W::BY_16 { 16 } else { 8 };
    let (sub_start, subs) = (at.groups.start * subs_per_group, at.groups.len() * subs_per_group);
    let sum_at = if W::BY_16 { at.layout.sum16 } else { at.layout.sum32 };
    // SAFETY: the tile holds `subs` sub-blocks of 8 rows; the activations of a column have as many
    // scales and sums; results are read and written for existing rows only.
    unsafe {
        let cols = p.cols.block::<T>(first);
        let mut total = [[vdupq_n_f32(0.0); 2]; T];
        if at.groups.start > 0 {
            for t in 0..T {
                let before = read_results(cols[t].dst.add(at.rows.start), at.rows.len());
                total[t] = [vld1q_f32(before.as_ptr()), vld1q_f32(before.as_ptr().add(4))];
            }
        }
        let mut units = at.tile.units.as_ptr();
        for j in 0..subs {
            let sub = sub_start + j;
            let x: [*const u8; T] = std::array::from_fn(|t| cols[t].x.add(sub * per_sub * 4));
            let sums = sums::<T>(units, &x, per_sub);
            units = units.add(per_sub * ROWS);
            let block = if W::BY_16 { sub / 2 } else { sub };
            let d = eight(&at.tile.d, j);
            let m = eight(&at.tile.m, j);
            for t in 0..T {
                let s = cols[t].x.add(at.layout.scale).cast::<f32>().add(block).read();
                for h in 0..2 {
                    let scaled = vmulq_f32(vcvtq_f32_s32(sums[t][h]), d[h]);
                    total[t][h] = vfmaq_n_f32(total[t][h], scaled, s);
                }
                if W::HAS_MIN {
                    let sum = cols[t].x.add(sum_at).cast::<f32>().add(sub).read();
                    for h in 0..2 {
                        total[t][h] = vfmaq_n_f32(total[t][h], m[h], sum);
                    }
                }
            }
        }
        for t in 0..T {
            let mut after = [0.0; ROWS];
            vst1q_f32(after.as_mut_ptr(), total[t][0]);
            vst1q_f32(after.as_mut_ptr().add(4), total[t][1]);
            write_results(cols[t].dst.add(at.rows.start), at.rows.len(), &after);
        }
    }
    T
}

/// Values of sub-block `j` for the 8 rows.
///
/// # Safety
/// The sub-block is in the tile; the processor has NEON.
#[inline(always)]
unsafe fn eight(values: &[f32], j: usize) -> [float32x4_t; 2] {
    let here = values[j * ROWS..][..ROWS].as_ptr();
    // SAFETY: the slice has 8 floats.
    unsafe { [vld1q_f32(here), vld1q_f32(here.add(4))] }
}

/// Products of one sub-block, summed, for `T` columns of 8 rows.
///
/// # Safety
/// As [`columns`]; `units` starts the sub-block, which has `per_sub` units, a multiple of 4; `x` are
/// its activations.
#[inline(always)]
unsafe fn sums<const T: usize>(
    units: *const u32,
    x: &[*const u8; T],
    per_sub: usize,
) -> [[int32x4_t; 2]; T] {
    // SAFETY: the sub-block has `per_sub` units of 8 rows, and as many units of activations.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); 2]; T];
        for from in (0..per_sub).step_by(4) {
            let mut q = [vreinterpretq_s8_u32(vld1q_u32(units)); T];
            for t in 0..T {
                q[t] = vld1q_s8(x[t].add(4 * from).cast());
            }
            let line = units.add(from * ROWS);
            acc = unit::<T, 0>(acc, line, &q);
            acc = unit::<T, 1>(acc, line, &q);
            acc = unit::<T, 2>(acc, line, &q);
            acc = unit::<T, 3>(acc, line, &q);
        }
        acc
    }
}

/// Adds the products of unit `LANE` after `units` with lane `LANE` of each column.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn unit<const T: usize, const LANE: u8>(
    mut acc: [[int32x4_t; 2]; T],
    units: *const u32,
    q: &[std::arch::aarch64::int8x16_t; T],
) -> [[int32x4_t; 2]; T] {
    // SAFETY: passed on.
    unsafe {
        let here = units.add(LANE as usize * ROWS);
        let w =
            [vreinterpretq_s8_u32(vld1q_u32(here)), vreinterpretq_s8_u32(vld1q_u32(here.add(4)))];
        for t in 0..T {
            acc[t][0] = sdot_lane::<LANE>(acc[t][0], w[0], q[t]);
            acc[t][1] = sdot_lane::<LANE>(acc[t][1], w[1], q[t]);
        }
        acc
    }
}
