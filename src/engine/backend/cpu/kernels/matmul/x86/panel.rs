//! Activations of a strip, interleaved by column for the tile kernels, and the sums that wait between
//! strips.
//!
//! Rows of activations lie kilobytes apart, often a power of two: read in place, many of them would
//! compete for a few sets of the cache. They are copied into a panel that kernels read from front to
//! back: one that all workers fill and share, or, for some of the columns, a worker's own for a strip.

use std::arch::x86_64::{
    __m128i, _mm_loadu_si128, _mm_mullo_epi16, _mm_mullo_epi32, _mm_set1_epi16, _mm_set1_epi32,
    _mm_setzero_si128, _mm_storel_epi64, _mm_storeu_si128, _mm_unpackhi_epi32, _mm_unpackhi_epi64,
    _mm_unpacklo_epi32, _mm_unpacklo_epi64,
};
use std::ops::Range;

use super::super::MOST_ROWS;
use super::super::activations::{ALIGN, BLOCK, GROUP, RowLayout};
use super::super::columns::Column;
use super::fill::{STRIP_FLOATS, STRIP_GROUPS};
use super::unpack::Weights;

/// Columns that share one unpacking of the weights.
pub(super) const MOST_COLUMNS: usize = 512;
/// Columns are filled up to multiples of some number up to this.
const LARGEST_BLOCK: usize = 12;
/// Units of four codes in a block of activations.
const BLOCK_UNITS: usize = BLOCK / 4;
/// Blocks in a group.
pub(super) const GROUP_BLOCKS: usize = GROUP / BLOCK;
/// Dwords of one column in a block at most: units, scale, and twice start and sum.
const MOST_DWORDS: usize = BLOCK_UNITS + 5;

/// How a kernel wants activations interleaved. Kernels that want the same can share a panel.
#[derive(Clone, Copy, PartialEq)]
pub(in super::super) enum Packing {
    /// Floats as they are.
    Floats,
    /// Codes of 8 bits with what belongs to them.
    Codes {
        /// Two scales of weights, and two sums, per block.
        by_16: bool,
        /// Weights have minima, which are multiplied with sums of codes.
        has_min: bool,
        /// What sums of products start with.
        start: Start,
    },
}

impl Packing {
    /// For weights `W`, whose sums of products start with `start`.
    pub(super) const fn codes<W: Weights>(start: Start) -> Self {
        Self::Codes { by_16: W::BY_16, has_min: W::HAS_MIN, start }
    }

    /// Dwords of one column per float, or per group of codes.
    pub(super) const fn dwords(self) -> usize {
        match self {
            Self::Floats => 1,
            Self::Codes { by_16, .. } => GROUP_BLOCKS * (BLOCK_UNITS + if by_16 { 5 } else { 3 }),
        }
    }
}

/// Bytes of a panel of `columns` whole columns of `k` elements.
pub(in super::super) const fn whole_bytes(quantised: bool, k: usize, columns: usize) -> usize {
    let dwords = if quantised { k.div_ceil(GROUP) * GROUP_BLOCKS * MOST_DWORDS } else { k };
    let padded = columns + columns.div_ceil(MOST_COLUMNS) * LARGEST_BLOCK;
    (padded * dwords * 4).next_multiple_of(ALIGN)
}

/// One worker's memory.
#[derive(Clone, Copy)]
pub(in super::super) struct Room {
    /// The panel.
    pub(super) x: *mut u32,
    /// Sums of a chunk of rows, for as many columns as the panel has.
    pub(super) sums: *mut f32,
}

impl Room {
    /// The room at `base`.
    ///
    /// # Safety
    /// `base` is aligned to 64 bytes and has [`room_bytes`] for the columns of the product.
    pub(in super::super) unsafe fn at(base: *mut u8, columns: usize) -> Self {
        // SAFETY: the panel is the first part of the room.
        Self { x: base.cast(), sums: unsafe { base.add(panel_bytes(columns)).cast() } }
    }
}

const fn padded(columns: usize) -> usize {
    let most = if columns < MOST_COLUMNS { columns } else { MOST_COLUMNS };
    most + LARGEST_BLOCK
}

const fn panel_bytes(columns: usize) -> usize {
    let quantised = STRIP_GROUPS * GROUP_BLOCKS * MOST_DWORDS;
    let dwords = if quantised > STRIP_FLOATS { quantised } else { STRIP_FLOATS };
    (padded(columns) * dwords * 4).next_multiple_of(ALIGN)
}

/// Bytes of a worker's room for a product of `columns` columns.
pub(in super::super) const fn room_bytes(columns: usize) -> usize {
    panel_bytes(columns) + (padded(columns) * MOST_ROWS * 4).next_multiple_of(ALIGN)
}

/// Where the parts of a block of `C` columns lie in a panel, in dwords. Units come first.
pub(super) struct BlockLayout<W, const C: usize>(std::marker::PhantomData<W>);

impl<W: Weights, const C: usize> BlockLayout<W, C> {
    /// Sub-blocks in a block.
    pub(super) const SUBS: usize = if W::BY_16 { 2 } else { 1 };
    /// f32 `(C)`: scales.
    pub(super) const SCALE: usize = BLOCK_UNITS * C;
    /// `(C, SUBS)`: what the sums of codes start with.
    pub(super) const START: usize = Self::SCALE + C;
    /// f32 `(C, SUBS)`: `s * Σq`.
    pub(super) const SUM: usize = Self::START + Self::SUBS * C;
    /// From block to block.
    pub(super) const STRIDE: usize = Self::SUM + Self::SUBS * C;
}

/// What sums of codes start with, so that what is taken off the codes costs nothing.
#[derive(Clone, Copy, PartialEq)]
pub(in super::super) enum Start {
    /// 0.
    Zero,
    /// `-n * Σq`, in 32 bits.
    Whole(i32),
    /// `-n * Σq` of the first and of the second pair of every four, in 16 bits each.
    Pairs(i16),
}

/// Interleaves groups `groups` of quantised columns. Returns how many dwords were written.
///
/// # Safety
/// The columns are quantised rows that have the groups; there is room at `to`; the processor has
/// AVX2, and this is inlined where it is enabled.
#[inline(always)]
pub(super) unsafe fn pack<W: Weights, const C: usize>(
    cols: &[Column; C],
    layout: &RowLayout,
    groups: &Range<usize>,
    start: Start,
    to: *mut u32,
) -> usize {
    let stride = BlockLayout::<W, C>::STRIDE;
    let subs = BlockLayout::<W, C>::SUBS;
    let (sum_at, neg_at, pairs_at) = if W::BY_16 {
        (layout.sum16, layout.neg16, layout.pairs16)
    } else {
        (layout.sum32, layout.neg32, layout.pairs32)
    };
    // SAFETY: a group has 8 blocks, with as many scales, and one or two sums for each.
    unsafe {
        for (i, g) in groups.clone().enumerate() {
            let to = to.add(i * GROUP_BLOCKS * stride);
            for u in (0..GROUP / 4).step_by(4) {
                let to = to.add(u / BLOCK_UNITS * stride + u % BLOCK_UNITS * C);
                interleave::<C>(cols, g * GROUP + u * 4, Start::Zero, to, [0, C, 2 * C, 3 * C]);
            }
            for b in (0..GROUP_BLOCKS).step_by(4) {
                let to = to.add(b * stride + BlockLayout::<W, C>::SCALE);
                let from = layout.scale + (g * GROUP_BLOCKS + b) * 4;
                interleave::<C>(cols, from, Start::Zero, to, [0, stride, 2 * stride, 3 * stride]);
            }
            for sub in (0..GROUP_BLOCKS * subs).step_by(4) {
                let places = if W::BY_16 {
                    [0, C, stride, stride + C]
                } else {
                    [0, stride, 2 * stride, 3 * stride]
                };
                let (to, from) = (to.add(sub / subs * stride), (g * GROUP_BLOCKS * subs + sub) * 4);
                if start != Start::Zero {
                    let at = if matches!(start, Start::Whole(_)) { neg_at } else { pairs_at };
                    let to = to.add(BlockLayout::<W, C>::START);
                    interleave::<C>(cols, at + from, start, to, places);
                }
                if W::HAS_MIN {
                    let to = to.add(BlockLayout::<W, C>::SUM);
                    interleave::<C>(cols, sum_at + from, Start::Zero, to, places);
                }
            }
        }
    }
    groups.len() * GROUP_BLOCKS * stride
}

/// Interleaves floats `span` of plain columns, filled up with zeros to a multiple of 4. Returns how
/// many dwords were written.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
pub(super) unsafe fn pack_floats<const C: usize>(
    cols: &[Column; C],
    span: &Range<usize>,
    to: *mut u32,
) -> usize {
    let whole = span.len() / 4 * 4;
    // SAFETY: passed on.
    unsafe {
        for i in (0..whole).step_by(4) {
            let from = (span.start + i) * 4;
            interleave::<C>(cols, from, Start::Zero, to.add(i * C), [0, C, 2 * C, 3 * C]);
        }
        for i in whole..span.len() {
            for t in 0..C {
                *to.add(i * C + t) = cols[t].x.cast::<u32>().add(span.start + i).read_unaligned();
            }
        }
    }
    span.len() * C
}

/// Four dwords of each column, from byte `from` on: dword `i` of all columns goes to `places[i]`.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
unsafe fn interleave<const C: usize>(
    cols: &[Column; C],
    from: usize,
    times: Start,
    to: *mut u32,
    places: [usize; 4],
) {
    // SAFETY: passed on.
    unsafe {
        for first in (0..C).step_by(4) {
            let mut v = [_mm_setzero_si128(); 4];
            for i in 0..4 {
                let column = (first + i).min(C - 1);
                v[i] = _mm_loadu_si128(cols[column].x.add(from).cast::<__m128i>());
            }
            let (ab, cd) = (_mm_unpacklo_epi32(v[0], v[1]), _mm_unpacklo_epi32(v[2], v[3]));
            let (ef, gh) = (_mm_unpackhi_epi32(v[0], v[1]), _mm_unpackhi_epi32(v[2], v[3]));
            let lanes = [
                _mm_unpacklo_epi64(ab, cd),
                _mm_unpackhi_epi64(ab, cd),
                _mm_unpacklo_epi64(ef, gh),
                _mm_unpackhi_epi64(ef, gh),
            ];
            for i in 0..4 {
                let lanes = match times {
                    Start::Zero => lanes[i],
                    Start::Whole(n) => _mm_mullo_epi32(lanes[i], _mm_set1_epi32(n)),
                    Start::Pairs(n) => _mm_mullo_epi16(lanes[i], _mm_set1_epi16(n)),
                };
                let to = to.add(places[i] + first).cast::<__m128i>();
                if first + 4 <= C {
                    _mm_storeu_si128(to, lanes);
                } else {
                    _mm_storel_epi64(to, lanes);
                }
            }
        }
    }
}
