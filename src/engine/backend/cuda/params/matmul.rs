//! Arguments of the matrix products; twins of the structs in `kernels/params_matmul.cuh`, which says
//! what each member is.

use bytemuck::{Pod, Zeroable};

/// Matrices that one launch of `mul_mat_vec` multiplies with a column.
pub(in crate::engine::backend::cuda) const MUL_MAT_VEC_SIDES: usize = 3;

/// Rounds rows of floats to 8 bits or to halves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(in crate::engine::backend::cuda) struct QuantizeParams {
    pub x: u64,
    pub out: u64,
    pub row_scales: u64,
    pub x_slot_bytes: u64,
    pub x_token_bytes: u64,
    pub out_bytes: u64,
    pub k: i32,
    pub slots: i32,
}

const _: () = assert!(size_of::<QuantizeParams>() == 56);

/// One matrix of a product of one column.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(in crate::engine::backend::cuda) struct MulMatVecSide {
    pub w: u64,
    pub dst: u64,
    pub addend: u64,
    pub sum: u64,
    pub w_row_bytes: u64,
    pub w_expert_bytes: u64,
    pub dst_slot_bytes: u64,
    pub dst_token_bytes: u64,
    pub n: i32,
    pub end_block: i32,
}

const _: () = assert!(size_of::<MulMatVecSide>() == 72);

/// A column of activations per pair, for up to [`MUL_MAT_VEC_SIDES`] matrices.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(in crate::engine::backend::cuda) struct MulMatVecParams {
    pub sides: [MulMatVecSide; MUL_MAT_VEC_SIDES],
    pub x: u64,
    pub ids: u64,
    pub gated: u64,
    pub x_slot_bytes: u64,
    pub x_token_bytes: u64,
    pub ids_token_bytes: u64,
    pub k: i32,
    pub slots: i32,
    pub n_expert: i32,
    pub split: i32,
    pub lanes: i32,
    pub pairs: i32,
    pub second_type_from: i32,
    pub gelu: i32,
}

const _: () = assert!(size_of::<MulMatVecParams>() == 296);

/// One matrix of a product of few columns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(in crate::engine::backend::cuda) struct MulMatFewSide {
    pub w: u64,
    pub dst: u64,
    pub w_row_bytes: u64,
    pub dst_column_bytes: u64,
    pub n: i32,
    pub end_block: i32,
}

const _: () = assert!(size_of::<MulMatFewSide>() == 40);

/// Up to 8 columns of activations in 8 bits, for up to [`MUL_MAT_VEC_SIDES`] matrices.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(in crate::engine::backend::cuda) struct MulMatFewParams {
    pub sides: [MulMatFewSide; MUL_MAT_VEC_SIDES],
    pub x: u64,
    pub x_column_bytes: u64,
    pub k: i32,
    pub columns: i32,
}

const _: () = assert!(size_of::<MulMatFewParams>() == 144);

/// Many columns of activations in halves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(in crate::engine::backend::cuda) struct MulMatParams {
    pub w: u64,
    pub x: u64,
    pub row_scales: u64,
    pub dst: u64,
    pub groups: u64,
    pub w_row_bytes: u64,
    pub w_expert_bytes: u64,
    pub x_row_bytes: u64,
    pub dst_slot_bytes: u64,
    pub dst_token_bytes: u64,
    pub k: i32,
    pub n: i32,
    pub columns: i32,
    pub slots: i32,
    pub x_slots: i32,
    pub n_expert: i32,
}

const _: () = assert!(size_of::<MulMatParams>() == 104);

/// Sorts pairs by expert and cuts the groups into tiles.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(in crate::engine::backend::cuda) struct GroupExpertsParams {
    pub ids: u64,
    pub groups: u64,
    pub ids_token_bytes: u64,
    pub pairs: i32,
    pub slots: i32,
    pub n_expert: i32,
    pub tile: i32,
}

const _: () = assert!(size_of::<GroupExpertsParams>() == 40);
