//! The operations, their operands and the shape each one yields.
//!
//! Shapes are `(ne0, ne1, ne2)` in ggml's order, `ne0` fastest. `t` is the number of tokens of the
//! ubatch. Names that people see are ggml's where ggml has the operation.

use crate::engine::tensor::DType;

use super::tensor::Tensor;

/// How rotary embedding pairs the elements of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeMode {
    /// Neighbours: `(0, 1), (2, 3), …` (llama).
    Norm,
    /// Halves: `(0, n/2), (1, n/2 + 1), …` (qwen, gemma, phi).
    Neox,
}

/// Parameters of rotary position embedding, as in ggml's `rope_ext`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeParams {
    /// How elements pair.
    pub mode: RopeMode,
    /// Elements of each head that turn; the rest pass unchanged.
    pub n_dims: usize,
    /// Base of the geometric series of frequencies.
    pub freq_base: f32,
    /// Factor on positions: 1 / (linear scaling factor).
    pub freq_scale: f32,
    /// Context length that the model was trained with (YaRN).
    pub n_ctx_orig: usize,
    /// YaRN's mix between interpolation and extrapolation; 0 turns YaRN off.
    pub ext_factor: f32,
    /// Factor on the rotated values.
    pub attn_factor: f32,
    /// YaRN's upper bound of rotations.
    pub beta_fast: f32,
    /// YaRN's lower bound of rotations.
    pub beta_slow: f32,
}

/// The activation of a gated linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GluKind {
    /// `silu(gate) * up`.
    Silu,
    /// `gelu(gate) * up` with the tanh approximation.
    Gelu,
}

/// The most operands of [`Op::Concat`], as many devices as a scheduler of ggml has at most.
pub const CONCAT_MAX: usize = 16;

/// An operation. `src0`, `src1`… are the operands in the order of [`super::Node::src`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Rows of a table: `src0 (n, rows)` any type, `src1` I32 `(t)` → F32 `(n, t)`.
    GetRows,
    /// Matrix product: `src0 (k, n)` any type, `src1` F32 `(k, t)` → F32 `(n, t)`.
    MulMat,
    /// Matrix product by expert: `src0 (k, n, n_expert)` any type, `src1` F32 `(k, 1 | n_used, t)`,
    /// `src2` I32 `(n_used, t)` → F32 `(n, n_used, t)`.
    MulMatId,
    /// Root-mean-square norm over `ne0`, times a weight: `src0` F32 `(n, …)`, `src1` F32 `(n)` →
    /// the shape of `src0`.
    RmsNorm {
        /// Added to the mean square before the root.
        eps: f32,
    },
    /// Rotary embedding: `src0` F32 `(d, n_head, t)`, `src1` I32 `(t)`, optional `src2` F32
    /// `(n_dims / 2)` frequency divisors → the shape of `src0`.
    Rope(RopeParams),
    /// Writes rows into the KV cache, converting: `src0` F32 `(n, t)`, `src1` I32 `(t)` row numbers,
    /// `src2` the cache `(n, cells)`; the result is a view of the cache.
    SetRows,
    /// Attention without the score matrix: `src0` F32 query `(d, n_head, t)`, `src1` keys
    /// `(d, n_kv, n_head_kv)`, `src2` values `(dv, n_kv, n_head_kv)`, `src3` F16 mask
    /// `(n_kv, t)` → F32 `(dv, n_head, t)`. Query head `h` reads key head
    /// `h / (n_head / n_head_kv)`.
    FlashAttn {
        /// Factor on `q · k`.
        scale: f32,
        /// `cap * tanh(score / cap)` before the mask; 0 turns it off.
        softcap: f32,
    },
    /// `src0 + src1`; `src1` has the shape of `src0` or is one row `(n)` for all rows.
    Add,
    /// `src0 * src1`, broadcast as `Add`.
    Mul,
    /// `src0 * factor`.
    Scale {
        /// The factor.
        factor: f32,
    },
    /// Gated linear unit: `src0` gate `(n, …)`, `src1` up, same shape → F32 `(n, …)`.
    Glu(GluKind),
    /// Softmax over `ne0`: F32 `(n, t)` → `(n, t)`.
    SoftMax,
    /// Indices of the `k` largest of each row, largest first, the lower index first among equals,
    /// NaN as −∞: F32 `(n, t)` → I32 `(k, t)`.
    TopK {
        /// How many.
        k: usize,
    },
    /// Weights of the chosen experts: `src0` F32 probabilities `(n_expert, t)`, `src1` I32
    /// `(k, t)` → F32 `(k, t)`. Without `normalise` it gathers values of any kind, logits say.
    ExpertWeights {
        /// Divide by their sum, so that they add up to 1.
        normalise: bool,
    },
    /// Weighted sum over experts: `src0` F32 `(n, k, t)`, `src1` F32 `(k, t)` → F32 `(n, t)`.
    ExpertSum,
    /// Rows side by side: `src0` F32 `(n0, t)`, `src1` F32 `(n1, t)`, … → F32 `(n0 + n1 + …, t)`, up
    /// to [`CONCAT_MAX`] of them: what devices computed of one product.
    Concat,
}

impl Op {
    /// The name that reports print: ggml's where ggml has the operation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GetRows => "GET_ROWS",
            Self::MulMat => "MUL_MAT",
            Self::MulMatId => "MUL_MAT_ID",
            Self::RmsNorm { .. } => "RMS_NORM",
            Self::Rope(_) => "ROPE",
            Self::SetRows => "SET_ROWS",
            Self::FlashAttn { .. } => "FLASH_ATTN_EXT",
            Self::Add => "ADD",
            Self::Mul => "MUL",
            Self::Scale { .. } => "SCALE",
            Self::Glu(_) => "GLU",
            Self::SoftMax => "SOFT_MAX",
            Self::TopK { .. } => "TOP_K",
            Self::ExpertWeights { .. } => "MOE_WEIGHTS",
            Self::ExpertSum => "MOE_SUM",
            Self::Concat => "CONCAT",
        }
    }

    /// Every name that [`Op::name`] can give, for checking what a person typed.
    pub const NAMES: [&'static str; 16] = [
        "GET_ROWS",
        "MUL_MAT",
        "MUL_MAT_ID",
        "RMS_NORM",
        "ROPE",
        "SET_ROWS",
        "FLASH_ATTN_EXT",
        "ADD",
        "MUL",
        "SCALE",
        "GLU",
        "SOFT_MAX",
        "TOP_K",
        "MOE_WEIGHTS",
        "MOE_SUM",
        "CONCAT",
    ];

    /// Type and extents of the result, or what is wrong with the operands.
    pub(super) fn infer(&self, src: &[&Tensor]) -> Result<(DType, [usize; 4]), String> {
        let want = |n: usize| {
            if src.len() == n {
                Ok(())
            } else {
                Err(format!("takes {n} operands, got {}", src.len()))
            }
        };
        let same = |a: &Tensor, b: &Tensor| {
            if a.ne == b.ne {
                Ok(())
            } else {
                Err(format!("shapes {:?} and {:?} differ", a.ne, b.ne))
            }
        };
        match *self {
            Self::GetRows => {
                want(2)?;
                Ok((DType::F32, [src[0].ne[0], src[1].ne[0], 1, 1]))
            }
            Self::MulMat => {
                want(2)?;
                inner(src[0], src[1])?;
                Ok((DType::F32, [src[0].ne[1], src[1].ne[1], 1, 1]))
            }
            Self::MulMatId => {
                want(3)?;
                expert_shape(src[0], src[1], src[2])
            }
            Self::RmsNorm { .. } => {
                want(2)?;
                row_of(src[0], src[1])?;
                Ok((DType::F32, src[0].ne))
            }
            Self::Rope(p) => rope_shape(p, src),
            Self::SetRows => {
                want(3)?;
                if src[0].ne[0] != src[2].ne[0] || src[0].rows() != src[1].ne[0] {
                    return Err(format!("rows {:?} do not fit cache {:?}", src[0].ne, src[2].ne));
                }
                Ok((src[2].dtype, src[2].ne))
            }
            Self::FlashAttn { .. } => attention_shape(src),
            Self::Add | Self::Mul => {
                want(2)?;
                if src[1].rows() == 1 {
                    row_of(src[0], src[1])?;
                } else {
                    same(src[0], src[1])?;
                }
                Ok((DType::F32, src[0].ne))
            }
            Self::Scale { .. } | Self::SoftMax => {
                want(1)?;
                Ok((DType::F32, src[0].ne))
            }
            Self::Glu(_) => {
                want(2)?;
                same(src[0], src[1])?;
                Ok((DType::F32, src[0].ne))
            }
            Self::TopK { k } => {
                want(1)?;
                if k == 0 || k > src[0].ne[0] {
                    return Err(format!("cannot take {k} of {}", src[0].ne[0]));
                }
                Ok((DType::I32, [k, src[0].ne[1], 1, 1]))
            }
            Self::ExpertWeights { .. } => {
                want(2)?;
                Ok((DType::F32, src[1].ne))
            }
            Self::ExpertSum => {
                want(2)?;
                if src[0].ne[1] != src[1].ne[0] || src[0].ne[2] != src[1].ne[1] {
                    return Err(format!("weights {:?} do not fit {:?}", src[1].ne, src[0].ne));
                }
                Ok((DType::F32, [src[0].ne[0], src[0].ne[2], 1, 1]))
            }
            Self::Concat => concat_shape(src),
        }
    }
}

/// Both operands of a product must agree on the summed extent.
fn inner(w: &Tensor, x: &Tensor) -> Result<(), String> {
    if w.ne[0] == x.ne[0] {
        Ok(())
    } else {
        Err(format!("inner extents differ: weight {:?}, activation {:?}", w.ne, x.ne))
    }
}

/// `row` must be one row as long as the rows of `x`.
fn row_of(x: &Tensor, row: &Tensor) -> Result<(), String> {
    if row.ne[0] == x.ne[0] && row.rows() == 1 {
        Ok(())
    } else {
        Err(format!("a row of {:?} does not fit {:?}", row.ne, x.ne))
    }
}

fn attention_shape(src: &[&Tensor]) -> Result<(DType, [usize; 4]), String> {
    let [q, k, v, mask] = src else {
        return Err(format!("takes 4 operands, got {}", src.len()));
    };
    let fits = q.ne[0] == k.ne[0]
        && k.ne[1] == v.ne[1]
        && k.ne[2] == v.ne[2]
        && k.ne[2] > 0
        && q.ne[1].is_multiple_of(k.ne[2])
        && mask.ne[0] == k.ne[1]
        && mask.ne[1] == q.ne[2];
    if !fits {
        return Err(format!(
            "q {:?}, k {:?}, v {:?}, mask {:?} do not fit",
            q.ne, k.ne, v.ne, mask.ne
        ));
    }
    Ok((DType::F32, [v.ne[0], q.ne[1], q.ne[2], 1]))
}

fn expert_shape(w: &Tensor, x: &Tensor, ids: &Tensor) -> Result<(DType, [usize; 4]), String> {
    inner(w, x)?;
    if x.ne[2] != ids.ne[1] || (x.ne[1] != 1 && x.ne[1] != ids.ne[0]) {
        return Err(format!("experts {:?} do not fit rows {:?}", ids.ne, x.ne));
    }
    Ok((DType::F32, [w.ne[1], ids.ne[0], ids.ne[1], 1]))
}

fn concat_shape(src: &[&Tensor]) -> Result<(DType, [usize; 4]), String> {
    if !(2..=CONCAT_MAX).contains(&src.len()) {
        return Err(format!("takes 2 to {CONCAT_MAX} operands, got {}", src.len()));
    }
    let [_, t, ..] = src[0].ne;
    match src.iter().find(|s| s.dtype != DType::F32 || s.ne[1..] != [t, 1, 1]) {
        Some(other) => {
            Err(format!("{} {:?} does not fit beside {:?}", other.dtype, other.ne, src[0].ne))
        }
        None => Ok((DType::F32, [src.iter().map(|s| s.ne[0]).sum(), t, 1, 1])),
    }
}

fn rope_shape(p: RopeParams, src: &[&Tensor]) -> Result<(DType, [usize; 4]), String> {
    let (x, positions, factors) = match src {
        [x, positions] => (x, positions, None),
        [x, positions, factors] => (x, positions, Some(factors)),
        _ => return Err(format!("takes 2 or 3 operands, got {}", src.len())),
    };
    if p.n_dims > x.ne[0] || !p.n_dims.is_multiple_of(2) {
        return Err(format!("cannot rotate {} of {} elements", p.n_dims, x.ne[0]));
    }
    if x.ne[2] != positions.ne[0] {
        return Err(format!("{} positions for {} tokens", positions.ne[0], x.ne[2]));
    }
    match factors {
        Some(f) if f.ne[0] * 2 < p.n_dims => {
            Err(format!("{} factors for {} elements", f.ne[0], p.n_dims))
        }
        _ => Ok((DType::F32, x.ne)),
    }
}
