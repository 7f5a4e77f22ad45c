//! Joins launches that follow each other into one, where a kernel does the work of both.
//!
//! In decode a launch costs as much as reading a megabyte of weights. Every node still writes its
//! result. Invariant: the joined launch may run its blocks in any order, so two launches are joined
//! only where neither touches what the other writes, but for the same row in the same block.

use std::ops::Range;

use bytemuck::{AnyBitPattern, Zeroable};

use super::super::params::ops::{
    AddNormParams, ExpertWeightsParams, RopeParams, RopeSetRowsParams, RopeSide, RouterParams,
    RowParams, SetRowsParams, SetRowsSide, TopKParams, ZipParams,
};
use super::rows::threads_for_row;
use super::{Launch, ParamBytes, Traits, fuse_products, fuse_rounding};

/// The launches of a program, fewer where some can be joined.
pub(in crate::engine::backend::cuda) fn fuse(launches: &[Launch], traits: &Traits) -> Vec<Launch> {
    let mut out: Vec<Launch> = Vec::with_capacity(launches.len());
    for launch in launches {
        match out.last().and_then(|last| join(last, launch, traits)) {
            Some(joined) => {
                out.pop();
                out.push(joined);
            }
            None => out.push(launch.clone()),
        }
    }
    out
}

/// Blocks of a grid along y at most.
const GRID_Y_MAX: u32 = 65_535;

fn join(first: &Launch, second: &Launch, traits: &Traits) -> Option<Launch> {
    match (first.kernel, second.kernel) {
        ("add_f32", "rms_norm_f32") => add_norm(first, second),
        ("rope_f32", "rope_f32") => ropes(first, second),
        (a, b) if a == b && a.starts_with("set_rows_") => cache_writes(first, second),
        ("rope_f32", _) => turned_keys(first, second),
        (a, b) if a.strip_prefix("rope_") == Some(b) => values_after_keys(first, second),
        (_, "glu_silu_f32" | "glu_gelu_f32") => fuse_products::gated_unit(first, second, traits),
        (_, "add_f32") => fuse_products::sum(first, second),
        (_, "quantize_q8") => fuse_rounding::rounded(first, second),
        ("soft_max_f32", "top_k_f32") => router(first, second),
        ("router_f32", "expert_weights_f32") => router_weights(first, second),
        _ => fuse_products::products(first, second, traits)
            .or_else(|| fuse_products::few(first, second)),
    }
}

pub(super) fn params<P: AnyBitPattern>(launch: &Launch) -> P {
    bytemuck::pod_read_unaligned(launch.params.as_bytes())
}

pub(super) fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The sum of two tensors without gaps, and the norm of its rows.
fn add_norm(add: &Launch, norm: &Launch) -> Option<Launch> {
    let (z, n): (ZipParams, RowParams) = (params(add), params(norm));
    let (rows, count) = (u64::from(norm.grid[0]), u64::from(z.ne0));
    let row = u64::from(n.ne0);
    // One flat row on both sides, which the norm cuts again.
    let flat = add.grid[0] == z.chunks && row * rows == count && row % 4 == 0;
    let gapless = |row_stride: u64, plane: u64| {
        let one_row = n.ne1 == 1 || row_stride == row;
        one_row && (rows <= u64::from(n.ne1) || plane == row * u64::from(n.ne1))
    };
    let whole = gapless(n.src_row, n.src_plane) && gapless(n.dst_row, n.dst_plane);
    if !flat || !whole || z.dst != n.src || z.vector == 0 || n.vector == 0 {
        return None;
    }
    let bytes = |at: u64| at..at + 4 * count;
    // The same row of the same block, or apart. Sums may stand where an operand stood.
    let apart = |a: u64, b: u64| a == b || !overlap(&bytes(a), &bytes(b));
    let weight = n.weight..n.weight + 4 * row;
    let safe = [z.a, z.b, z.dst].iter().all(|&at| apart(n.dst, at))
        && [z.a, z.b].iter().all(|&at| apart(z.dst, at))
        && [z.dst, n.dst].iter().all(|&at| !overlap(&bytes(at), &weight));
    safe.then(|| Launch {
        kernel: "add_rms_norm_f32",
        grid: norm.grid,
        block: [threads_for_row(n.ne0 as usize, norm.block[0]), 1, 1],
        shared_bytes: 0,
        params: ParamBytes::new(&AddNormParams {
            a: z.a,
            b: z.b,
            weight: n.weight,
            sum: z.dst,
            dst: n.dst,
            ne0: n.ne0,
            eps: n.eps,
        }),
    })
}

/// Two tensors, queries and keys as a rule, that turn by the same angles.
fn ropes(first: &Launch, second: &Launch) -> Option<Launch> {
    let (mut a, b): (RopeParams, RopeParams) = (params(first), params(second));
    let same = RopeParams { sides: b.sides, ..a };
    let alone = a.sides[1].n_head == 0 && b.sides[1].n_head == 0;
    if !alone || bytemuck::bytes_of(&same) != bytemuck::bytes_of(&b) {
        return None;
    }
    if first.grid[0] != second.grid[0] || first.grid[1] + second.grid[1] > GRID_Y_MAX {
        return None;
    }
    let [read, written] = turned(&a, first.grid[0]);
    let (x, y) = (&a.sides[0], &b.sides[0]);
    // Columns of one wider tensor interleave; then their spans overlap and they stay apart.
    let conflict = overlap(&written(x), &read(y))
        || overlap(&written(x), &written(y))
        || overlap(&read(x), &written(y));
    if conflict {
        return None;
    }
    a.sides[1] = b.sides[0];
    Some(Launch {
        grid: [first.grid[0], first.grid[1] + second.grid[1], 1],
        params: ParamBytes::new(&a),
        ..first.clone()
    })
}

/// What a side of a rotation reads, and what it writes, by functions of the side.
fn turned(p: &RopeParams, tokens: u32) -> [impl Fn(&RopeSide) -> Range<u64> + use<>; 2] {
    let (tokens, d) = (u64::from(tokens), u64::from(p.d));
    let of = move |written: bool| {
        move |s: &RopeSide| {
            let (at, head, token) = if written {
                (s.dst, s.dst_head, s.dst_token)
            } else {
                (s.src, s.src_head, s.src_token)
            };
            let floats = (u64::from(s.n_head) - 1) * head + (tokens - 1) * token + d;
            at..at + 4 * floats
        }
    };
    [of(false), of(true)]
}

/// What a write to a cache may change, and what it reads.
fn stored(s: &SetRowsSide, tokens: u32) -> [Range<u64>; 2] {
    let floats = (u64::from(tokens) - 1) * s.src_row + u64::from(s.n);
    [s.cache..s.cache + u64::from(s.cells) * s.cache_row_bytes, s.src..s.src + 4 * floats]
}

/// The kernel that turns queries and keys and writes a cache of this type.
fn rope_set_rows(set_rows: &str) -> Option<&'static str> {
    Some(match set_rows {
        "set_rows_f32" => "rope_set_rows_f32",
        "set_rows_f16" => "rope_set_rows_f16",
        "set_rows_bf16" => "rope_set_rows_bf16",
        "set_rows_q8_0" => "rope_set_rows_q8_0",
        "set_rows_q4_0" => "rope_set_rows_q4_0",
        "set_rows_q4_1" => "rope_set_rows_q4_1",
        "set_rows_q5_0" => "rope_set_rows_q5_0",
        "set_rows_q5_1" => "rope_set_rows_q5_1",
        _ => return None,
    })
}

/// Queries and keys that turn, and the turned keys' way into the cache; with one tensor that turns, it
/// is the keys.
fn turned_keys(rope: &Launch, store: &Launch) -> Option<Launch> {
    let kernel = rope_set_rows(store.kernel)?;
    let (p, s): (RopeParams, SetRowsParams) = (params(rope), params(store));
    let turning: Vec<&RopeSide> = p.sides.iter().filter(|s| s.n_head > 0).collect();
    let (keys, cached, tokens) = (turning.last()?, &s.sides[0], rope.grid[0]);
    let whole = keys.dst_head == u64::from(p.d) && cached.n == keys.n_head * p.d;
    let same = cached.src == keys.dst && (tokens == 1 || cached.src_row == keys.dst_token);
    let blocks_of_heads = (p.heads_per_block * p.d).is_multiple_of(32);
    let alone = store.grid[1] == 1 && store.grid[0] == tokens * s.chunks;
    if !whole || !same || !blocks_of_heads || !alone {
        return None;
    }
    let [read, written] = turned(&p, tokens);
    let [cache, _] = stored(cached, tokens);
    let four = 4 * u64::from(tokens);
    let mut others = vec![p.positions..p.positions + four, s.rows..s.rows + four];
    others.extend(turning.iter().flat_map(|s| [read(s), written(s)]));
    let pairs = u64::from(p.n_dims) / 2;
    others.push(p.factors..p.factors + 4 * pairs);
    let rows_kept = turning.iter().all(|side| !overlap(&written(side), &(s.rows..s.rows + four)));
    let apart = others.iter().all(|r| !overlap(&cache, r)) && rows_kept;
    apart.then(|| Launch {
        kernel,
        params: ParamBytes::new(&RopeSetRowsParams {
            rope: p,
            keys: *cached,
            values: SetRowsSide::zeroed(),
            rows: s.rows,
        }),
        ..rope.clone()
    })
}

/// The values' way into the cache beside that of the keys.
fn values_after_keys(first: &Launch, store: &Launch) -> Option<Launch> {
    let (mut p, s): (RopeSetRowsParams, SetRowsParams) = (params(first), params(store));
    let (values, tokens) = (s.sides[0], first.grid[0]);
    let alone = p.values.n == 0 && store.grid[1] == 1 && store.grid[0] == tokens * s.chunks;
    if !alone || s.rows != p.rows || first.grid[1] + s.chunks > GRID_Y_MAX {
        return None;
    }
    let [read, written] = turned(&p.rope, tokens);
    let ([keys, _], [cache, src]) = (stored(&p.keys, tokens), stored(&values, tokens));
    let four = 4 * u64::from(tokens);
    let pairs = u64::from(p.rope.n_dims) / 2;
    let inputs = [p.rope.positions, p.rows].map(|at| at..at + four);
    let factors = p.rope.factors..p.rope.factors + 4 * pairs;
    let turning = || p.rope.sides.iter().filter(|s| s.n_head > 0);
    let apart = turning().all(|s| !overlap(&written(s), &src))
        && turning().all(|s| !overlap(&written(s), &cache) && !overlap(&read(s), &cache))
        && inputs.iter().chain([&factors, &keys, &src]).all(|r| !overlap(&cache, r))
        && !overlap(&keys, &src);
    if !apart {
        return None;
    }
    p.values = values;
    let grid = [tokens, first.grid[1] + s.chunks, 1];
    Some(Launch { grid, params: ParamBytes::new(&p), ..first.clone() })
}

/// Two writes to caches, keys and values as a rule, of the same cells.
fn cache_writes(first: &Launch, second: &Launch) -> Option<Launch> {
    let (mut a, b): (SetRowsParams, SetRowsParams) = (params(first), params(second));
    let alone = first.grid[1] == 1 && second.grid[1] == 1;
    if !alone || a.rows != b.rows || a.chunks != b.chunks || first.grid[0] != second.grid[0] {
        return None;
    }
    let tokens = first.grid[0] / a.chunks;
    let ([cache, src], [cache2, src2]) = (stored(&a.sides[0], tokens), stored(&b.sides[0], tokens));
    if overlap(&cache, &cache2) || overlap(&cache, &src2) || overlap(&cache2, &src) {
        return None;
    }
    a.sides[1] = b.sides[0];
    Some(Launch { grid: [first.grid[0], 2, 1], params: ParamBytes::new(&a), ..first.clone() })
}

/// A router's probabilities and its choice.
fn router(soft_max: &Launch, top_k: &Launch) -> Option<Launch> {
    let (probs, chosen): (RowParams, TopKParams) = (params(soft_max), params(top_k));
    let rows = u64::from(soft_max.grid[0]);
    let one_plane = u64::from(probs.ne1) == rows && soft_max.grid == top_k.grid;
    let same = chosen.src == probs.dst && (rows == 1 || chosen.src_row == probs.dst_row);
    if !one_plane || !same || chosen.n != probs.ne0 {
        return None;
    }
    let floats = |at: u64, row: u64| at..at + 4 * ((rows - 1) * row + u64::from(probs.ne0));
    let ids = chosen.dst..chosen.dst + 4 * rows * u64::from(chosen.k);
    let (read, written) = (floats(probs.src, probs.src_row), floats(probs.dst, probs.dst_row));
    if overlap(&ids, &read) || overlap(&ids, &written) || overlap(&read, &written) {
        return None;
    }
    Some(Launch {
        kernel: "router_f32",
        params: ParamBytes::new(&RouterParams {
            probs,
            chosen,
            weights: ExpertWeightsParams::zeroed(),
        }),
        ..top_k.clone()
    })
}

/// And the weights of the chosen experts.
fn router_weights(router: &Launch, weights: &Launch) -> Option<Launch> {
    let (mut p, w): (RouterParams, ExpertWeightsParams) = (params(router), params(weights));
    let rows = u64::from(router.grid[0]);
    let same = w.probs == p.probs.dst && (rows == 1 || w.probs_row == p.probs.dst_row);
    let chosen =
        (w.ids, w.k, w.n_expert, u64::from(w.t)) == (p.chosen.dst, p.chosen.k, p.chosen.n, rows);
    if !same || !chosen || p.weights.k > 0 {
        return None;
    }
    let floats = |at: u64, row: u64| at..at + 4 * ((rows - 1) * row + u64::from(p.probs.ne0));
    let few = |at: u64| at..at + 4 * rows * u64::from(w.k);
    let others =
        [floats(p.probs.src, p.probs.src_row), floats(p.probs.dst, p.probs.dst_row), few(w.ids)];
    if others.iter().any(|other| overlap(other, &few(w.dst))) {
        return None;
    }
    p.weights = w;
    Some(Launch { params: ParamBytes::new(&p), ..router.clone() })
}
