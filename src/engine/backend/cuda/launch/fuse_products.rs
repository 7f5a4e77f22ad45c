//! Joins products of one column with what stands next to them: other products of the same column, the
//! gated unit of gate and up, a bias or the residual.
//!
//! Each of these saves a launch, and a pass over the result. Invariant: as in `fuse`; a joined launch
//! still writes what each of its nodes wrote.

use std::ops::Range;

use crate::engine::backend::cuda::params::matmul::{
    MUL_MAT_VEC_SIDES, MulMatVecParams, MulMatVecSide,
};
use crate::engine::backend::cuda::params::ops::ZipParams;

use super::fuse::{overlap, params};
use super::mul_mat_vec::{Share, Types, few_params, read_before_the_wait, sides};
use super::products::kernels;
use super::{Launch, ParamBytes, Traits};

/// Two launches of products of the same column, as one.
pub(super) fn products(first: &Launch, second: &Launch, traits: &Traits) -> Option<Launch> {
    let (a_types, b_types) = (Types::of(first.kernel)?, Types::of(second.kernel)?);
    let (mut p, b): (MulMatVecParams, MulMatVecParams) = (params(first), params(second));
    let (count, grows_by) = (sides(&p), sides(&b));
    let same_column = (p.x, p.x_slot_bytes, p.x_token_bytes, p.k, p.slots, p.pairs)
        == (b.x, b.x_slot_bytes, b.x_token_bytes, b.k, b.slots, b.pairs)
        && (p.ids, p.ids_token_bytes, p.n_expert) == (b.ids, b.ids_token_bytes, b.n_expert);
    let alone = grows_by == 1 && p.sides.iter().chain(&b.sides).all(|s| s.addend == 0);
    if !same_column || !alone || count == MUL_MAT_VEC_SIDES {
        return None;
    }
    let types = match (a_types, b_types) {
        (Types(a, None), Types(b, None)) if a == b => Types(a, None),
        (Types(a, None), Types(b, None)) => {
            p.second_type_from = count as i32;
            Types(a, Some(b))
        }
        (Types(a, Some(b)), Types(c, None)) if b == c => Types(a, Some(b)),
        _ => return None,
    };
    p.sides[count] = b.sides[0];
    let joined = Share::new(types, p.k as usize, 1, traits)?;
    let joined = joined.launch(types.kernel()?, p, first.grid[1] as usize);
    is_safe(&joined).then_some(joined)
}

/// Two launches of products of the same few columns, as one.
pub(super) fn few(first: &Launch, second: &Launch) -> Option<Launch> {
    let (mut p, b) = (few_params(first)?, few_params(second)?);
    let count = p.sides.iter().take_while(|s| s.n > 0).count();
    let same_columns =
        (p.x, p.x_column_bytes, p.k, p.columns) == (b.x, b.x_column_bytes, b.k, b.columns);
    let alone = b.sides[1].n == 0 && first.kernel == second.kernel;
    if !same_columns || !alone || count == MUL_MAT_VEC_SIDES {
        return None;
    }
    p.sides[count] = b.sides[0];
    p.sides[count].end_block += first.grid[0] as i32;
    let grid = [first.grid[0] + second.grid[0], 1, 1];
    let joined = Launch { grid, params: ParamBytes::new(&p), ..first.clone() };
    let columns = p.columns as u64;
    let mut taken = read_before_the_wait(&joined);
    taken.push(p.x..p.x + columns * p.x_column_bytes);
    for s in p.sides.iter().filter(|s| s.n > 0) {
        let written = s.dst..s.dst + (columns - 1) * s.dst_column_bytes + 4 * s.n as u64;
        if taken.iter().any(|t| overlap(t, &written)) {
            return None;
        }
        taken.push(written);
    }
    Some(joined)
}

/// Gate and up with their gated unit.
pub(super) fn gated_unit(pair: &Launch, glu: &Launch, traits: &Traits) -> Option<Launch> {
    let Types(dtype, None) = Types::of(pair.kernel)? else { return None };
    let (mut p, z): (MulMatVecParams, ZipParams) = (params(pair), params(glu));
    let [gate, up, _] = p.sides;
    let alike = |s: &MulMatVecSide| {
        (s.n, s.w_row_bytes, s.w_expert_bytes, s.dst_slot_bytes, s.dst_token_bytes, s.addend)
    };
    // One flat row of all pairs' results.
    let (n, pairs) = (gate.n as u64, p.pairs as u64);
    let gapless = (p.slots == 1 || gate.dst_slot_bytes == 4 * n)
        && (p.pairs == p.slots || gate.dst_token_bytes == 4 * n * p.slots as u64);
    let flat = glu.grid[0] == z.chunks && u64::from(z.ne0) == n * pairs && gapless;
    let fits = sides(&p) == 2 && alike(&gate) == alike(&up) && gate.addend == 0;
    if !flat || !fits || (z.a, z.b) != (gate.dst, up.dst) || z.a == z.b {
        return None;
    }
    p.gated = z.dst;
    p.gelu = i32::from(glu.kernel == "glu_gelu_f32");
    let share = Share::new(Types(dtype, None), p.k as usize, 1, traits)?;
    let joined = share.launch(kernels(dtype)?.vec_glu, p, pair.grid[1] as usize);
    is_safe(&joined).then_some(joined)
}

/// A product and the sum of its result and a bias or the residual.
pub(super) fn sum(product: &Launch, add: &Launch) -> Option<Launch> {
    Types::of(product.kernel)?;
    let (mut p, z): (MulMatVecParams, ZipParams) = (params(product), params(add));
    if p.pairs != 1 || p.ids != 0 || add.grid[0] != z.chunks {
        return None;
    }
    let takes = |s: &&mut MulMatVecSide| {
        let is_operand = s.dst == z.a || s.dst == z.b;
        s.n > 0 && s.addend == 0 && s.n as u32 == z.ne0 && is_operand && z.a != z.b
    };
    let side = p.sides.iter_mut().find(takes)?;
    side.addend = if side.dst == z.a { z.b } else { z.a };
    side.sum = z.dst;
    let joined = Launch { params: ParamBytes::new(&p), ..product.clone() };
    is_safe(&joined).then_some(joined)
}

/// Whether the blocks of a joined launch may run in any order: nobody writes what another element's
/// thread reads or writes. A thread writes the results of an element in the order of the nodes, so
/// that these may stand in each other's place.
fn is_safe(launch: &Launch) -> bool {
    let p: MulMatVecParams = params(launch);
    let (slots, tokens) = (p.slots as u64, p.pairs as u64 / p.slots as u64);
    let spread = |at: u64, slot: u64, token: u64, bytes: u64| {
        at..at + (slots - 1) * slot + (tokens - 1) * token + bytes
    };
    let mut reads = read_before_the_wait(launch);
    reads.push(spread(p.x, p.x_slot_bytes, p.x_token_bytes, 4 * p.k as u64));
    if p.ids != 0 {
        reads.push(spread(p.ids, 0, p.ids_token_bytes, 4 * slots));
    }
    // What belongs to the same elements, for each side.
    let mut groups: Vec<Vec<Range<u64>>> = Vec::new();
    for side in p.sides.iter().filter(|s| s.n > 0) {
        let bytes = 4 * side.n as u64;
        let mut own = vec![spread(side.dst, side.dst_slot_bytes, side.dst_token_bytes, bytes)];
        if side.addend != 0 {
            own.extend([side.addend..side.addend + bytes, side.sum..side.sum + bytes]);
        }
        groups.push(own);
    }
    if p.gated != 0 {
        let bytes = 4 * p.sides[0].n as u64 * p.pairs as u64;
        let mut all: Vec<Range<u64>> = groups.drain(..).flatten().collect();
        all.push(p.gated..p.gated + bytes);
        groups.push(all);
    }
    let meets =
        |a: &[Range<u64>], b: &[Range<u64>]| a.iter().any(|x| b.iter().any(|y| overlap(x, y)));
    groups.iter().enumerate().all(|(i, own)| {
        let in_place = own.iter().all(|x| own.iter().all(|y| x == y || !overlap(x, y)));
        in_place && !meets(own, &reads) && groups[..i].iter().all(|other| !meets(own, other))
    })
}
