//! Tiles of 16 rows against many columns, with AVX2.
//!
//! As [`super::tile_avx512`], with rows in 8 lanes. Products are added in 16 bits for a whole
//! sub-block and widened once. That cannot overflow: codes are at most 15, or sums start at
//! `-offset * Σq`, after which their final value fits (16 elements per lane, magnitude 16 at most,
//! or 8 elements of 32 at most) and wrapping on the way does no harm. Codes of 8 bits are split into
//! two nibbles, as if they were two rows.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_load_ps, _mm256_load_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_maskstore_ps, _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_store_ps,
};
use std::marker::PhantomData;
use std::ops::Range;

use super::super::Product;
use super::super::activations::{GROUP, RowLayout};
use super::fill::{Shape, Tile};
use super::panel::{self, BlockLayout, Packing, Start};
use super::tiles::{self, Block, Place, TileKernel};
use super::unpack::Weights;

/// Vectors of codes that meet a column at a time.
const VECTORS: usize = 2;
/// Columns that meet a tile at a time: 8 sums, and registers left for operands.
const COLUMNS: usize = 4;

/// The shape of tiles of `W`: 16 rows, or 8 rows of two nibbles.
struct Rows<W>(PhantomData<W>);

impl<W: Weights> Shape for Rows<W> {
    const NIBBLES: bool = W::MAX_CODE > 63;
    const ROWS: usize = if W::MAX_CODE > 63 { 8 } else { 16 };
    const LANES: usize = 8;
    // Codes of 5 bits with a minimum become -16 to 15, which sums in 16 bits hold.
    const CENTRE: f32 = if W::HAS_MIN && W::MAX_CODE > 15 { 16.0 } else { 0.0 };
}

impl<W: Weights> Rows<W> {
    /// Vectors of results.
    const OUT: usize = VECTORS / Self::PLANES;
    /// What is taken off codes, or off high nibbles; as a power of two. Nothing if it is 0.
    const SHIFT: i32 = if Self::NIBBLES {
        3
    } else if W::HAS_MIN {
        if W::MAX_CODE > 15 { 4 } else { 0 }
    } else if W::OFFSET == 0 {
        0
    } else {
        W::OFFSET.trailing_zeros() as i32
    };
    const START: Start =
        if Self::SHIFT == 0 { Start::Zero } else { Start::Pairs(1 << Self::SHIFT) };
}

/// How activations are interleaved for weights `W`.
pub(super) fn packing<W: Weights>() -> Packing {
    Rows::<W>::PACKING
}

/// Interleaves part `index` of `parts` of all columns.
///
/// # Safety
/// As [`tiles::pack`]; the weights are of type `W`; the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack_part<W: Weights>(p: &Product, index: usize, parts: usize, to: *mut u32) {
    // SAFETY: passed on.
    unsafe { tiles::pack::<Rows<W>>(p, index, parts, to) }
}

/// Masks for the first `n` of 16 rows.
///
/// # Safety
/// The processor has AVX2; inlined where it is enabled.
#[inline(always)]
pub(super) unsafe fn row_masks(n: usize) -> [__m256i; 2] {
    let mut lanes = [0_i32; 16];
    lanes[..n].fill(-1);
    // SAFETY: both halves of the array are readable.
    unsafe {
        [
            _mm256_loadu_si256(lanes.as_ptr().cast()),
            _mm256_loadu_si256(lanes.as_ptr().add(8).cast()),
        ]
    }
}

/// # Safety
/// As [`Product`] states, with at most [`super::super::MOST_ROWS`] rows; the weights are of type
/// `W`; the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<W: Weights>(p: &Product, rows: Range<usize>) {
    // SAFETY: passed on.
    unsafe { tiles::run::<Rows<W>>(p, rows) }
}

impl<W: Weights> TileKernel for Rows<W> {
    const ROWS: usize = <Self as Shape>::ROWS;
    const STRIP: usize = <Self as Shape>::STRIP_GROUPS;
    const PACKING: Packing = Packing::codes::<W>(Self::START);

    #[inline(always)]
    fn length(p: &Product) -> usize {
        p.k.div_ceil(GROUP)
    }

    #[inline(always)]
    fn width(_left: usize) -> usize {
        COLUMNS
    }

    #[inline(always)]
    unsafe fn pack(p: &Product, block: Block, strip: &Range<usize>, to: *mut u32) -> usize {
        // SAFETY: passed on.
        unsafe {
            let cols = p.cols.block::<COLUMNS>(block.first);
            panel::pack::<W, COLUMNS>(&cols, &RowLayout::new(p.k), strip, Self::START, to)
        }
    }

    #[inline(always)]
    unsafe fn fill(tile: &mut Tile, p: &Product, rows: &Range<usize>, strip: &Range<usize>) {
        // SAFETY: passed on.
        unsafe { tile.fill::<W, Self>(p, rows, strip) }
    }

    #[inline(always)]
    unsafe fn multiply(
        at: &Place,
        p: &Product,
        block: Block,
        x: *const u32,
        sums: *mut f32,
    ) -> usize {
        // SAFETY: passed on.
        unsafe { multiply::<W, COLUMNS>(at, p, block, x, sums) }
    }
}

/// See [`TileKernel::multiply`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<W: Weights, const C: usize>(
    at: &Place,
    p: &Product,
    block: Block,
    x: *const u32,
    sums: *mut f32,
) -> usize {
    let subs = BlockLayout::<W, C>::SUBS;
    let blocks = at.strip.len() * panel::GROUP_BLOCKS;
    let rows = <Rows<W> as Shape>::ROWS;
    // SAFETY: tile and panel hold the strip; everything that is loaded as a vector is aligned to 32
    // bytes; results are stored under the masks of existing rows.
    unsafe {
        if at.first {
            for i in (0..C * rows).step_by(8) {
                _mm256_store_ps(sums.add(i), _mm256_setzero_ps());
            }
        }
        let mut units = at.tile.units.as_ptr();
        for b in 0..blocks {
            let x = x.add(b * BlockLayout::<W, C>::STRIDE);
            for sub in 0..subs {
                let mut codes = [[_mm256_setzero_si256(); VECTORS]; C];
                if Rows::<W>::SHIFT != 0 {
                    let start = x.add(BlockLayout::<W, C>::START + sub * C).cast::<i32>();
                    for t in 0..C {
                        codes[t][1] = _mm256_set1_epi32(*start.add(t));
                        if !Rows::<W>::NIBBLES {
                            codes[t][0] = codes[t][1];
                        }
                    }
                }
                for s in 0..8 / subs {
                    let low = _mm256_load_si256(units.cast());
                    let high = _mm256_load_si256(units.add(8).cast());
                    units = units.add(8 * VECTORS);
                    let x = x.add((sub * 8 / subs + s) * C).cast::<i32>();
                    for t in 0..C {
                        let x = _mm256_set1_epi32(*x.add(t));
                        codes[t][0] = _mm256_add_epi16(codes[t][0], _mm256_maddubs_epi16(low, x));
                        codes[t][1] = _mm256_add_epi16(codes[t][1], _mm256_maddubs_epi16(high, x));
                        // No instructions, only an order: left free, the compiler interleaves the
                        // whole block, runs out of registers and spills the sums.
                        for v in 0..VECTORS {
                            asm!("/* {0} */", inout(ymm_reg) codes[t][v],
                                options(nomem, nostack, preserves_flags));
                        }
                    }
                }
                let scales = at.tile.d.as_ptr().add((b * subs + sub) * rows);
                let addends = at.tile.m.as_ptr().add((b * subs + sub) * rows);
                for t in 0..C {
                    let s = *x.add(BlockLayout::<W, C>::SCALE + t).cast::<f32>();
                    let wide = widen::<W>(codes[t]);
                    for v in 0..Rows::<W>::OUT {
                        let d = _mm256_load_ps(scales.add(8 * v));
                        let total = sums.add(t * rows + 8 * v);
                        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(wide[v]), d);
                        // Volatile, or else the compiler would keep all sums in registers that it
                        // does not have, and spill them.
                        let old = total.cast::<__m256>().read_volatile();
                        let mut next = _mm256_fmadd_ps(scaled, _mm256_set1_ps(s), old);
                        if W::HAS_MIN {
                            let m = _mm256_load_ps(addends.add(8 * v));
                            let sum = *x.add(BlockLayout::<W, C>::SUM + sub * C + t).cast::<f32>();
                            next = _mm256_fmadd_ps(m, _mm256_set1_ps(sum), next);
                        }
                        _mm256_store_ps(total, next);
                    }
                }
            }
        }
        if at.last {
            let masks = row_masks(at.rows);
            for t in 0..block.count {
                let dst = p.cols.get(block.first + t).dst.add(at.row);
                for v in 0..Rows::<W>::OUT {
                    let total = _mm256_load_ps(sums.add(t * rows + 8 * v));
                    _mm256_maskstore_ps(dst.add(8 * v), masks[v], total);
                }
            }
        }
    }
    blocks * BlockLayout::<W, C>::STRIDE
}

/// Sums of 16 bits to sums of 32: one per row, in as many vectors as there are of results.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn widen<W: Weights>(sums: [__m256i; VECTORS]) -> [__m256i; VECTORS] {
    // SAFETY: passed on.
    unsafe {
        let low = _mm256_madd_epi16(sums[0], _mm256_set1_epi16(1));
        if Rows::<W>::NIBBLES {
            let high = _mm256_madd_epi16(sums[1], _mm256_set1_epi16(16));
            [_mm256_add_epi32(low, high), low]
        } else {
            [low, _mm256_madd_epi16(sums[1], _mm256_set1_epi16(1))]
        }
    }
}
