//! Joins what makes activations with their rounding to 8 bits, which products of two to eight columns
//! take: norms and gated units.
//!
//! Products of one column round by themselves, while their first weights are on their way. Invariant: as
//! in `fuse`.

use std::ops::Range;

use crate::engine::backend::cuda::params::matmul::QuantizeParams;
use crate::engine::backend::cuda::params::ops::{
    AddNormParams, AddNormQ8Params, GluQ8Params, NormQ8Params, RoundedRows, RowParams, ZipParams,
};

use super::fuse::{overlap, params};
use super::{Launch, ParamBytes};

/// A launch and the rounding of its result, where a kernel does both.
pub(super) fn rounded(first: &Launch, quantize: &Launch) -> Option<Launch> {
    let q: QuantizeParams = params(quantize);
    let rows = u64::from(quantize.grid[1]);
    match first.kernel {
        "rms_norm_f32" => norm(first, &q, rows),
        "add_rms_norm_f32" => sum_and_norm(first, &q, rows),
        "glu_silu_f32" | "glu_gelu_f32" => gated_unit(first, &q, rows),
        _ => None,
    }
}

fn rounded_rows(q: &QuantizeParams) -> RoundedRows {
    RoundedRows { out: q.out, out_bytes: q.out_bytes }
}

/// Whether the rounded rows lie apart from everything else that the first launch touches.
fn apart(q: &QuantizeParams, rows: u64, others: &[Range<u64>]) -> bool {
    let out = q.out..q.out + rows * q.out_bytes;
    others.iter().all(|other| !overlap(&out, other))
}

/// Whether the rows that are rounded follow each other without gaps from `at` on.
fn is_gapless(q: &QuantizeParams, rows: u64, at: u64) -> bool {
    let (row, slots) = (4 * q.k as u64, q.slots as u64);
    q.x == at
        && (slots == 1 || q.x_slot_bytes == row)
        && (rows == slots || q.x_token_bytes == row * slots)
}

fn norm(first: &Launch, q: &QuantizeParams, rows: u64) -> Option<Launch> {
    let norm: RowParams = params(first);
    let (ne1, planes) = (u64::from(norm.ne1), rows.div_ceil(u64::from(norm.ne1.max(1))));
    let same_rows = rows == u64::from(first.grid[0]) && q.k as u32 == norm.ne0 && q.x == norm.dst;
    let same_strides = (ne1 == 1 || q.x_slot_bytes == 4 * norm.dst_row)
        && (planes == 1 || q.x_token_bytes == 4 * norm.dst_plane)
        && q.slots as u64 == ne1;
    let span = |at: u64, row: u64, plane: u64| {
        at..at + 4 * ((planes - 1) * plane + (ne1 - 1) * row + u64::from(norm.ne0))
    };
    let others = [
        span(norm.src, norm.src_row, norm.src_plane),
        span(norm.dst, norm.dst_row, norm.dst_plane),
        norm.weight..norm.weight + 4 * u64::from(norm.ne0),
    ];
    (same_rows && same_strides && apart(q, rows, &others)).then(|| Launch {
        kernel: "rms_norm_q8",
        params: ParamBytes::new(&NormQ8Params { norm, rounded: rounded_rows(q) }),
        ..first.clone()
    })
}

fn sum_and_norm(first: &Launch, q: &QuantizeParams, rows: u64) -> Option<Launch> {
    let norm: AddNormParams = params(first);
    let same = rows == u64::from(first.grid[0]) && q.k as u32 == norm.ne0;
    let bytes = 4 * rows * u64::from(norm.ne0);
    let mut others = [norm.a, norm.b, norm.sum, norm.dst].map(|at| at..at + bytes).to_vec();
    others.push(norm.weight..norm.weight + 4 * u64::from(norm.ne0));
    (same && is_gapless(q, rows, norm.dst) && apart(q, rows, &others)).then(|| Launch {
        kernel: "add_rms_norm_q8",
        params: ParamBytes::new(&AddNormQ8Params { norm, rounded: rounded_rows(q) }),
        ..first.clone()
    })
}

fn gated_unit(first: &Launch, q: &QuantizeParams, rows: u64) -> Option<Launch> {
    let zip: ZipParams = params(first);
    let flat = first.grid[0] == zip.chunks && u64::from(zip.ne0) == rows * q.k as u64;
    let bytes = 4 * u64::from(zip.ne0);
    let others = [zip.a, zip.b, zip.dst].map(|at| at..at + bytes);
    let fits = flat && zip.vector == 1 && is_gapless(q, rows, zip.dst);
    (fits && apart(q, rows, &others)).then(|| Launch {
        kernel: "glu_q8",
        params: ParamBytes::new(&GluQ8Params {
            zip,
            rounded: rounded_rows(q),
            k: q.k as u32,
            gelu: u32::from(first.kernel == "glu_gelu_f32"),
        }),
        ..first.clone()
    })
}
