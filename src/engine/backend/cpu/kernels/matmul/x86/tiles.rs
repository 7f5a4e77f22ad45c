//! How a product with many columns is cut: columns, strips of their length, tiles of rows.
//!
//! The cuts follow the caches. A tile of unpacked weights stays in the first level while all columns
//! pass it; a strip of the activations and the sums of a chunk of rows stay in the second. Which
//! vectors do the work is the business of a [`TileKernel`].

use std::ops::Range;

use super::super::Product;
use super::fill::Tile;
use super::panel::{MOST_COLUMNS, Room};

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

/// Rows `rows` of the result, for all columns.
///
/// # Safety
/// As [`Product`] states, with at most [`super::super::MOST_ROWS`] rows; the contract of `K`.
#[inline(always)]
pub(super) unsafe fn run<K: TileKernel>(p: &Product, rows: Range<usize>) {
    let mut tile = Tile::new();
    let length = K::length(p);
    // SAFETY: the room was made for this product.
    let room = unsafe { Room::at(p.room, p.cols.count) };
    for first in (0..p.cols.count).step_by(MOST_COLUMNS) {
        let columns = first..(first + MOST_COLUMNS).min(p.cols.count);
        // Strips outside, so that their activations stay in the second-level cache for all rows.
        for start in (0..length).step_by(K::STRIP) {
            let strip = start..(start + K::STRIP).min(length);
            let (mut x, mut width) = (room.x, 0);
            for block in blocks::<K>(&columns) {
                // SAFETY: columns and strip exist; the panel has room for whole blocks.
                unsafe { x = x.add(K::pack(p, block, &strip, x)) };
                width += block.width;
            }
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
                    let mut x = room.x.cast_const();
                    let mut sums = room.sums.add((row - rows.start) * width);
                    for block in blocks::<K>(&columns) {
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
