//! The kernels for 64-bit Arm with NEON and its dot product instruction: for each weight type a row
//! dot product (few columns) and a tile (many).
//!
//! Which one runs is decided once per call by the number of columns, never per row. Formats are
//! described once, in `unpack`; the kernels know nothing of them but codes and scales.

mod dot;
mod fill;
mod float;
mod sdot;
mod tail;
mod tile;
mod unpack;
mod unpack_32;
mod unpack_float;
mod unpack_k;

use std::ops::Range;

use super::super::super::isa::Isa;
use super::{Product, scalar};
use crate::engine::tensor::DType;

/// From this many columns on, unpacking a tile of rows for all columns is taken to pay. Not tuned:
/// it is what the x86 kernels use.
pub(super) const TILE_COLUMNS: usize = 6;

/// Expands to one arm per weight type that calls `$quantised::<format>` or `$float::<type>`.
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
            (Isa::NeonDot, false) => by_type!(p, rows, dot::rows, float::dot_rows),
            (Isa::NeonDot, true) => by_type!(p, rows, tile::rows, float::tile_rows),
            _ => scalar::rows(p, rows),
        }
    }
}
