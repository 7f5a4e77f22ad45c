//! Joins launches that follow each other into one, where a kernel does the work of both.
//!
//! In decode a launch costs as much as reading a megabyte of weights. Every node still writes its
//! result. Invariant: the joined launch may run its blocks in any order, so two launches are joined
//! only where neither touches what the other writes, but for the same row in the same block.

use std::ops::Range;

use bytemuck::AnyBitPattern;

use super::super::params::ops::{
    AddNormParams, RopeParams, RopeSide, RowParams, SetRowsParams, SetRowsSide, ZipParams,
};
use super::rows::threads_for_row;
use super::{Launch, ParamBytes};

/// The launches of a program, fewer where some can be joined.
pub(in crate::engine::backend::cuda) fn fuse(launches: &[Launch]) -> Vec<Launch> {
    let mut out: Vec<Launch> = Vec::with_capacity(launches.len());
    for launch in launches {
        match out.last().and_then(|last| join(last, launch)) {
            Some(joined) => {
                out.pop();
                out.push(joined);
            }
            None => out.push(launch.clone()),
        }
    }
    out
}

fn join(first: &Launch, second: &Launch) -> Option<Launch> {
    match (first.kernel, second.kernel) {
        ("add_f32", "rms_norm_f32") => add_norm(first, second),
        ("rope_f32", "rope_f32") => ropes(first, second),
        (a, b) if a == b && a.starts_with("set_rows_") => cache_writes(first, second),
        _ => None,
    }
}

fn params<P: AnyBitPattern>(launch: &Launch) -> P {
    bytemuck::pod_read_unaligned(launch.params.as_bytes())
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
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
    let tokens = u64::from(first.grid[0]);
    if first.grid[0] != second.grid[0] || first.grid[1] + second.grid[1] > 65_535 {
        return None;
    }
    let span = |at: u64, head: u64, token: u64, side: &RopeSide| {
        let floats = (u64::from(side.n_head) - 1) * head + (tokens - 1) * token + u64::from(a.d);
        at..at + 4 * floats
    };
    let read = |s: &RopeSide| span(s.src, s.src_head, s.src_token, s);
    let written = |s: &RopeSide| span(s.dst, s.dst_head, s.dst_token, s);
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

/// Two writes to caches, keys and values as a rule, of the same cells.
fn cache_writes(first: &Launch, second: &Launch) -> Option<Launch> {
    let (mut a, b): (SetRowsParams, SetRowsParams) = (params(first), params(second));
    let alone = first.grid[1] == 1 && second.grid[1] == 1;
    if !alone || a.rows != b.rows || a.chunks != b.chunks || first.grid[0] != second.grid[0] {
        return None;
    }
    let tokens = u64::from(first.grid[0] / a.chunks);
    let cache = |s: &SetRowsSide| s.cache..s.cache + u64::from(s.cells) * s.cache_row_bytes;
    let src = |s: &SetRowsSide| s.src..s.src + 4 * ((tokens - 1) * s.src_row + u64::from(s.n));
    let (x, y) = (&a.sides[0], &b.sides[0]);
    let conflict =
        overlap(&cache(x), &cache(y)) || overlap(&cache(x), &src(y)) || overlap(&cache(y), &src(x));
    if conflict {
        return None;
    }
    a.sides[1] = b.sides[0];
    Some(Launch { grid: [first.grid[0], 2, 1], params: ParamBytes::new(&a), ..first.clone() })
}
