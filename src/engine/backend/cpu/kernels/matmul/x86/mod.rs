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

pub(super) use panel::{Packing, whole_bytes as panel_bytes};
pub(super) use quantise::quantise_row;

use super::super::super::isa::Isa;
use super::{Product, scalar};
use crate::engine::tensor::DType;

/// From this many columns on, unpacking a tile of rows for all columns pays.
pub(super) const TILE_COLUMNS: usize = 6;

/// Bytes of scratch that a worker needs for products with `columns` columns.
pub(super) fn room_bytes(columns: usize) -> usize {
    if columns < TILE_COLUMNS { 0 } else { panel::room_bytes(columns) }
}

/// Expands to one arm per weight type that calls `$module::rows::<format>`, or to the last argument
/// for what is no weight.
macro_rules! by_type {
    ($dtype:expr, $args:tt, $quantised:path, $float:path, $other:expr) => {{
        use $float as float;
        use $quantised as quantised;
        match $dtype {
            DType::F32 => float::<unpack_float::F32> $args,
            DType::F16 => float::<unpack_float::F16> $args,
            DType::BF16 => float::<unpack_float::Bf16> $args,
            DType::Q4_0 => quantised::<unpack_32::Q4_0> $args,
            DType::Q4_1 => quantised::<unpack_32::Q4_1> $args,
            DType::Q5_0 => quantised::<unpack_32::Q5_0> $args,
            DType::Q5_1 => quantised::<unpack_32::Q5_1> $args,
            DType::Q8_0 => quantised::<unpack_32::Q8_0> $args,
            DType::Q2_K => quantised::<unpack_k::Q2K> $args,
            DType::Q3_K => quantised::<unpack_k::Q3K> $args,
            DType::Q4_K => quantised::<unpack_k::Q4K> $args,
            DType::Q5_K => quantised::<unpack_k::Q5K> $args,
            DType::Q6_K => quantised::<unpack_k::Q6K> $args,
            DType::IQ4_NL => quantised::<unpack_32::Iq4Nl> $args,
            DType::IQ4_XS => quantised::<unpack_32::Iq4Xs> $args,
            DType::MXFP4 => quantised::<unpack_32::Mxfp4> $args,
            DType::I32 => $other,
        }
    }};
}

/// How products of `columns` columns with weights of type `dtype` want their activations
/// interleaved; nothing if they read them as they are.
pub(super) fn packing(isa: Isa, dtype: DType, columns: usize) -> Option<Packing> {
    if columns < TILE_COLUMNS {
        return None;
    }
    let packing = match isa {
        Isa::Scalar | Isa::NeonDot => return None,
        Isa::Avx2 => by_type!(dtype, (), tile_avx2::packing, float_avx2::packing, return None),
        Isa::Avx512Vnni => {
            by_type!(dtype, (), tile_avx512::packing, float_avx512::packing, return None)
        }
    };
    Some(packing)
}

/// Interleaves part `index` of `parts` of all columns at `to`, if [`packing`] asks for it.
///
/// # Safety
/// As [`Product`] states; `to` has [`panel_bytes`]; the processor has `isa`.
pub(super) unsafe fn pack_part(isa: Isa, p: &Product, index: usize, parts: usize, to: *mut u32) {
    // SAFETY: passed on; `isa` is present.
    unsafe {
        match isa {
            Isa::Scalar | Isa::NeonDot => {}
            Isa::Avx2 => {
                by_type!(
                    p.dtype,
                    (p, index, parts, to),
                    tile_avx2::pack_part,
                    float_avx2::pack_part,
                    ()
                );
            }
            Isa::Avx512Vnni => {
                by_type!(
                    p.dtype,
                    (p, index, parts, to),
                    tile_avx512::pack_part,
                    float_avx512::pack_part,
                    ()
                );
            }
        }
    }
}

/// Rows `rows` of the result, for all columns.
///
/// # Safety
/// As [`Product`] states; the processor has `isa`.
pub(super) unsafe fn rows(isa: Isa, p: &Product, rows: Range<usize>) {
    let many = p.cols.count >= TILE_COLUMNS;
    macro_rules! of_type {
        ($quantised:path, $float:path) => {
            by_type!(p.dtype, (p, rows), $quantised, $float, scalar::rows(p, rows))
        };
    }
    // SAFETY: passed on; `isa` is present.
    unsafe {
        match (isa, many) {
            (Isa::Scalar | Isa::NeonDot, _) => scalar::rows(p, rows),
            (Isa::Avx2, false) => of_type!(dot_avx2::rows, float_avx2::dot_rows),
            (Isa::Avx2, true) => of_type!(tile_avx2::rows, float_avx2::tile_rows),
            (Isa::Avx512Vnni, false) => of_type!(dot_avx512::rows, float_avx512::dot_rows),
            (Isa::Avx512Vnni, true) => of_type!(tile_avx512::rows, float_avx512::tile_rows),
        }
    }
}
