//! Row dot products, for few columns.
//!
//! Four sub-blocks are multiplied at a time; pairwise additions bring their four sums into one
//! vector, so that one conversion and one multiplication by four scales serve them all. What minima
//! add, or what offsets have added too much, follows from sums that come with the activations.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, vaddvq_f32, vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s32,
    vfmaq_f32, vld1q_f32, vld1q_s8, vmulq_f32, vpaddq_s32, vzip1q_f32, vzip2q_f32,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::{GROUP, RowLayout};
use super::super::columns::Column;
use super::sdot::sdot;
use super::tail::{Row, Tail};
use super::unpack::{Scales, Weights};

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has NEON with dot products.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn rows<W: Weights>(p: &Product, rows: Range<usize>) {
    let mut c = 0;
    while c < p.cols.count {
        // SAFETY: passed on; the columns are below the count.
        c += unsafe {
            match p.cols.count - c {
                1 => columns::<W, 2, 1>(p, rows.clone(), c),
                2 => columns::<W, 1, 2>(p, rows.clone(), c),
                3 => columns::<W, 1, 3>(p, rows.clone(), c),
                _ => columns::<W, 1, 4>(p, rows.clone(), c),
            }
        };
    }
}

/// # Safety
/// As [`rows`]; `T` columns start at `first`.
#[target_feature(enable = "neon,dotprod")]
unsafe fn columns<W: Weights, const R: usize, const T: usize>(
    p: &Product,
    rows: Range<usize>,
    first: usize,
) -> usize {
    // SAFETY: passed on; rows and columns exist.
    unsafe {
        let cols = p.cols.block::<T>(first);
        let mut r = rows.start;
        while r + R <= rows.end {
            block::<W, R, T>(p, r, &cols);
            r += R;
        }
        while r < rows.end {
            block::<W, 1, T>(p, r, &cols);
            r += 1;
        }
    }
    T
}

/// `R` rows from `row` with `T` columns.
///
/// # Safety
/// As [`rows`]; rows and columns exist, and this is inlined where the instructions are enabled.
#[inline(always)]
unsafe fn block<W: Weights, const R: usize, const T: usize>(
    p: &Product,
    row: usize,
    cols: &[Column; T],
) {
    let layout = RowLayout::new(p.k);
    let quads = if W::BY_16 { 4 } else { 2 };
    // SAFETY: rows and columns exist, groups cover the padded row.
    unsafe {
        let mut tails = [Tail::uninit(); R];
        let mut rows = [Row::NONE; R];
        for r in 0..R {
            rows[r] = Row::new::<W>(p, row + r, &mut tails[r]);
        }
        let mut acc = [[vdupq_n_f32(0.0); T]; R];
        let mut rest = [[vdupq_n_f32(0.0); T]; R];
        for g in 0..p.k.div_ceil(GROUP) {
            for r in 0..R {
                let group = rows[r].group::<W>(g);
                let scales = W::scales(group);
                let mut factors = [[vdupq_n_f32(0.0); 4]; T];
                for t in 0..T {
                    let x = cols[t].x;
                    factors[t] = group_scales::<W>(&scales, x, &layout, g, &mut rest[r][t]);
                }
                for quad in 0..quads {
                    let sums = four_sums::<W, T>(group, quad, g, cols);
                    for t in 0..T {
                        let sum = vcvtq_f32_s32(sums[t]);
                        acc[r][t] = vfmaq_f32(acc[r][t], sum, factors[t][quad]);
                    }
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                let mut sum = vaddvq_f32(acc[r][t]);
                if W::HAS_MIN {
                    sum += vaddvq_f32(rest[r][t]);
                } else if W::OFFSET != 0 {
                    sum -= f32::from(W::OFFSET) * vaddvq_f32(rest[r][t]);
                }
                *cols[t].dst.add(row + r) = sum;
            }
        }
    }
}

/// Sums of products of sub-blocks `4 quad .. 4 quad + 4`, one in each lane, for `T` columns.
///
/// # Safety
/// As [`block`]; `group` is group `g` of a row.
#[inline(always)]
unsafe fn four_sums<W: Weights, const T: usize>(
    group: *const u8,
    quad: usize,
    g: usize,
    cols: &[Column; T],
) -> [int32x4_t; T] {
    // SAFETY: the group has 8 chunks of 32 codes, which meet as many bytes of the activations.
    unsafe {
        let zero = vdupq_n_s32(0);
        let mut parts = [[zero; 4]; T];
        let chunks = if W::BY_16 { 2 } else { 4 };
        for i in 0..chunks {
            let c = quad * chunks + i;
            let codes = W::codes(group, c);
            for t in 0..T {
                let q = load_32(cols[t].x.add(g * GROUP + c * 32));
                if W::BY_16 {
                    parts[t][2 * i] = sdot(zero, codes[0], q[0]);
                    parts[t][2 * i + 1] = sdot(zero, codes[1], q[1]);
                } else {
                    parts[t][i] = sdot(sdot(zero, codes[0], q[0]), codes[1], q[1]);
                }
            }
        }
        let mut sums = [zero; T];
        for t in 0..T {
            let [a, b, c, d] = parts[t];
            sums[t] = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
        }
        sums
    }
}

/// 32 activations.
///
/// # Safety
/// As [`block`]; 32 bytes are readable.
#[inline(always)]
unsafe fn load_32(x: *const u8) -> [int8x16_t; 2] {
    // SAFETY: passed on.
    unsafe { [vld1q_s8(x.cast()), vld1q_s8(x.add(16).cast())] }
}

/// Scales of weights times scales of activations, in order; adds what belongs to `rest`.
///
/// # Safety
/// As [`block`]; `x` is a quantised row and `g` one of its groups.
#[inline(always)]
unsafe fn group_scales<W: Weights>(
    s: &Scales,
    x: *const u8,
    layout: &RowLayout,
    g: usize,
    rest: &mut float32x4_t,
) -> [float32x4_t; 4] {
    let by = if W::HAS_MIN { s.m } else { s.d };
    // SAFETY: a group has 8 scales, 8 sums of 32 and 16 sums of 16.
    unsafe {
        let scales = x.add(layout.scale).cast::<f32>().add(g * 8);
        let xs = [vld1q_f32(scales), vld1q_f32(scales.add(4))];
        let quads = if W::BY_16 { 4 } else { 2 };
        if W::HAS_MIN || W::OFFSET != 0 {
            let at = if W::BY_16 { layout.sum16 } else { layout.sum32 };
            let sums = x.add(at).cast::<f32>().add(g * 4 * quads);
            for quad in 0..quads {
                *rest = vfmaq_f32(*rest, by[quad], vld1q_f32(sums.add(4 * quad)));
            }
        }
        if W::BY_16 {
            // Two sub-blocks of weights share a block of activations.
            [
                vmulq_f32(s.d[0], vzip1q_f32(xs[0], xs[0])),
                vmulq_f32(s.d[1], vzip2q_f32(xs[0], xs[0])),
                vmulq_f32(s.d[2], vzip1q_f32(xs[1], xs[1])),
                vmulq_f32(s.d[3], vzip2q_f32(xs[1], xs[1])),
            ]
        } else {
            [vmulq_f32(s.d[0], xs[0]), vmulq_f32(s.d[1], xs[1]), s.d[2], s.d[3]]
        }
    }
}
