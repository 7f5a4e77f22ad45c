//! Tiles of unpacked weights: some rows by a strip of their length, laid out for kernels that keep
//! one row in each lane.
//!
//! A tile is filled once and meets all columns, so unpacking costs little per product. Four codes
//! of a row, or one float, make a unit of 4 bytes; units are transposed so that those of all rows
//! stand side by side.

use std::arch::x86_64::{
    __m256i, _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::GROUP;
use super::tail::{Row, Tail};
use super::unpack::Weights;
use super::unpack_float::Floats;

/// Most rows of a tile.
pub(super) const MAX_ROWS: usize = 32;
/// Groups of quantised weights in a strip: the tile of 32 rows then takes 16 KiB of the L1 cache.
pub(super) const STRIP_GROUPS: usize = 2;
/// Units of a strip, for quantised weights; floats use as many.
pub(super) const STRIP_UNITS: usize = STRIP_GROUPS * GROUP / 4;
/// Most scales that a row has in a strip.
const STRIP_SCALES: usize = STRIP_GROUPS * GROUP / 16;

/// Memory for one tile; a thread keeps it on its stack.
#[repr(C, align(64))]
pub(super) struct Tile {
    /// `(rows, units)`: unit `u` of row `r` is `units[u * rows + r]`.
    pub(super) units: [u32; MAX_ROWS * STRIP_UNITS],
    /// `(rows, sub-blocks)`: scales.
    pub(super) d: [f32; MAX_ROWS * STRIP_SCALES],
    /// `(rows, sub-blocks)`: addends; unused when the format has none.
    pub(super) m: [f32; MAX_ROWS * STRIP_SCALES],
    /// Rows before transposition: `(units, rows)`.
    linear: [u32; MAX_ROWS * STRIP_UNITS],
}

impl Tile {
    pub(super) fn new() -> Self {
        Self {
            units: [0; MAX_ROWS * STRIP_UNITS],
            d: [0.0; MAX_ROWS * STRIP_SCALES],
            m: [0.0; MAX_ROWS * STRIP_SCALES],
            linear: [0; MAX_ROWS * STRIP_UNITS],
        }
    }

    /// Unpacks groups `groups` of `rows`, at most `N`; rows that are missing become zeros. With
    /// `SIGNED`, codes above 63 become the signed bytes they stand for.
    ///
    /// # Safety
    /// The rows exist and are of type `W`; there are at most [`STRIP_GROUPS`] groups; the processor
    /// has AVX2 and F16C, and this is inlined where they are enabled.
    #[inline(always)]
    pub(super) unsafe fn fill<W: Weights, const N: usize, const SIGNED: bool>(
        &mut self,
        p: &Product,
        rows: &Range<usize>,
        groups: &Range<usize>,
    ) {
        let scales = if W::BY_16 { 16 } else { 8 };
        let units = groups.len() * GROUP / 4;
        let mut tail = Tail::uninit();
        // SAFETY: all indices stay inside the arrays because `rows.len() <= N <= MAX_ROWS` and the
        // groups fit a strip.
        unsafe {
            for r in 0..N {
                let line = self.linear.as_mut_ptr().add(r * STRIP_UNITS).cast::<__m256i>();
                if r >= rows.len() {
                    for i in 0..units / 8 {
                        _mm256_storeu_si256(line.add(i), _mm256_setzero_si256());
                    }
                    for j in 0..groups.len() * scales {
                        self.d[j * N + r] = 0.0;
                        self.m[j * N + r] = 0.0;
                    }
                    continue;
                }
                let row = Row::new::<W>(p, rows.start + r, &mut tail);
                for (i, g) in groups.clone().enumerate() {
                    let group = row.group::<W>(g);
                    let s = W::scales(group);
                    let (mut d, mut m) = ([0.0_f32; 16], [0.0_f32; 16]);
                    for h in 0..scales / 8 {
                        _mm256_storeu_ps(d.as_mut_ptr().add(8 * h), s.d[h]);
                        _mm256_storeu_ps(m.as_mut_ptr().add(8 * h), s.m[h]);
                    }
                    for j in 0..scales {
                        *self.d.get_unchecked_mut((i * scales + j) * N + r) = d[j];
                        if W::HAS_MIN {
                            *self.m.get_unchecked_mut((i * scales + j) * N + r) = m[j];
                        }
                    }
                    for c in 0..8 {
                        let mut codes = W::codes(group, c);
                        if SIGNED && W::MAX_CODE > 63 {
                            codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
                        }
                        _mm256_storeu_si256(line.add(i * 8 + c), codes);
                    }
                }
            }
            self.transpose::<N>(units);
        }
    }

    /// Converts elements `span` of `rows`, at most `N`; missing rows and elements become zeros.
    ///
    /// # Safety
    /// As [`Tile::fill`]; the span has at most [`STRIP_UNITS`] elements.
    #[inline(always)]
    pub(super) unsafe fn fill_floats<W: Floats, const N: usize>(
        &mut self,
        p: &Product,
        rows: &Range<usize>,
        span: &Range<usize>,
    ) {
        // SAFETY: as in `fill`; elements are read up to the end of the span only.
        unsafe {
            for r in 0..N {
                let line = self.linear.as_mut_ptr().add(r * STRIP_UNITS).cast::<f32>();
                let mut done = 0;
                if r < rows.len() {
                    let start = p.w.add((rows.start + r) * p.w_stride + span.start * W::BYTES);
                    while done + 8 <= span.len() {
                        _mm256_storeu_ps(line.add(done), W::load8(start.add(done * W::BYTES)));
                        done += 8;
                    }
                    while done < span.len() {
                        *line.add(done) = W::load1(start.add(done * W::BYTES));
                        done += 1;
                    }
                }
                while done < span.len().next_multiple_of(8) {
                    *line.add(done) = 0.0;
                    done += 1;
                }
            }
            self.transpose::<N>(span.len().next_multiple_of(8));
        }
    }

    /// `linear (units, N)` to `units (N, units)`, in squares of 8 by 8.
    ///
    /// # Safety
    /// `N` and `units` are multiples of 8; the processor has AVX2.
    #[inline(always)]
    unsafe fn transpose<const N: usize>(&mut self, units: usize) {
        for r in (0..N).step_by(8) {
            for u in (0..units).step_by(8) {
                // SAFETY: 8 rows of 8 units lie inside both arrays.
                unsafe {
                    let from = self.linear.as_ptr().add(r * STRIP_UNITS + u);
                    let to = self.units.as_mut_ptr().add(u * N + r);
                    let mut rows = [_mm256_setzero_si256(); 8];
                    for i in 0..8 {
                        rows[i] = _mm256_loadu_si256(from.add(i * STRIP_UNITS).cast());
                    }
                    let columns = transpose_8x8(rows);
                    for i in 0..8 {
                        _mm256_storeu_si256(to.add(i * N).cast(), columns[i]);
                    }
                }
            }
        }
    }
}

/// Rows to columns. No closures here: one that is not inlined would not be compiled for AVX2.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn transpose_8x8(v: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: passed on.
    unsafe {
        let (low, high) =
            (columns_of_4(v[0], v[1], v[2], v[3]), columns_of_4(v[4], v[5], v[6], v[7]));
        let mut out = [_mm256_setzero_si256(); 8];
        for i in 0..4 {
            out[i] = _mm256_permute2x128_si256::<0x20>(low[i], high[i]);
            out[i + 4] = _mm256_permute2x128_si256::<0x31>(low[i], high[i]);
        }
        out
    }
}

/// Columns `i` and `i + 4` of four rows, in the halves of vector `i`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn columns_of_4(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> [__m256i; 4] {
    // SAFETY: passed on.
    unsafe {
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}
