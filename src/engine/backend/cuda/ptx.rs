//! The kernels' PTX, embedded in the binary.
//!
//! Written by `kernels/build.py`; never edited. Invariant: it lists what `kernels/ptx` holds.

/// The kernels of one `.cu` file.
pub(super) struct Unit {
    /// The file's name without its suffix.
    pub name: &'static str,
    /// The kernels that it defines.
    pub kernels: &'static [&'static str],
    /// Its PTX by the compute capability (major, minor) that it needs, lowest first.
    pub ptx: &'static [((u32, u32), &'static str)],
}

/// All units, by name.
pub(super) const UNITS: &[Unit] = &[
    Unit {
        name: "add",
        kernels: &["add_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/add.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/add.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/add.compute_90.ptx")),
        ],
    },
    Unit {
        name: "add_rms_norm",
        kernels: &["add_rms_norm_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/add_rms_norm.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/add_rms_norm.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/add_rms_norm.compute_90.ptx")),
        ],
    },
    Unit {
        name: "concat",
        kernels: &["concat_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/concat.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/concat.compute_80.ptx")),
        ],
    },
    Unit {
        name: "expert_sum",
        kernels: &["expert_sum_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/expert_sum.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/expert_sum.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/expert_sum.compute_90.ptx")),
        ],
    },
    Unit {
        name: "expert_weights",
        kernels: &["expert_weights_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/expert_weights.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/expert_weights.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/expert_weights.compute_90.ptx")),
        ],
    },
    Unit {
        name: "flash_attn",
        kernels: &[
            "flash_attn_few_128",
            "flash_attn_few_256",
            "flash_attn_few_64",
            "flash_attn_few_96",
            "flash_attn_rows_128",
            "flash_attn_rows_256",
            "flash_attn_rows_64",
            "flash_attn_rows_96",
        ],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/flash_attn.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/flash_attn.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/flash_attn.compute_90.ptx")),
        ],
    },
    Unit {
        name: "flash_attn_any",
        kernels: &["flash_attn_any"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/flash_attn_any.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/flash_attn_any.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/flash_attn_any.compute_90.ptx")),
        ],
    },
    Unit {
        name: "flash_attn_merge",
        kernels: &["flash_attn_merge"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/flash_attn_merge.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/flash_attn_merge.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/flash_attn_merge.compute_90.ptx")),
        ],
    },
    Unit {
        name: "get_rows",
        kernels: &[
            "get_rows_bf16",
            "get_rows_f16",
            "get_rows_f32",
            "get_rows_iq4_nl",
            "get_rows_iq4_xs",
            "get_rows_mxfp4",
            "get_rows_q2_k",
            "get_rows_q3_k",
            "get_rows_q4_0",
            "get_rows_q4_1",
            "get_rows_q4_k",
            "get_rows_q5_0",
            "get_rows_q5_1",
            "get_rows_q5_k",
            "get_rows_q6_k",
            "get_rows_q8_0",
        ],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/get_rows.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/get_rows.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/get_rows.compute_90.ptx")),
        ],
    },
    Unit {
        name: "glu",
        kernels: &["glu_gelu_f32", "glu_silu_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/glu.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/glu.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/glu.compute_90.ptx")),
        ],
    },
    Unit {
        name: "glu_q8",
        kernels: &["glu_q8"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/glu_q8.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/glu_q8.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/glu_q8.compute_90.ptx")),
        ],
    },
    Unit {
        name: "group_experts",
        kernels: &["group_experts"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/group_experts.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/group_experts.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul",
        kernels: &["mul_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_bf16",
        kernels: &["mul_mat_narrow_bf16", "mul_mat_wide_bf16"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_bf16.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_bf16.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_f16",
        kernels: &["mul_mat_narrow_f16", "mul_mat_wide_f16"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_f16.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_f16.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_float_bf16",
        kernels: &["mul_mat_few_bf16", "mul_mat_vec_bf16", "mul_mat_vec_glu_bf16"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_float_bf16.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_float_bf16.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_float_bf16.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_float_f16",
        kernels: &["mul_mat_few_f16", "mul_mat_vec_f16", "mul_mat_vec_glu_f16"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_float_f16.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_float_f16.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_float_f16.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_float_f32",
        kernels: &["mul_mat_few_f32", "mul_mat_vec_f32", "mul_mat_vec_glu_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_float_f32.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_float_f32.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_float_f32.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_iq4_nl",
        kernels: &["mul_mat_narrow_iq4_nl", "mul_mat_wide_iq4_nl"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_iq4_nl.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_iq4_nl.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_iq4_xs",
        kernels: &["mul_mat_narrow_iq4_xs", "mul_mat_wide_iq4_xs"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_iq4_xs.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_iq4_xs.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_mxfp4",
        kernels: &["mul_mat_narrow_mxfp4", "mul_mat_wide_mxfp4"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_mxfp4.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_mxfp4.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q2_k",
        kernels: &["mul_mat_narrow_q2_k", "mul_mat_wide_q2_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q2_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q2_k.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q3_k",
        kernels: &["mul_mat_narrow_q3_k", "mul_mat_wide_q3_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q3_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q3_k.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q4_0",
        kernels: &["mul_mat_narrow_q4_0", "mul_mat_wide_q4_0"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q4_0.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q4_0.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q4_1",
        kernels: &["mul_mat_narrow_q4_1", "mul_mat_wide_q4_1"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q4_1.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q4_1.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q4_k",
        kernels: &["mul_mat_narrow_q4_k", "mul_mat_wide_q4_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q4_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q4_k.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q5_0",
        kernels: &["mul_mat_narrow_q5_0", "mul_mat_wide_q5_0"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q5_0.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q5_0.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q5_1",
        kernels: &["mul_mat_narrow_q5_1", "mul_mat_wide_q5_1"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q5_1.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q5_1.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q5_k",
        kernels: &["mul_mat_narrow_q5_k", "mul_mat_wide_q5_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q5_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q5_k.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q6_k",
        kernels: &["mul_mat_narrow_q6_k", "mul_mat_wide_q6_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q6_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q6_k.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_q8_0",
        kernels: &["mul_mat_narrow_q8_0", "mul_mat_wide_q8_0"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_q8_0.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_q8_0.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_iq4_nl",
        kernels: &["mul_mat_few_iq4_nl", "mul_mat_vec_glu_iq4_nl", "mul_mat_vec_iq4_nl"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_iq4_nl.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_iq4_nl.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_iq4_nl.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_iq4_xs",
        kernels: &["mul_mat_few_iq4_xs", "mul_mat_vec_glu_iq4_xs", "mul_mat_vec_iq4_xs"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_iq4_xs.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_iq4_xs.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_iq4_xs.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_mxfp4",
        kernels: &["mul_mat_few_mxfp4", "mul_mat_vec_glu_mxfp4", "mul_mat_vec_mxfp4"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_mxfp4.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_mxfp4.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_mxfp4.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q2_k",
        kernels: &["mul_mat_few_q2_k", "mul_mat_vec_glu_q2_k", "mul_mat_vec_q2_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q2_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q2_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q2_k.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q3_k",
        kernels: &["mul_mat_few_q3_k", "mul_mat_vec_glu_q3_k", "mul_mat_vec_q3_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q3_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q3_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q3_k.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q4_0",
        kernels: &["mul_mat_few_q4_0", "mul_mat_vec_glu_q4_0", "mul_mat_vec_q4_0"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q4_0.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q4_0.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q4_0.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q4_1",
        kernels: &["mul_mat_few_q4_1", "mul_mat_vec_glu_q4_1", "mul_mat_vec_q4_1"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q4_1.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q4_1.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q4_1.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q4_k",
        kernels: &["mul_mat_few_q4_k", "mul_mat_vec_glu_q4_k", "mul_mat_vec_q4_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q4_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q4_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q4_k.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q4_k_q5_k",
        kernels: &["mul_mat_vec_q4_k_q5_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q4_k_q5_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q4_k_q5_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q4_k_q5_k.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q4_k_q6_k",
        kernels: &["mul_mat_vec_q4_k_q6_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q4_k_q6_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q4_k_q6_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q4_k_q6_k.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q5_0",
        kernels: &["mul_mat_few_q5_0", "mul_mat_vec_glu_q5_0", "mul_mat_vec_q5_0"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q5_0.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q5_0.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q5_0.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q5_1",
        kernels: &["mul_mat_few_q5_1", "mul_mat_vec_glu_q5_1", "mul_mat_vec_q5_1"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q5_1.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q5_1.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q5_1.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q5_k",
        kernels: &["mul_mat_few_q5_k", "mul_mat_vec_glu_q5_k", "mul_mat_vec_q5_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q5_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q5_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q5_k.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q5_k_q6_k",
        kernels: &["mul_mat_vec_q5_k_q6_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q5_k_q6_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q5_k_q6_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q5_k_q6_k.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q6_k",
        kernels: &["mul_mat_few_q6_k", "mul_mat_vec_glu_q6_k", "mul_mat_vec_q6_k"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q6_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q6_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q6_k.compute_90.ptx")),
        ],
    },
    Unit {
        name: "mul_mat_vec_q8_0",
        kernels: &["mul_mat_few_q8_0", "mul_mat_vec_glu_q8_0", "mul_mat_vec_q8_0"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul_mat_vec_q8_0.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul_mat_vec_q8_0.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/mul_mat_vec_q8_0.compute_90.ptx")),
        ],
    },
    Unit {
        name: "quantize",
        kernels: &["quantize_f16", "quantize_q8"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/quantize.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/quantize.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/quantize.compute_90.ptx")),
        ],
    },
    Unit {
        name: "rms_norm",
        kernels: &["rms_norm_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/rms_norm.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/rms_norm.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/rms_norm.compute_90.ptx")),
        ],
    },
    Unit {
        name: "rms_norm_q8",
        kernels: &["add_rms_norm_q8", "rms_norm_q8"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/rms_norm_q8.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/rms_norm_q8.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/rms_norm_q8.compute_90.ptx")),
        ],
    },
    Unit {
        name: "rope",
        kernels: &["rope_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/rope.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/rope.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/rope.compute_90.ptx")),
        ],
    },
    Unit {
        name: "rope_set_rows",
        kernels: &[
            "rope_set_rows_bf16",
            "rope_set_rows_f16",
            "rope_set_rows_f32",
            "rope_set_rows_q4_0",
            "rope_set_rows_q4_1",
            "rope_set_rows_q5_0",
            "rope_set_rows_q5_1",
            "rope_set_rows_q8_0",
        ],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/rope_set_rows.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/rope_set_rows.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/rope_set_rows.compute_90.ptx")),
        ],
    },
    Unit {
        name: "router",
        kernels: &["router_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/router.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/router.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/router.compute_90.ptx")),
        ],
    },
    Unit {
        name: "scale",
        kernels: &["scale_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/scale.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/scale.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/scale.compute_90.ptx")),
        ],
    },
    Unit {
        name: "set_rows",
        kernels: &[
            "set_rows_bf16",
            "set_rows_f16",
            "set_rows_f32",
            "set_rows_q4_0",
            "set_rows_q4_1",
            "set_rows_q5_0",
            "set_rows_q5_1",
            "set_rows_q8_0",
        ],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/set_rows.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/set_rows.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/set_rows.compute_90.ptx")),
        ],
    },
    Unit {
        name: "soft_max",
        kernels: &["soft_max_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/soft_max.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/soft_max.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/soft_max.compute_90.ptx")),
        ],
    },
    Unit {
        name: "top_k",
        kernels: &["top_k_f32", "top_k_merge", "top_k_parts_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/top_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/top_k.compute_80.ptx")),
            ((9, 0), include_str!("kernels/ptx/top_k.compute_90.ptx")),
        ],
    },
];
