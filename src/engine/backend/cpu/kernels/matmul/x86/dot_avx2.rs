//! Row dot products with AVX2, for few columns.
//!
//! `maddubs` adds two products in 16 bits, which codes up to 63 cannot overflow
//! (2 · 127 · 63 = 16002). Larger codes go by magnitude, with their sign moved to the activation:
//! at most 2 · 127 · 128 = 32512.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps,
    _mm256_abs_epi8, _mm256_castps256_ps128, _mm256_cvtepi32_ps, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_mul_ps, _mm256_permutevar8x32_ps, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_sign_epi8, _mm256_xor_si256,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::{GROUP, RowLayout};
use super::super::columns::Column;
use super::tail::{Row, Tail, fetch, fetches_ahead};
use super::unpack::{Scales, Weights};

/// # Safety
/// As [`Product`] states; the weights are of type `W`; the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<W: Weights>(p: &Product, rows: Range<usize>) {
    let mut c = 0;
    while c < p.cols.count {
        // SAFETY: passed on; the columns are below the count.
        c += unsafe {
            match p.cols.count - c {
                1 => columns::<W, 4, 1>(p, rows.clone(), c),
                2 => columns::<W, 1, 2>(p, rows.clone(), c),
                3 => columns::<W, 1, 3>(p, rows.clone(), c),
                _ => columns::<W, 1, 4>(p, rows.clone(), c),
            }
        };
    }
}

/// # Safety
/// As [`rows`]; `T` columns start at `first`.
#[target_feature(enable = "avx2,fma,f16c")]
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
        let mut acc = [[_mm256_setzero_ps(); T]; R];
        // What minima add, or what offsets have added too much.
        let mut rest = [[_mm256_setzero_ps(); T]; R];
        for g in 0..p.k.div_ceil(GROUP) {
            for r in 0..R {
                let group = rows[r].group::<W>(g);
                if ahead {
                    fetch(group.wrapping_add(p.w_stride), W::GROUP_BYTES);
                }
                let scales = W::scales(group);
                let mut factors = [[_mm256_setzero_ps(); 2]; T];
                for t in 0..T {
                    let x = cols[t].x;
                    factors[t] = group_scales::<W>(&scales, x, &layout, g, &mut rest[r][t]);
                }
                for c in 0..8 {
                    let codes = W::codes(group, c);
                    for t in 0..T {
                        let q = _mm256_loadu_si256(cols[t].x.add(g * GROUP + c * 32).cast());
                        let sums = _mm256_cvtepi32_ps(products::<W>(codes, q));
                        let factor = lanes::<W>(factors[t], c);
                        acc[r][t] = _mm256_fmadd_ps(sums, factor, acc[r][t]);
                    }
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                let mut sum = reduce(acc[r][t]);
                if W::HAS_MIN {
                    sum += reduce(rest[r][t]);
                } else if W::MAX_CODE <= 63 {
                    sum -= W::OFFSET as f32 * reduce(rest[r][t]);
                }
                *cols[t].dst.add(row + r * apart) = sum;
            }
        }
    }
}

/// Sums of four products in each lane. Codes above 63 are taken as the signed values they stand
/// for, so that no offset is left to subtract.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn products<W: Weights>(codes: __m256i, q: __m256i) -> __m256i {
    // SAFETY: the processor has AVX2.
    unsafe {
        let pairs = if W::MAX_CODE <= 63 {
            _mm256_maddubs_epi16(codes, q)
        } else {
            let signed = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
            _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(q, signed))
        };
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    }
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
    rest: &mut __m256,
) -> [__m256; 2] {
    let by = if W::HAS_MIN { s.m } else { s.d };
    // SAFETY: a group has 8 scales, 8 sums of 32 and 16 sums of 16.
    unsafe {
        let xs = _mm256_loadu_ps(x.add(layout.scale).cast::<f32>().add(g * 8));
        if W::BY_16 {
            let sums = x.add(layout.sum16).cast::<f32>().add(g * 16);
            *rest = _mm256_fmadd_ps(by[0], _mm256_loadu_ps(sums), *rest);
            *rest = _mm256_fmadd_ps(by[1], _mm256_loadu_ps(sums.add(8)), *rest);
            let low = _mm256_permutevar8x32_ps(xs, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
            let high = _mm256_permutevar8x32_ps(xs, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
            [_mm256_mul_ps(s.d[0], low), _mm256_mul_ps(s.d[1], high)]
        } else {
            if W::MAX_CODE <= 63 {
                let sums = x.add(layout.sum32).cast::<f32>().add(g * 8);
                *rest = _mm256_fmadd_ps(by[0], _mm256_loadu_ps(sums), *rest);
            }
            [_mm256_mul_ps(s.d[0], xs), xs]
        }
    }
}

/// The factors of chunk `c`, one per lane of four elements.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn lanes<W: Weights>(factors: [__m256; 2], c: usize) -> __m256 {
    // SAFETY: the processor has AVX2.
    unsafe {
        if W::BY_16 {
            let (a, b) = ((2 * c % 8) as i32, (2 * c % 8 + 1) as i32);
            let index = _mm256_setr_epi32(a, a, a, a, b, b, b, b);
            _mm256_permutevar8x32_ps(factors[c / 4], index)
        } else {
            _mm256_permutevar8x32_ps(factors[0], _mm256_set1_epi32(c as i32))
        }
    }
}

/// Sum of the lanes.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn reduce(v: __m256) -> f32 {
    // SAFETY: passed on.
    unsafe {
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
    }
}
