//! The x86-64 kernels: for each weight type a row dot product (few columns) and a tile (many), for
//! AVX2 and for AVX-512 with VNNI.
//!
//! Which one runs is decided once per call by [`Isa`] and the number of columns, never per row.

mod dot_avx2;
mod dot_avx512;
mod fill;
mod float_avx2;
mod float_avx512;
mod panel;
mod quantise;
mod tail;
mod tile_avx2;
mod tile_avx512;
mod tiles;
mod unpack;
mod unpack_32;
mod unpack_float;
mod unpack_k;

use std::ops::Range;

pub(super) use quantise::quantise_row;

use super::super::super::isa::Isa;
use super::{Product, scalar};
use crate::engine::tensor::DType;

/// From this many columns on, unpacking a tile of rows for all columns pays.
const TILE_COLUMNS: usize = 6;

/// Bytes of scratch that a worker needs for products with `columns` columns.
pub(super) fn room_bytes(columns: usize) -> usize {
    if columns < TILE_COLUMNS { 0 } else { panel::room_bytes(columns) }
}

/// Expands to one arm per weight type that calls `$module::rows::<format>`.
macro_rules! by_type {
    ($p:expr, $rows:expr, $quantised:path, $float:path) => {{
        use $float as float;
        use $quantised as quantised;
        match $p.dtype {
            DType::F32 => float::<unpack_float::F32>($p, $rows),
            DType::F16 => float::<unpack_float::F16>($p, $rows),
            DType::BF16 => float::<unpack_float::Bf16>($p, $rows),
            DType::Q4_0 => quantised::<unpack_32::Q4_0>($p, $rows),
            DType::Q4_1 => quantised::<unpack_32::Q4_1>($p, $rows),
            DType::Q5_0 => quantised::<unpack_32::Q5_0>($p, $rows),
            DType::Q5_1 => quantised::<unpack_32::Q5_1>($p, $rows),
            DType::Q8_0 => quantised::<unpack_32::Q8_0>($p, $rows),
            DType::Q2_K => quantised::<unpack_k::Q2K>($p, $rows),
            DType::Q3_K => quantised::<unpack_k::Q3K>($p, $rows),
            DType::Q4_K => quantised::<unpack_k::Q4K>($p, $rows),
            DType::Q5_K => quantised::<unpack_k::Q5K>($p, $rows),
            DType::Q6_K => quantised::<unpack_k::Q6K>($p, $rows),
            DType::IQ4_NL => quantised::<unpack_32::Iq4Nl>($p, $rows),
            DType::IQ4_XS => quantised::<unpack_32::Iq4Xs>($p, $rows),
            DType::MXFP4 => quantised::<unpack_32::Mxfp4>($p, $rows),
            DType::I32 => scalar::rows($p, $rows),
        }
    }};
}

/// Rows `rows` of the result, for all columns.
///
/// # Safety
/// As [`Product`] states; the processor has `isa`.
pub(super) unsafe fn rows(isa: Isa, p: &Product, rows: Range<usize>) {
    let many = p.cols.count >= TILE_COLUMNS;
    // SAFETY: passed on; `isa` is present.
    unsafe {
        match (isa, many) {
            (Isa::Scalar | Isa::NeonDot, _) => scalar::rows(p, rows),
            (Isa::Avx2, false) => by_type!(p, rows, dot_avx2::rows, float_avx2::dot_rows),
            (Isa::Avx2, true) => by_type!(p, rows, tile_avx2::rows, float_avx2::tile_rows),
            (Isa::Avx512Vnni, false) => by_type!(p, rows, dot_avx512::rows, float_avx512::dot_rows),
            (Isa::Avx512Vnni, true) => {
                by_type!(p, rows, tile_avx512::rows, float_avx512::tile_rows);
            }
        }
    }
}
