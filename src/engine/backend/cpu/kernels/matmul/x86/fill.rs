//! Tiles of unpacked weights: some rows by a strip of their length, laid out for kernels that keep
//! one row in each lane.
//!
//! A tile is filled once and meets all columns, so unpacking costs little per product. Four codes
//! of a row, or one float, make a unit of 4 bytes; units are transposed so that those of all rows
//! stand side by side.

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_loadu_si128, _mm256_and_si256, _mm256_castsi128_si256,
    _mm256_inserti128_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm512_castsi128_si512, _mm512_inserti32x4,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};
use std::ops::Range;

use super::super::Product;
use super::super::activations::GROUP;
use super::tail::{Row, Tail};
use super::unpack::Weights;
use super::unpack_float::Floats;

/// Units of a tile: 16 KiB, so that tile, activations and sums share the first-level cache.
const UNITS: usize = 4096;
/// Most groups in a strip of quantised weights.
pub(super) const STRIP_GROUPS: usize = 2;
/// Floats in a strip of plain weights.
pub(super) const STRIP_FLOATS: usize = 128;
/// Units of a group.
const GROUP_UNITS: usize = GROUP / 4;
/// Scales of a tile: 4 bytes of codes per unit, 16 codes per scale at least.
const SCALES: usize = UNITS / 4;
/// Rows that are transposed together.
const MOST_LANES: usize = 16;
/// Units of one row at most.
const ROW_UNITS: usize = 128;

/// How a kernel wants its tiles.
pub(super) trait Shape {
    /// Rows.
    const ROWS: usize;
    /// Rows in a vector: 8 or 16.
    const LANES: usize;
    /// Codes are split into their low and their high nibble, each with a plane of its own: unit `u`
    /// of all rows is followed by its high nibbles.
    const NIBBLES: bool = false;
    /// What the kernel takes off every code of a format with a minimum; the minimum makes up for it.
    const CENTRE: f32 = 0.0;
    /// Groups of quantised weights in a strip; the tile must have room for them.
    const STRIP_GROUPS: usize = 1;

    /// Vectors per row of the tile.
    const PLANES: usize = if Self::NIBBLES { 2 } else { 1 };
    /// Floats in a strip.
    const STRIP_FLOATS: usize = STRIP_FLOATS;
    /// A strip fits the tile.
    const FITS: () = assert!(
        Self::STRIP_GROUPS * Self::ROWS * Self::PLANES * GROUP_UNITS <= UNITS
            && Self::STRIP_GROUPS <= STRIP_GROUPS
            && STRIP_FLOATS * Self::ROWS <= UNITS
            && Self::ROWS % Self::LANES == 0
    );
}

/// Memory for one tile; a thread keeps it on its stack.
#[repr(C, align(64))]
pub(super) struct Tile {
    /// `(rows, planes, units)`.
    pub(super) units: [u32; UNITS],
    /// `(rows, sub-blocks)`: scales.
    pub(super) d: [f32; SCALES],
    /// `(rows, sub-blocks)`: addends; unused when the format has none.
    pub(super) m: [f32; SCALES],
    /// Rows before transposition: `(units, lanes)`, and the nibbles' second plane.
    linear: [[u32; MOST_LANES * ROW_UNITS]; 2],
    /// As `linear`, for scales and addends.
    linear_scales: [[f32; MOST_LANES * ROW_UNITS / 4]; 2],
}

impl Tile {
    pub(super) fn new() -> Self {
        Self {
            units: [0; UNITS],
            d: [0.0; SCALES],
            m: [0.0; SCALES],
            linear: [[0; MOST_LANES * ROW_UNITS]; 2],
            linear_scales: [[0.0; MOST_LANES * ROW_UNITS / 4]; 2],
        }
    }

    /// Unpacks groups `groups` of `rows`; rows that are missing become zeros.
    ///
    /// # Safety
    /// The rows, at most `S::ROWS`, exist and are of type `W`; there are at most `S::STRIP_GROUPS`
    /// groups; the processor has AVX2 and F16C, and AVX-512F for 16 lanes, and this is inlined where
    /// they are enabled.
    #[inline(always)]
    pub(super) unsafe fn fill<W: Weights, S: Shape>(
        &mut self,
        p: &Product,
        rows: &Range<usize>,
        groups: &Range<usize>,
    ) {
        const { S::FITS };
        let scales = groups.len() * if W::BY_16 { 16 } else { 8 };
        let units = groups.len() * GROUP_UNITS;
        // SAFETY: the shape's strip and lanes fit the arrays; transposition writes columns
        // `first..first + LANES` of `S::ROWS`.
        unsafe {
            for first in (0..S::ROWS).step_by(S::LANES) {
                for lane in 0..S::LANES {
                    self.unpack_row::<W, S>(p, rows, first + lane, lane, groups);
                }
                for plane in 0..S::PLANES {
                    let to = self.units.as_mut_ptr().add(plane * S::ROWS + first);
                    let from = self.linear[plane].as_ptr();
                    transpose::<S>(from, units, to, S::ROWS * S::PLANES, units);
                }
                let tables = [self.d.as_mut_ptr(), self.m.as_mut_ptr()];
                for (i, to) in tables.into_iter().enumerate().take(1 + usize::from(W::HAS_MIN)) {
                    let from = self.linear_scales[i].as_ptr().cast();
                    transpose::<S>(from, scales, to.add(first).cast(), S::ROWS, scales);
                }
            }
        }
    }

    /// Unpacks row `row` of the tile into lane `lane` of the linear arrays.
    ///
    /// # Safety
    /// As [`Tile::fill`].
    #[inline(always)]
    unsafe fn unpack_row<W: Weights, S: Shape>(
        &mut self,
        p: &Product,
        rows: &Range<usize>,
        row: usize,
        lane: usize,
        groups: &Range<usize>,
    ) {
        let per_group = if W::BY_16 { 16 } else { 8 };
        let (units, scales) = (groups.len() * GROUP_UNITS, groups.len() * per_group);
        let mut tail = Tail::uninit();
        // SAFETY: the lane has room for the strip; the row exists unless zeros are written.
        unsafe {
            let low = self.linear[0].as_mut_ptr().add(lane * units).cast::<__m256i>();
            let high = self.linear[1].as_mut_ptr().add(lane * units).cast::<__m256i>();
            let d = self.linear_scales[0].as_mut_ptr().add(lane * scales);
            let m = self.linear_scales[1].as_mut_ptr().add(lane * scales);
            if row >= rows.len() {
                low.write_bytes(0, units / 8);
                high.write_bytes(0, units / 8);
                d.write_bytes(0, scales);
                m.write_bytes(0, scales);
                return;
            }
            let source = Row::new::<W>(p, rows.start + row, &mut tail);
            for (i, g) in groups.clone().enumerate() {
                let group = source.group::<W>(g);
                let mut s = W::scales(group);
                if W::HAS_MIN && S::CENTRE != 0.0 {
                    s.centre(S::CENTRE);
                }
                for h in 0..per_group / 8 {
                    _mm256_storeu_ps(d.add(i * per_group + 8 * h), s.d[h]);
                    if W::HAS_MIN {
                        _mm256_storeu_ps(m.add(i * per_group + 8 * h), s.m[h]);
                    }
                }
                for c in 0..8 {
                    let codes = W::codes(group, c);
                    let at = i * 8 + c;
                    if S::NIBBLES {
                        let nibble = _mm256_set1_epi8(15);
                        let upper = _mm256_srli_epi16::<4>(codes);
                        _mm256_storeu_si256(low.add(at), _mm256_and_si256(codes, nibble));
                        _mm256_storeu_si256(high.add(at), _mm256_and_si256(upper, nibble));
                    } else {
                        _mm256_storeu_si256(low.add(at), codes);
                    }
                }
            }
        }
    }

    /// Converts elements `span` of `rows`; missing rows and elements become zeros.
    ///
    /// # Safety
    /// As [`Tile::fill`]; the span has at most `S::STRIP_FLOATS` elements.
    #[inline(always)]
    pub(super) unsafe fn fill_floats<W: Floats, S: Shape>(
        &mut self,
        p: &Product,
        rows: &Range<usize>,
        span: &Range<usize>,
    ) {
        let units = span.len().next_multiple_of(8);
        // SAFETY: as in `fill`; elements are read up to the end of the span only.
        unsafe {
            for first in (0..S::ROWS).step_by(S::LANES) {
                for lane in 0..S::LANES {
                    let line = self.linear[0].as_mut_ptr().add(lane * units).cast::<f32>();
                    let mut done = 0;
                    if first + lane < rows.len() {
                        let row = rows.start + first + lane;
                        let start = p.w.add(row * p.w_stride + span.start * W::BYTES);
                        while done + 8 <= span.len() {
                            _mm256_storeu_ps(line.add(done), W::load8(start.add(done * W::BYTES)));
                            done += 8;
                        }
                        while done < span.len() {
                            *line.add(done) = W::load1(start.add(done * W::BYTES));
                            done += 1;
                        }
                    }
                    line.add(done).write_bytes(0, units - done);
                }
                let to = self.units.as_mut_ptr().add(first);
                transpose::<S>(self.linear[0].as_ptr(), units, to, S::ROWS, units);
            }
        }
    }
}

/// `from (units, S::LANES)`, rows `stride` apart, to `to (S::LANES, units)`, rows `to_stride` apart.
///
/// # Safety
/// Both have room; `units` is a multiple of 4; the processor has AVX2, and AVX-512F for 16 lanes.
#[inline(always)]
unsafe fn transpose<S: Shape>(
    from: *const u32,
    stride: usize,
    to: *mut u32,
    to_stride: usize,
    units: usize,
) {
    // SAFETY: passed on.
    unsafe {
        for u in (0..units).step_by(4) {
            let (from, to) = (from.add(u), to.add(u * to_stride));
            if S::LANES == 16 {
                transpose_16x4(from, stride, to, to_stride);
            } else {
                transpose_8x4(from, stride, to, to_stride);
            }
        }
    }
}

/// 4 units of 8 rows. Row `4 h + i` goes to half `h` of vector `i`, so that shuffles within halves
/// finish the work.
///
/// # Safety
/// As [`transpose`].
#[inline(always)]
unsafe fn transpose_8x4(from: *const u32, stride: usize, to: *mut u32, to_stride: usize) {
    // SAFETY: passed on.
    unsafe {
        let mut v = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            let low = _mm_loadu_si128(from.add(i * stride).cast::<__m128i>());
            let high = _mm_loadu_si128(from.add((4 + i) * stride).cast::<__m128i>());
            v[i] = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high);
        }
        let (ab, cd) = (_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpacklo_epi32(v[2], v[3]));
        let (ef, gh) = (_mm256_unpackhi_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[2], v[3]));
        let columns = [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ef, gh),
            _mm256_unpackhi_epi64(ef, gh),
        ];
        for i in 0..4 {
            _mm256_storeu_si256(to.add(i * to_stride).cast(), columns[i]);
        }
    }
}

/// 4 units of 16 rows: as [`transpose_8x4`], with four quarters.
///
/// # Safety
/// As [`transpose`].
#[inline(always)]
unsafe fn transpose_16x4(from: *const u32, stride: usize, to: *mut u32, to_stride: usize) {
    // SAFETY: passed on.
    unsafe {
        let (a, b) = (quarters(from, stride), quarters(from.add(stride), stride));
        let (c, d) =
            (quarters(from.add(2 * stride), stride), quarters(from.add(3 * stride), stride));
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ef, gh) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        let columns = [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ef, gh),
            _mm512_unpackhi_epi64(ef, gh),
        ];
        for i in 0..4 {
            _mm512_storeu_si512(to.add(i * to_stride).cast(), columns[i]);
        }
    }
}

/// 4 units of rows 0, 4, 8 and 12.
///
/// # Safety
/// As [`transpose`].
#[inline(always)]
unsafe fn quarters(from: *const u32, stride: usize) -> __m512i {
    // SAFETY: passed on.
    unsafe {
        let v = _mm512_castsi128_si512(_mm_loadu_si128(from.cast()));
        let v = _mm512_inserti32x4::<1>(v, _mm_loadu_si128(from.add(4 * stride).cast()));
        let v = _mm512_inserti32x4::<2>(v, _mm_loadu_si128(from.add(8 * stride).cast()));
        _mm512_inserti32x4::<3>(v, _mm_loadu_si128(from.add(12 * stride).cast()))
    }
}
