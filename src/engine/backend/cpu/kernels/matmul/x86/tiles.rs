//! How a product with many columns is cut: columns, strips of their length, tiles of rows.
//!
//! The cuts follow the caches. A tile of unpacked weights stays in the first level while all columns
//! pass it; a strip of the activations and the sums of a chunk of rows stay in the second. Which
//! vectors do the work is the business of a [`TileKernel`].
//!
//! Activations are interleaved once for all chunks of rows ([`pack`]), or, when only some columns
//! meet some weights, strip by strip for each chunk ([`run`] without a panel).

use std::ops::Range;

use super::super::Product;
use super::fill::Tile;
use super::panel::{MOST_COLUMNS, Packing, Room};

/// A tile and where it belongs.
pub(super) struct Place<'a> {
    /// The unpacked weights.
    pub(super) tile: &'a Tile,
    /// First row of the result.
    pub(super) row: usize,
    /// How many of the tile's rows exist.
    pub(super) rows: usize,
    /// The part of a row that the tile holds.
    pub(super) strip: Range<usize>,
    /// Nothing is summed yet.
    pub(super) first: bool,
    /// These sums are the result.
    pub(super) last: bool,
}

/// Columns of one block: the existing ones from `first` on, filled up by repeating the last.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// The first column.
    pub(super) first: usize,
    /// Columns, with those that only fill up.
    pub(super) width: usize,
    /// Columns that exist.
    pub(super) count: usize,
}

/// One instruction set's way with one kind of weights.
///
/// Safety of its functions: the processor has the instruction set, and all of this is inlined where
/// it is enabled; rows, columns and strips exist.
pub(super) trait TileKernel {
    /// Rows of a tile.
    const ROWS: usize;
    /// Length of a strip, in what [`TileKernel::length`] counts.
    const STRIP: usize;
    /// How activations are interleaved.
    const PACKING: Packing;

    /// Length of a row: groups or elements.
    fn length(p: &Product) -> usize;

    /// Width of the next block when `left` columns are left.
    fn width(left: usize) -> usize;

    /// Interleaves the strip of a block's activations at `to`; returns how many dwords that took.
    unsafe fn pack(p: &Product, block: Block, strip: &Range<usize>, to: *mut u32) -> usize;

    /// Unpacks the strip of `rows`.
    unsafe fn fill(tile: &mut Tile, p: &Product, rows: &Range<usize>, strip: &Range<usize>);

    /// Adds what the tile contributes to a block whose activations [`TileKernel::pack`] left at `x`
    /// and whose sums, `(ROWS, width)`, are at `sums`; the last strip writes the result instead.
    /// Returns the length of the block's activations in dwords.
    unsafe fn multiply(
        at: &Place,
        p: &Product,
        block: Block,
        x: *const u32,
        sums: *mut f32,
    ) -> usize;
}

/// Columns that share one unpacking of the weights, with those that only fill up blocks.
struct Group {
    columns: Range<usize>,
    width: usize,
    /// Where its activations begin in a panel of all columns, in dwords.
    start: usize,
}

/// The groups that all columns are cut into.
#[inline(always)]
fn groups<K: TileKernel>(p: &Product) -> impl Iterator<Item = Group> {
    let (count, length) = (p.cols.count, K::length(p));
    let mut start = 0;
    (0..count).step_by(MOST_COLUMNS).map(move |first| {
        let columns = first..(first + MOST_COLUMNS).min(count);
        let width = blocks::<K>(&columns).map(|b| b.width).sum();
        let group = Group { columns, width, start };
        start += width * length * K::PACKING.dwords();
        group
    })
}

/// Interleaves the activations of all columns at `to`: part `index` of `parts`.
///
/// # Safety
/// As [`Product`] states; `to` has [`super::panel::whole_bytes`]; the contract of `K`.
#[inline(always)]
pub(super) unsafe fn pack<K: TileKernel>(p: &Product, index: usize, parts: usize, to: *mut u32) {
    let (length, dwords) = (K::length(p), K::PACKING.dwords());
    for group in groups::<K>(p) {
        let count = blocks::<K>(&group.columns).count();
        let items = length.div_ceil(K::STRIP) * count;
        let part = items * index / parts..items * (index + 1) / parts;
        for i in part.start / count.max(1)..part.end.div_ceil(count.max(1)) {
            let strip = i * K::STRIP..((i + 1) * K::STRIP).min(length);
            let mut at = group.start + strip.start * dwords * group.width;
            for (b, block) in blocks::<K>(&group.columns).enumerate() {
                if part.contains(&(i * count + b)) {
                    // SAFETY: columns and strip exist; each block has its own part of the panel.
                    unsafe { K::pack(p, block, &strip, to.add(at)) };
                }
                at += strip.len() * dwords * block.width;
            }
        }
    }
}

/// Rows `rows` of the result, for all columns.
///
/// # Safety
/// As [`Product`] states, with at most [`super::super::MOST_ROWS`] rows; the contract of `K`; the
/// product's panel, if it has one, was packed by [`pack`] for a kernel of the same packing.
#[inline(always)]
pub(super) unsafe fn run<K: TileKernel>(p: &Product, rows: Range<usize>) {
    let mut tile = Tile::new();
    let length = K::length(p);
    // SAFETY: the room was made for this product.
    let room = unsafe { Room::at(p.room, p.cols.count) };
    for group in groups::<K>(p) {
        // Strips outside, so that their activations stay in the second-level cache for all rows.
        for start in (0..length).step_by(K::STRIP) {
            let strip = start..(start + K::STRIP).min(length);
            // SAFETY: columns and strip exist; the room holds whole blocks, the panel all of them.
            let packed = unsafe {
                if p.panel.is_null() {
                    let mut x = room.x;
                    for block in blocks::<K>(&group.columns) {
                        x = x.add(K::pack(p, block, &strip, x));
                    }
                    room.x.cast_const()
                } else {
                    p.panel.add(group.start + start * K::PACKING.dwords() * group.width)
                }
            };
            for row in rows.clone().step_by(K::ROWS) {
                let here = row..(row + K::ROWS).min(rows.end);
                // SAFETY: rows and strip exist; the sums of a chunk fit the room, and each tile has
                // its own.
                unsafe {
                    K::fill(&mut tile, p, &here, &strip);
                    let at = Place {
                        tile: &tile,
                        row,
                        rows: here.len(),
                        strip: strip.clone(),
                        first: start == 0,
                        last: strip.end == length,
                    };
                    let mut x = packed;
                    let mut sums = room.sums.add((row - rows.start) * group.width);
                    for block in blocks::<K>(&group.columns) {
                        x = x.add(K::multiply(&at, p, block, x, sums));
                        sums = sums.add(block.width * K::ROWS);
                    }
                }
            }
        }
    }
}

/// The blocks that `columns` are cut into.
#[inline(always)]
fn blocks<K: TileKernel>(columns: &Range<usize>) -> impl Iterator<Item = Block> {
    let mut left = columns.clone();
    std::iter::from_fn(move || {
        if left.is_empty() {
            return None;
        }
        let width = K::width(left.len());
        let block = Block { first: left.start, width, count: width.min(left.len()) };
        left.start += block.count;
        Some(block)
    })
}
