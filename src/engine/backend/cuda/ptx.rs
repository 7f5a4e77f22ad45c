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
        ],
    },
    Unit {
        name: "add_rms_norm",
        kernels: &["add_rms_norm_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/add_rms_norm.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/add_rms_norm.compute_80.ptx")),
        ],
    },
    Unit {
        name: "expert_sum",
        kernels: &["expert_sum_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/expert_sum.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/expert_sum.compute_80.ptx")),
        ],
    },
    Unit {
        name: "expert_weights",
        kernels: &["expert_weights_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/expert_weights.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/expert_weights.compute_80.ptx")),
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
        ],
    },
    Unit {
        name: "flash_attn_any",
        kernels: &["flash_attn_any"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/flash_attn_any.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/flash_attn_any.compute_80.ptx")),
        ],
    },
    Unit {
        name: "flash_attn_merge",
        kernels: &["flash_attn_merge"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/flash_attn_merge.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/flash_attn_merge.compute_80.ptx")),
        ],
    },
    Unit {
        name: "glu",
        kernels: &["glu_gelu_f32", "glu_silu_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/glu.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/glu.compute_80.ptx")),
        ],
    },
    Unit {
        name: "mul",
        kernels: &["mul_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/mul.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/mul.compute_80.ptx")),
        ],
    },
    Unit {
        name: "rms_norm",
        kernels: &["rms_norm_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/rms_norm.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/rms_norm.compute_80.ptx")),
        ],
    },
    Unit {
        name: "rope",
        kernels: &["rope_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/rope.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/rope.compute_80.ptx")),
        ],
    },
    Unit {
        name: "scale",
        kernels: &["scale_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/scale.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/scale.compute_80.ptx")),
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
        ],
    },
    Unit {
        name: "soft_max",
        kernels: &["soft_max_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/soft_max.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/soft_max.compute_80.ptx")),
        ],
    },
    Unit {
        name: "top_k",
        kernels: &["top_k_f32", "top_k_merge", "top_k_parts_f32"],
        ptx: &[
            ((7, 5), include_str!("kernels/ptx/top_k.compute_75.ptx")),
            ((8, 0), include_str!("kernels/ptx/top_k.compute_80.ptx")),
        ],
    },
];
