//! Launches of `FLASH_ATTN_EXT`: which of its kernels, and into how many parts the context is cut.

use bytemuck::Zeroable;

use crate::engine::tensor::DType;

use super::super::params::ops::FlashAttnParams;
use super::rows::{self, extent, strides};
use super::{Launch, Operand, ParamBytes, ScratchPlan, Traits};

/// Threads of a block of every kernel.
const THREADS: u32 = 128;
/// The widest values that `flash_attn_any` takes.
const ANY_VALUES_MAX: usize = 512;
/// What a block can use of shared memory where the device says nothing of more.
const SHARED_BYTES_PLAIN: usize = 48 << 10;
/// What the kernels declare themselves: see `shared_bytes` in `kernels/ptx/flash_attn.json`.
const SHARED_BYTES_STATIC: usize = 512;
/// Parts of the context are multiples of the kernels' tiles, and no shorter than this many cells.
const TILE_CELLS: usize = 64;
const PART_CELLS_MIN: usize = 256;
/// Nor longer than this, for which `VISIBLE_WORDS` in the kernel has bits.
const PART_CELLS_MAX: usize = 131_072;

/// The number that kernels know a type of the cache by.
fn cache_type(dtype: DType) -> Result<u32, String> {
    Ok(match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
        DType::Q8_0 => 3,
        DType::Q4_0 => 4,
        DType::Q4_1 => 5,
        DType::Q5_0 => 6,
        DType::Q5_1 => 7,
        other => return Err(format!("a cache of {other} cannot be read on the GPU")),
    })
}

/// See [`super::supports`].
pub(super) fn supports(src: &[DType]) -> Result<(), String> {
    rows::all_f32(src, &[0])?;
    cache_type(src[1])?;
    cache_type(src[2])?;
    if src[3] == DType::F16 { Ok(()) } else { Err(format!("the mask is {}, not F16", src[3])) }
}

/// What runs.
struct Kernel {
    name: &'static str,
    /// Query rows of a block; none for the kernel whose blocks take one head of one token.
    rows: Option<usize>,
    /// Tiles of the cache in shared memory at once.
    stages: usize,
    shared_bytes: usize,
}

/// The extents of one attention.
#[derive(Clone, Copy)]
struct Extents {
    d: usize,
    dv: usize,
    n_head: usize,
    n_head_kv: usize,
    n_kv: usize,
    t: usize,
}

impl Extents {
    /// Query rows that share a head of the cache.
    fn rows(&self) -> usize {
        self.t * self.n_head / self.n_head_kv
    }
}

/// See [`super::plan`].
pub(super) fn plan(
    scale: f32,
    softcap: f32,
    src: &[Operand],
    dst: &Operand,
    traits: &Traits,
    scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    let [q, k, v, mask] = src else {
        return Err(format!("takes 4 operands, got {}", src.len()));
    };
    let x = Extents {
        d: q.ne[0],
        dv: v.ne[0],
        n_head: q.ne[1],
        n_head_kv: k.ne[2],
        n_kv: k.ne[1],
        t: q.ne[2],
    };
    if x.t == 0 || x.n_head == 0 || x.dv == 0 {
        return Ok(());
    }
    let kernel = match tiled(&x, k, v, traits) {
        Some(kernel) => kernel,
        None => untiled(&x, traits)?,
    };
    let blocks = match kernel.rows {
        Some(rows) => x.rows().div_ceil(rows) * x.n_head_kv,
        None => x.n_head * x.t,
    };
    let (splits, split_len) = splits(blocks, x.n_kv, traits);
    let mut params = params(&x, q, k, v, mask, dst)?;
    params.splits = extent(splits)?;
    params.split_len = extent(split_len)?;
    params.stages = kernel.stages as u32;
    (params.scale, params.softcap) = (scale, softcap);
    if splits > 1 {
        let results = x.n_head * x.t * splits;
        params.partials = scratch.take(results * x.dv * size_of::<f32>());
        params.stats = scratch.take(results * 2 * size_of::<f32>());
    }
    let grid = match kernel.rows {
        Some(rows) => [extent(x.rows().div_ceil(rows))?, extent(x.n_head_kv)?, params.splits],
        None => [extent(x.n_head * x.t)?, params.splits, 1],
    };
    out.push(Launch {
        kernel: kernel.name,
        grid,
        block: [THREADS, 1, 1],
        shared_bytes: extent(kernel.shared_bytes)?,
        params: ParamBytes::new(&params),
    });
    if splits > 1 {
        rows::push(out, "flash_attn_merge", (x.n_head * x.t) as u64, THREADS, &params)?;
    }
    Ok(())
}

/// The arguments, but for what depends on the kernel and on the cut of the context.
fn params(
    x: &Extents,
    q: &Operand,
    k: &Operand,
    v: &Operand,
    mask: &Operand,
    dst: &Operand,
) -> Result<FlashAttnParams, String> {
    let (q_at, dst_at) = (strides(q)?, strides(dst)?);
    if mask.nb[0] != 2 || !mask.nb[1].is_multiple_of(2) {
        return Err(format!("a mask with strides {:?}", mask.nb));
    }
    Ok(FlashAttnParams {
        q: q.address,
        k: k.address,
        v: v.address,
        mask: mask.address,
        dst: dst.address,
        q_head: q_at.row,
        q_token: q_at.plane,
        k_cell_bytes: k.nb[1] as u64,
        k_head_bytes: k.nb[2] as u64,
        v_cell_bytes: v.nb[1] as u64,
        v_head_bytes: v.nb[2] as u64,
        mask_row: (mask.nb[1] / 2) as u64,
        dst_head: dst_at.row,
        dst_token: dst_at.plane,
        d: extent(x.d)?,
        dv: extent(x.dv)?,
        n_head: extent(x.n_head)?,
        t: extent(x.t)?,
        group: extent(x.n_head / x.n_head_kv)?,
        n_kv: extent(x.n_kv)?,
        k_type: cache_type(k.dtype)?,
        v_type: cache_type(v.dtype)?,
        mask_pairs: u32::from(mask.address.is_multiple_of(4) && mask.nb[1].is_multiple_of(4)),
        ..FlashAttnParams::zeroed()
    })
}

/// Dynamic shared memory that a block can have.
fn shared_bytes_max(traits: &Traits) -> usize {
    (traits.shared_bytes_optin as usize).max(SHARED_BYTES_PLAIN) - SHARED_BYTES_STATIC
}

/// The kernel that takes every cache and head.
fn untiled(x: &Extents, traits: &Traits) -> Result<Kernel, String> {
    let shared_bytes = (x.d + THREADS as usize / 32 * x.dv) * size_of::<f32>();
    if x.dv > ANY_VALUES_MAX {
        return Err(format!("heads have {} values, more than {ANY_VALUES_MAX}", x.dv));
    }
    if shared_bytes > shared_bytes_max(traits) {
        return Err(format!(
            "heads of {} elements need {shared_bytes} bytes of shared memory",
            x.d
        ));
    }
    Ok(Kernel { name: "flash_attn_any", rows: None, stages: 1, shared_bytes })
}

/// The kernel of the tensor cores for these operands, if one takes them.
fn tiled(x: &Extents, k: &Operand, v: &Operand, traits: &Traits) -> Option<Kernel> {
    // Floats would lose half of their digits.
    let keeps_precision = k.dtype != DType::F32 && v.dtype != DType::F32;
    let aligned = |cache: &Operand| {
        let places = [cache.address, cache.nb[1] as u64, cache.nb[2] as u64];
        let needed = if cache.dtype == DType::F16 { 16 } else { 2 };
        places.iter().all(|p| p.is_multiple_of(needed))
    };
    if x.d != x.dv || !keeps_precision || !aligned(k) || !aligned(v) {
        return None;
    }
    let [few, many] = match x.d {
        64 => ["flash_attn_few_64", "flash_attn_rows_64"],
        96 => ["flash_attn_few_96", "flash_attn_rows_96"],
        128 => ["flash_attn_few_128", "flash_attn_rows_128"],
        256 => ["flash_attn_few_256", "flash_attn_rows_256"],
        _ => return None,
    };
    let row_bytes = (x.d + 8) * 2;
    let wide = x.d > 128;
    // Queries, and tiles of keys and values; at the end the sums of four warps side by side.
    let bytes = |few: bool, stages: usize| {
        let cells = if wide && !few { 32 } else { 64 };
        let queries = if few { 2 * 16 } else { 64 };
        let tiles = (queries + stages * 2 * cells) * row_bytes;
        if few { tiles.max(4 * (16 * x.d + 2 * 16) * size_of::<f32>()) } else { tiles }
    };
    // Rows that fill two small blocks read the cache twice, which is found in the L2 cache.
    let prefer_few = x.rows() <= 32;
    let choices = [(prefer_few, 2), (prefer_few, 1), (!prefer_few, 2), (!prefer_few, 1)];
    let fits = |&(few, stages): &(bool, usize)| bytes(few, stages) <= shared_bytes_max(traits);
    let (is_few, stages) = choices.into_iter().find(fits)?;
    Some(Kernel {
        name: if is_few { few } else { many },
        rows: Some(if is_few { 16 } else { 64 }),
        stages,
        shared_bytes: bytes(is_few, stages),
    })
}

/// Parts of the context, and the cells of each: enough blocks to fill the GPU twice.
fn splits(blocks: usize, n_kv: usize, traits: &Traits) -> (usize, usize) {
    let wanted = (2 * traits.multiprocessors as usize).div_ceil(blocks);
    let most = n_kv.div_ceil(PART_CELLS_MIN);
    let parts = wanted.clamp(1, most.max(1)).max(n_kv.div_ceil(PART_CELLS_MAX));
    let len = n_kv.div_ceil(parts).next_multiple_of(TILE_CELLS).max(TILE_CELLS);
    (n_kv.div_ceil(len).max(1), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_context_and_are_not_too_short() {
        let traits = Traits {
            compute_capability: (9, 0),
            multiprocessors: 132,
            shared_bytes_optin: 227 << 10,
        };
        for (blocks, n_kv) in
            [(8, 256), (8, 8192), (8, 100), (1, 131_072), (1000, 8192), (3, 0), (900, 1 << 20)]
        {
            let (parts, len) = splits(blocks, n_kv, &traits);
            assert!(parts * len >= n_kv && (parts - 1) * len < n_kv.max(1), "{blocks} {n_kv}");
            assert!(parts == 1 || len >= PART_CELLS_MIN, "{blocks} {n_kv}: {parts} of {len}");
            assert!(len <= PART_CELLS_MAX, "{blocks} {n_kv}: {parts} of {len}");
        }
        assert_eq!(splits(8, 8192, &traits), (32, 256));
        assert_eq!(splits(1000, 8192, &traits).0, 1);
    }
}
