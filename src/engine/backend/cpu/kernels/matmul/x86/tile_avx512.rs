//! Tiles of 32 rows against many columns, with AVX-512 and VNNI.
//!
//! Rows stand in lanes: one instruction multiplies four codes of 16 rows with four activations of a
//! column and adds them up, so that no lanes are ever summed. Offsets of codes cost nothing: the
//! sums start at `-offset * Σq` instead of 0. Two vectors of rows by twelve columns keep both vector
//! units busy in spite of the latency; the sums in `f32`, which they need only once per block, wait
//! in the first-level cache.

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_load_ps, _mm512_load_si512, _mm512_mask_storeu_ps, _mm512_mul_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_store_ps,
};
use std::marker::PhantomData;
use std::ops::Range;

use super::super::Product;
use super::super::activations::{BLOCK, GROUP, RowLayout};
use super::fill::{Shape, Tile};
use super::panel::{self, BlockLayout, Packing, Start};
use super::tiles::{self, Block, Place, TileKernel};
use super::unpack::Weights;

/// Vectors of rows in a tile.
pub(super) const VECTORS: usize = 2;
/// Columns that meet a tile at a time.
const COLUMNS: usize = 12;
/// Half of them, for formats with two scales per block.
const HALF: usize = COLUMNS / 2;
/// Units of four codes in a block.
const UNITS: usize = BLOCK / 4;
/// Rows of a tile.
pub(super) const ROWS: usize = 16 * VECTORS;

/// 32 rows as they are.
pub(super) struct TileRows;

impl Shape for TileRows {
    const ROWS: usize = ROWS;
    const LANES: usize = 16;
    const STRIP_GROUPS: usize = 2;
}

/// The body once for each column, written out: a loop that the compiler leaves a loop would need the
/// sums of codes in memory.
macro_rules! each_column {
    ($t:ident in $n:ident => $body:block) => {
        each_column!(@ $t $n $body 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $t:ident $n:ident $body:block $($i:literal)*) => {
        $({
            #[allow(non_upper_case_globals, reason = "it stands for the variable of a loop")]
            const $t: usize = $i;
            if $t < $n $body
        })*
    };
}

/// One mask per vector, for the first `n` rows.
pub(super) fn row_masks(n: usize) -> [u16; VECTORS] {
    let mask = u64::MAX >> (64 - n);
    std::array::from_fn(|v| (mask >> (16 * v)) as u16)
}

/// # Safety
/// As [`Product`] states, with at most [`super::super::MOST_ROWS`] rows; the weights are of type
/// `W`; the processor has AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn rows<W: Weights>(p: &Product, rows: Range<usize>) {
    // SAFETY: passed on.
    unsafe { tiles::run::<Quantised<W>>(p, rows) }
}

/// How activations are interleaved for weights `W`.
pub(super) fn packing<W: Weights>() -> Packing {
    Quantised::<W>::PACKING
}

/// Interleaves part `index` of `parts` of all columns.
///
/// # Safety
/// As [`tiles::pack`]; the weights are of type `W`; the processor has AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_part<W: Weights>(p: &Product, index: usize, parts: usize, to: *mut u32) {
    // SAFETY: passed on.
    unsafe { tiles::pack::<Quantised<W>>(p, index, parts, to) }
}

struct Quantised<W>(PhantomData<W>);

impl<W: Weights> Quantised<W> {
    const START: Start = if W::OFFSET == 0 { Start::Zero } else { Start::Whole(W::OFFSET) };
}

impl<W: Weights> TileKernel for Quantised<W> {
    const ROWS: usize = ROWS;
    const STRIP: usize = TileRows::STRIP_GROUPS;
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
        unsafe { pack::<W, COLUMNS>(p, block, strip, to) }
    }

    #[inline(always)]
    unsafe fn fill(tile: &mut Tile, p: &Product, rows: &Range<usize>, strip: &Range<usize>) {
        // SAFETY: passed on.
        unsafe { tile.fill::<W, TileRows>(p, rows, strip) }
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

/// See [`TileKernel::pack`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn pack<W: Weights, const C: usize>(
    p: &Product,
    block: Block,
    strip: &Range<usize>,
    to: *mut u32,
) -> usize {
    // SAFETY: passed on.
    unsafe {
        let cols = p.cols.block::<C>(block.first);
        panel::pack::<W, C>(&cols, &RowLayout::new(p.k), strip, Quantised::<W>::START, to)
    }
}

/// See [`TileKernel::multiply`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn multiply<W: Weights, const C: usize>(
    at: &Place,
    p: &Product,
    block: Block,
    x: *const u32,
    sums: *mut f32,
) -> usize {
    let subs = BlockLayout::<W, C>::SUBS;
    let blocks = at.strip.len() * panel::GROUP_BLOCKS;
    // SAFETY: tile and panel hold the strip; everything that is loaded as a vector is aligned to 64
    // bytes; results are stored under the masks of existing rows.
    unsafe {
        if at.first {
            for i in (0..C * ROWS).step_by(16) {
                _mm512_store_ps(sums.add(i), _mm512_setzero_ps());
            }
        }
        if at.last {
            // The results' lines are far away; fetched now, they are here when they are written.
            for t in 0..block.count {
                let dst = p.cols.get(block.first + t).dst.add(at.row).cast::<i8>();
                _mm_prefetch::<_MM_HINT_T0>(dst);
                _mm_prefetch::<_MM_HINT_T0>(dst.add(64));
            }
        }
        for b in 0..blocks {
            let parts = Parts {
                units: at.tile.units.as_ptr().add(b * UNITS * ROWS),
                d: at.tile.d.as_ptr().add(b * subs * ROWS),
                m: at.tile.m.as_ptr().add(b * subs * ROWS),
            };
            let x = x.add(b * BlockLayout::<W, C>::STRIDE);
            if W::BY_16 {
                // Sums of both halves of a block, so that half the columns fill the registers.
                add_halves::<W, C, HALF>(&parts, x, 0, sums);
                add_halves::<W, C, HALF>(&parts, x, HALF, sums.add(HALF * ROWS));
            } else {
                add_block::<W, C>(&parts, x, sums);
            }
        }
        if at.last {
            let masks = row_masks(at.rows);
            for t in 0..block.count {
                let dst = p.cols.get(block.first + t).dst.add(at.row);
                for v in 0..VECTORS {
                    let total = _mm512_load_ps(sums.add(t * ROWS + 16 * v));
                    _mm512_mask_storeu_ps(dst.add(16 * v), masks[v], total);
                }
            }
        }
    }
    blocks * BlockLayout::<W, C>::STRIDE
}

/// A tile's part of one block of 32 elements.
struct Parts {
    /// Codes: `(ROWS, UNITS)`.
    units: *const u32,
    /// Scales: `(ROWS, sub-blocks)`.
    d: *const f32,
    /// Addends, laid out as `d`.
    m: *const f32,
}

/// Adds a block with one scale to the sums of `C` columns.
///
/// # Safety
/// As [`multiply`]; inlined there. `x` is the block's part of the panel.
#[inline(always)]
unsafe fn add_block<W: Weights, const C: usize>(at: &Parts, x: *const u32, sums: *mut f32) {
    // SAFETY: passed on.
    unsafe {
        let mut codes = [[_mm512_setzero_si512(); VECTORS]; C];
        if W::OFFSET != 0 {
            let start = x.add(BlockLayout::<W, C>::START).cast::<i32>();
            for t in 0..C {
                codes[t] = [_mm512_set1_epi32(*start.add(t)); VECTORS];
            }
        }
        for u in 0..UNITS {
            let w = unit(at.units.add(u * ROWS));
            let x = x.add(u * C).cast::<i32>();
            each_column!(t in C => {
                let x = _mm512_set1_epi32(*x.add(t));
                for v in 0..VECTORS {
                    codes[t][v] = _mm512_dpbusd_epi32(codes[t][v], w[v], x);
                }
            });
        }
        // In the order in which the sums of codes become ready.
        each_column!(t in C => {
            let s = _mm512_set1_ps(*x.add(BlockLayout::<W, C>::SCALE + t).cast::<f32>());
            for v in 0..VECTORS {
                let d = _mm512_load_ps(at.d.add(16 * v));
                let total = sums.add(t * ROWS + 16 * v);
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(codes[t][v]), d);
                let mut next = _mm512_fmadd_ps(scaled, s, waiting(total));
                if W::HAS_MIN {
                    let m = _mm512_load_ps(at.m.add(16 * v));
                    let sum = *x.add(BlockLayout::<W, C>::SUM + t).cast::<f32>();
                    next = _mm512_fmadd_ps(m, _mm512_set1_ps(sum), next);
                }
                _mm512_store_ps(total, next);
            }
        });
    }
}

/// Adds a block with a scale for each half to the sums of `H` of the `C` columns, from `first` on.
/// Both halves meet in registers, because the way through the cache costs as much as a product.
///
/// # Safety
/// As [`add_block`]; `sums` are those of the first of these columns.
#[inline(always)]
unsafe fn add_halves<W: Weights, const C: usize, const H: usize>(
    at: &Parts,
    x: *const u32,
    first: usize,
    sums: *mut f32,
) {
    // SAFETY: passed on.
    unsafe {
        let x = x.add(first);
        let low = codes_of_half::<W, C, H>(at.units, x, 0);
        let high = codes_of_half::<W, C, H>(at.units, x, 1);
        // Read once: for all that the compiler knows, storing sums could change them.
        let d = [scales(at.d), scales(at.d.add(ROWS))];
        each_column!(t in H => {
            let s = _mm512_set1_ps(*x.add(BlockLayout::<W, C>::SCALE + t).cast::<f32>());
            for v in 0..VECTORS {
                let total = sums.add(t * ROWS + 16 * v);
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(low[t][v]), d[0][v]);
                let scaled = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[t][v]), d[1][v], scaled);
                let mut next = _mm512_fmadd_ps(scaled, s, waiting(total));
                if W::HAS_MIN {
                    for half in 0..2 {
                        let m = _mm512_load_ps(at.m.add(half * ROWS + 16 * v));
                        let sum = x.add(BlockLayout::<W, C>::SUM + half * C + t).cast::<f32>();
                        next = _mm512_fmadd_ps(m, _mm512_set1_ps(*sum), next);
                    }
                }
                _mm512_store_ps(total, next);
            }
        });
    }
}

/// Sums of codes of a half of a block.
///
/// # Safety
/// As [`add_halves`]; `x` is the block's part of the panel from the first of the `H` columns on.
#[inline(always)]
unsafe fn codes_of_half<W: Weights, const C: usize, const H: usize>(
    units: *const u32,
    x: *const u32,
    half: usize,
) -> [[__m512i; VECTORS]; H] {
    // SAFETY: passed on.
    unsafe {
        let mut codes = [[_mm512_setzero_si512(); VECTORS]; H];
        if W::OFFSET != 0 {
            let start = x.add(BlockLayout::<W, C>::START + half * C).cast::<i32>();
            for t in 0..H {
                codes[t] = [_mm512_set1_epi32(*start.add(t)); VECTORS];
            }
        }
        for u in half * UNITS / 2..(half + 1) * UNITS / 2 {
            let w = unit(units.add(u * ROWS));
            let x = x.add(u * C).cast::<i32>();
            each_column!(t in H => {
                let x = _mm512_set1_epi32(*x.add(t));
                for v in 0..VECTORS {
                    codes[t][v] = _mm512_dpbusd_epi32(codes[t][v], w[v], x);
                }
            });
        }
        codes
    }
}

/// Four codes of each row of a tile.
///
/// # Safety
/// As [`add_block`].
#[inline(always)]
unsafe fn unit(units: *const u32) -> [__m512i; VECTORS] {
    // SAFETY: passed on.
    unsafe {
        let mut w = [_mm512_setzero_si512(); VECTORS];
        for v in 0..VECTORS {
            w[v] = _mm512_load_si512(units.add(16 * v).cast());
        }
        w
    }
}

/// A scale for each row of a tile.
///
/// # Safety
/// As [`add_block`].
#[inline(always)]
unsafe fn scales(d: *const f32) -> [__m512; VECTORS] {
    // SAFETY: passed on.
    unsafe {
        let mut scales = [_mm512_setzero_ps(); VECTORS];
        for v in 0..VECTORS {
            scales[v] = _mm512_load_ps(d.add(16 * v));
        }
        scales
    }
}

/// Sums that wait in memory. Volatile, or else the compiler would keep all of them in registers that
/// it does not have, and spill them.
///
/// # Safety
/// As [`add_block`].
#[inline(always)]
unsafe fn waiting(total: *const f32) -> __m512 {
    // SAFETY: passed on.
    unsafe { total.cast::<__m512>().read_volatile() }
}
