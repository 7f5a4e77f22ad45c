//! Arguments of everything but the matrix products; twins of the structs in
//! `kernels/params_ops.cuh`, where the members are explained.

use bytemuck::{Pod, Zeroable};

use crate::engine::graph::CONCAT_MAX;

/// Pairs of a head that `rope_f32` can turn.
pub(in crate::engine::backend::cuda) const ROPE_PAIRS_MAX: usize = 256;

/// `concat_f32`; its twin stands with the kernel.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct ConcatParams {
    pub dst: u64,
    pub dst_row: u64,
    pub src: [u64; CONCAT_MAX],
    pub src_row: [u64; CONCAT_MAX],
    pub end: [u32; CONCAT_MAX],
    pub ne0: u32,
    pub chunks: u32,
    pub vector: u32,
    pub padding: u32,
}

/// `add_f32`, `mul_f32`, `scale_f32`, `glu_*_f32`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct ZipParams {
    pub a: u64,
    pub b: u64,
    pub dst: u64,
    pub a_row: u64,
    pub a_plane: u64,
    pub b_row: u64,
    pub b_plane: u64,
    pub dst_row: u64,
    pub dst_plane: u64,
    pub ne0: u32,
    pub ne1: u32,
    pub chunks: u32,
    pub vector: u32,
    pub factor: f32,
    pub padding: u32,
}

/// `rms_norm_f32`, `soft_max_f32`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct RowParams {
    pub src: u64,
    pub weight: u64,
    pub dst: u64,
    pub src_row: u64,
    pub src_plane: u64,
    pub dst_row: u64,
    pub dst_plane: u64,
    pub ne0: u32,
    pub ne1: u32,
    pub vector: u32,
    pub eps: f32,
}

/// `add_rms_norm_f32`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct AddNormParams {
    pub a: u64,
    pub b: u64,
    pub weight: u64,
    pub sum: u64,
    pub dst: u64,
    pub ne0: u32,
    pub eps: f32,
}

/// What a kernel rounds to 8 bits beside its result.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct RoundedRows {
    pub out: u64,
    pub out_bytes: u64,
}

/// `rms_norm_q8`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct NormQ8Params {
    pub norm: RowParams,
    pub rounded: RoundedRows,
}

/// `add_rms_norm_q8`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct AddNormQ8Params {
    pub norm: AddNormParams,
    pub rounded: RoundedRows,
}

/// `glu_q8`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct GluQ8Params {
    pub zip: ZipParams,
    pub rounded: RoundedRows,
    pub k: u32,
    pub gelu: u32,
}

/// A tensor that `rope_f32` turns.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct RopeSide {
    pub src: u64,
    pub dst: u64,
    pub src_head: u64,
    pub src_token: u64,
    pub dst_head: u64,
    pub dst_token: u64,
    pub n_head: u32,
    pub groups: u32,
}

/// `rope_f32`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct RopeParams {
    pub sides: [RopeSide; 2],
    pub positions: u64,
    pub factors: u64,
    pub d: u32,
    pub n_dims: u32,
    pub neox: u32,
    pub heads_per_block: u32,
    pub freq_scale: f32,
    pub ext_factor: f32,
    pub ramp_low: f32,
    pub ramp_width: f32,
    pub magnitude: f32,
    pub padding: u32,
    pub base: [f32; ROPE_PAIRS_MAX],
}

/// `get_rows_*`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct GetRowsParams {
    pub table: u64,
    pub ids: u64,
    pub dst: u64,
    pub table_row_bytes: u64,
    pub dst_row: u64,
    pub n: u32,
    pub rows: u32,
    pub chunks: u32,
    pub padding: u32,
}

/// A tensor that `set_rows_*` writes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct SetRowsSide {
    pub src: u64,
    pub cache: u64,
    pub src_row: u64,
    pub cache_row_bytes: u64,
    pub n: u32,
    pub cells: u32,
}

/// `set_rows_*`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct SetRowsParams {
    pub sides: [SetRowsSide; 2],
    pub rows: u64,
    pub chunks: u32,
    pub padding: u32,
}

/// `rope_set_rows_*`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct RopeSetRowsParams {
    pub rope: RopeParams,
    pub keys: SetRowsSide,
    pub values: SetRowsSide,
    pub rows: u64,
}

/// `top_k_f32`, `top_k_parts_f32`, `top_k_merge`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct TopKParams {
    pub src: u64,
    pub winners: u64,
    pub dst: u64,
    pub src_row: u64,
    pub n: u32,
    pub k: u32,
    pub parts: u32,
    pub part_len: u32,
}

/// `expert_weights_f32`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct ExpertWeightsParams {
    pub probs: u64,
    pub ids: u64,
    pub dst: u64,
    pub probs_row: u64,
    pub n_expert: u32,
    pub k: u32,
    pub t: u32,
    pub normalise: u32,
}

/// `router_f32`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct RouterParams {
    pub probs: RowParams,
    pub chosen: TopKParams,
    pub weights: ExpertWeightsParams,
}

/// `expert_sum_f32`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct ExpertSumParams {
    pub src: u64,
    pub weights: u64,
    pub dst: u64,
    pub src_row: u64,
    pub src_plane: u64,
    pub dst_row: u64,
    pub n: u32,
    pub k: u32,
    pub chunks: u32,
    pub vector: u32,
}

/// `flash_attn_*`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine::backend::cuda) struct FlashAttnParams {
    pub q: u64,
    pub k: u64,
    pub v: u64,
    pub mask: u64,
    pub dst: u64,
    pub partials: u64,
    pub stats: u64,
    pub q_head: u64,
    pub q_token: u64,
    pub k_cell_bytes: u64,
    pub k_head_bytes: u64,
    pub v_cell_bytes: u64,
    pub v_head_bytes: u64,
    pub mask_row: u64,
    pub dst_head: u64,
    pub dst_token: u64,
    pub d: u32,
    pub dv: u32,
    pub n_head: u32,
    pub t: u32,
    pub group: u32,
    pub n_kv: u32,
    pub splits: u32,
    pub split_len: u32,
    pub k_type: u32,
    pub v_type: u32,
    pub stages: u32,
    pub mask_pairs: u32,
    pub scale: f32,
    pub softcap: f32,
}

// The sizes that params_ops.cuh asserts.
const _: () = assert!(size_of::<ConcatParams>() == 352);
const _: () = assert!(size_of::<ZipParams>() == 96);
const _: () = assert!(size_of::<RowParams>() == 72);
const _: () = assert!(size_of::<AddNormParams>() == 48);
const _: () = assert!(size_of::<NormQ8Params>() == 88);
const _: () = assert!(size_of::<AddNormQ8Params>() == 64);
const _: () = assert!(size_of::<GluQ8Params>() == 120);
const _: () = assert!(size_of::<RouterParams>() == 168);
const _: () = assert!(size_of::<RopeParams>() == 168 + 4 * ROPE_PAIRS_MAX);
const _: () = assert!(size_of::<GetRowsParams>() == 56);
const _: () = assert!(size_of::<SetRowsParams>() == 96);
const _: () = assert!(size_of::<RopeSetRowsParams>() == size_of::<RopeParams>() + 88);
const _: () = assert!(size_of::<TopKParams>() == 48);
const _: () = assert!(size_of::<ExpertWeightsParams>() == 48);
const _: () = assert!(size_of::<ExpertSumParams>() == 64);
const _: () = assert!(size_of::<FlashAttnParams>() == 184);
