//! Row dot products with AVX-512 and VNNI, for few columns.
//!
//! 64 codes meet 64 activations in one instruction; the sums of four products stay in lanes, are
//! scaled as `f32` and added up across the row, so that lanes are summed once per row.

use std::arch::x86_64::{
    __m256, __m512, __m512i, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps,
    _mm512_castps256_ps512, _mm512_castps512_ps256, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_insertf32x8, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps,
    _mm512_permutexvar_ps, _mm512_reduce_add_ps, _mm512_setr_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_zextps256_ps512,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::{GROUP, RowLayout};
use super::super::columns::Column;
use super::tail::{Row, Tail, fetch, fetches_ahead};
use super::unpack::{Scales, Weights, split_blocks};

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn rows<W: Weights>(p: &Product, rows: Range<usize>) {
    let mut c = 0;
    while c < p.cols.count {
        // SAFETY: passed on; the columns are below the count.
        c += unsafe {
            match p.cols.count - c {
                1 => columns::<W, 4, 1>(p, rows.clone(), c),
                2 => columns::<W, 2, 2>(p, rows.clone(), c),
                3 => columns::<W, 2, 3>(p, rows.clone(), c),
                _ => columns::<W, 2, 4>(p, rows.clone(), c),
            }
        };
    }
}

/// # Safety
/// As [`rows`]; `T` columns start at `first`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn columns<W: Weights, const R: usize, const T: usize>(
    p: &Product,
    rows: Range<usize>,
    first: usize,
) -> usize {
    // SAFETY: passed on; rows and columns exist.
    unsafe {
        let cols: [Column; T] = std::array::from_fn(|t| p.cols.get(first + t));
        let apart = rows.len() / R;
        for r in rows.start..rows.start + apart {
            block::<W, R, T>(p, r, apart, &cols);
        }
        for r in rows.start + R * apart..rows.end {
            block::<W, 1, T>(p, r, 0, &cols);
        }
    }
    T
}

/// # Safety
/// As [`rows`]; the processor has what `rows` enables, and this is inlined there.
#[inline(always)]
unsafe fn block<W: Weights, const R: usize, const T: usize>(
    p: &Product,
    row: usize,
    apart: usize,
    cols: &[Column; T],
) {
    let layout = RowLayout::new(p.k);
    let ahead = fetches_ahead();
    // SAFETY: rows and columns exist, groups cover the padded row.
    unsafe {
        let mut tails = [Tail::uninit(); R];
        let mut rows = [Row::NONE; R];
        for r in 0..R {
            rows[r] = Row::new::<W>(p, row + r * apart, &mut tails[r]);
        }
        let mut acc = [[_mm512_setzero_ps(); T]; R];
        // What minima add, or what offsets have added too much.
        let mut rest = [[_mm512_setzero_ps(); T]; R];
        for g in 0..p.k.div_ceil(GROUP) {
            for r in 0..R {
                let group = rows[r].group::<W>(g);
                if ahead {
                    fetch(group.wrapping_add(p.w_stride), W::GROUP_BYTES);
                }
                let scales = W::scales(group);
                let mut factors = [_mm512_setzero_ps(); T];
                for t in 0..T {
                    let x = cols[t].x;
                    factors[t] = group_scales::<W>(&scales, x, &layout, g, &mut rest[r][t]);
                }
                if W::HALVES {
                    by_halves::<W, T>(group, cols, g, &factors, &mut acc[r]);
                } else {
                    by_blocks::<W, T>(group, cols, g, &factors, &mut acc[r]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                let rest = _mm512_reduce_add_ps(rest[r][t]);
                let rest = if W::HAS_MIN { rest } else { -(W::OFFSET as f32) * rest };
                *cols[t].dst.add(row + r * apart) = _mm512_reduce_add_ps(acc[r][t]) + rest;
            }
        }
    }
}

/// Adds a group's products, two blocks at a time.
///
/// # Safety
/// As [`block`]; the group is `g` of its row.
#[inline(always)]
unsafe fn by_blocks<W: Weights, const T: usize>(
    group: *const u8,
    cols: &[Column; T],
    g: usize,
    factors: &[__m512; T],
    acc: &mut [__m512; T],
) {
    // SAFETY: passed on.
    unsafe {
        for c in 0..4 {
            let codes = W::codes512(group, c);
            for t in 0..T {
                let q = _mm512_loadu_si512(cols[t].x.add(g * GROUP + c * 64).cast());
                let sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, q);
                let factor = _mm512_permutexvar_ps(lanes::<W>(c), factors[t]);
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), factor, acc[t]);
            }
        }
    }
}

/// Adds a group's products, four blocks at a time: both halves of a block have the same scale, so
/// that their products are added before they are scaled.
///
/// # Safety
/// As [`by_blocks`].
#[inline(always)]
unsafe fn by_halves<W: Weights, const T: usize>(
    group: *const u8,
    cols: &[Column; T],
    g: usize,
    factors: &[__m512; T],
    acc: &mut [__m512; T],
) {
    // SAFETY: passed on.
    unsafe {
        for c in 0..2 {
            let codes = W::halves512(group, c);
            for t in 0..T {
                let x = cols[t].x.add(g * GROUP + c * 128);
                let q = split_blocks(
                    _mm512_loadu_si512(x.cast()),
                    _mm512_loadu_si512(x.add(64).cast()),
                );
                let sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[0], q[0]);
                let sums = _mm512_dpbusd_epi32(sums, codes[1], q[1]);
                let factor = _mm512_permutexvar_ps(quarters(c), factors[t]);
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), factor, acc[t]);
            }
        }
    }
}

/// Scales of weights times scales of activations, in the lanes that [`lanes`] expects; adds what
/// belongs to `rest`.
///
/// # Safety
/// As [`block`]; `x` is a quantised row and `g` one of its groups.
#[inline(always)]
unsafe fn group_scales<W: Weights>(
    s: &Scales,
    x: *const u8,
    layout: &RowLayout,
    g: usize,
    rest: &mut __m512,
) -> __m512 {
    // SAFETY: a group has 8 scales, 8 sums of 32 and 16 sums of 16.
    unsafe {
        let xs = _mm256_loadu_ps(x.add(layout.scale).cast::<f32>().add(g * 8));
        if W::BY_16 {
            let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            let xs = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(xs));
            let sums = _mm512_loadu_ps(x.add(layout.sum16).cast::<f32>().add(g * 16));
            let d = both(s.d);
            *rest = _mm512_fmadd_ps(if W::HAS_MIN { both(s.m) } else { d }, sums, *rest);
            _mm512_mul_ps(d, xs)
        } else {
            let sums = _mm256_loadu_ps(x.add(layout.sum32).cast::<f32>().add(g * 8));
            let m = if W::HAS_MIN { s.m[0] } else { s.d[0] };
            let low = _mm512_castps512_ps256(*rest);
            let low = _mm256_fmadd_ps(m, sums, low);
            *rest = _mm512_zextps256_ps512(low);
            _mm512_castps256_ps512(_mm256_mul_ps(s.d[0], xs))
        }
    }
}

/// Two halves of 8 floats, in order.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn both(v: [__m256; 2]) -> __m512 {
    // SAFETY: the processor has AVX-512DQ.
    unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(v[0]), v[1]) }
}

/// One of the scales `4 c .. 4 c + 4` for each quarter of the lanes.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn quarters(c: usize) -> __m512i {
    let i = 4 * c as i32;
    let (a, b, c, d) = (i, i + 1, i + 2, i + 3);
    // SAFETY: the processor has AVX-512F.
    unsafe { _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d) }
}

/// Which of a group's scales each lane of chunk `c` takes: a lane stands for 4 elements.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn lanes<W: Weights>(c: usize) -> __m512i {
    let i = c as i32;
    // SAFETY: the processor has AVX-512F.
    unsafe {
        if W::BY_16 {
            quarters(c)
        } else {
            let (a, b) = (2 * i, 2 * i + 1);
            _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b)
        }
    }
}
