//! File types: which element type each tensor of a model gets under one of llama.cpp's mixes.
//!
//! `Q4_K_M` is no element type but a recipe: mostly `Q4_K`, with more bits where they help most.
//! This is the choice that `llama-quantize` makes without an importance matrix and without options,
//! written as a function of one tensor's name and shape. It deliberately knows nothing of files: it
//! is used to lay out synthetic models and to predict sizes.
//!
//! Where llama.cpp counts the tensors of a kind as it meets them, the layer number in the tensor's
//! name is used here. The two agree for models in which every layer has the same tensors.
//!
//! Source: `src/llama-quant.cpp` of llama.cpp; checked against the library itself, see
//! `fixtures/quant/README.md`.

use super::dtype::DType;

/// A file type, by the name that `llama-quantize` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "the names are llama.cpp's, which people search for")]
#[allow(missing_docs, reason = "each is named after the element type that most tensors get")]
pub enum FileType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    /// Experts in `MXFP4`, all else in `Q8_0`; other names in use are `MXFP4` and `MXFP4 MoE`.
    MXFP4_MOE,
}

/// One row of the table of file types: the value of `general.file_type`, the name, the element type
/// of a tensor for which the mix has no special rule.
struct Row(FileType, u32, &'static str, DType);

/// Every file type, in the order of the enum, so that `TABLE[file_type as usize]` is its row.
const TABLE: [Row; 20] = [
    Row(FileType::F32, 0, "F32", DType::F32),
    Row(FileType::F16, 1, "F16", DType::F16),
    Row(FileType::BF16, 32, "BF16", DType::BF16),
    Row(FileType::Q4_0, 2, "Q4_0", DType::Q4_0),
    Row(FileType::Q4_1, 3, "Q4_1", DType::Q4_1),
    Row(FileType::Q5_0, 8, "Q5_0", DType::Q5_0),
    Row(FileType::Q5_1, 9, "Q5_1", DType::Q5_1),
    Row(FileType::Q8_0, 7, "Q8_0", DType::Q8_0),
    Row(FileType::Q2_K, 10, "Q2_K", DType::Q2_K),
    Row(FileType::Q3_K_S, 11, "Q3_K_S", DType::Q3_K),
    Row(FileType::Q3_K_M, 12, "Q3_K_M", DType::Q3_K),
    Row(FileType::Q3_K_L, 13, "Q3_K_L", DType::Q3_K),
    Row(FileType::Q4_K_S, 14, "Q4_K_S", DType::Q4_K),
    Row(FileType::Q4_K_M, 15, "Q4_K_M", DType::Q4_K),
    Row(FileType::Q5_K_S, 16, "Q5_K_S", DType::Q5_K),
    Row(FileType::Q5_K_M, 17, "Q5_K_M", DType::Q5_K),
    Row(FileType::Q6_K, 18, "Q6_K", DType::Q6_K),
    Row(FileType::IQ4_NL, 25, "IQ4_NL", DType::IQ4_NL),
    Row(FileType::IQ4_XS, 30, "IQ4_XS", DType::IQ4_XS),
    Row(FileType::MXFP4_MOE, 38, "MXFP4_MOE", DType::MXFP4),
];

/// Short names for the medium mixes, as `llama-quantize` has them, and common spellings.
const ALIASES: [(&str, FileType); 5] = [
    ("Q3_K", FileType::Q3_K_M),
    ("Q4_K", FileType::Q4_K_M),
    ("Q5_K", FileType::Q5_K_M),
    ("MXFP4", FileType::MXFP4_MOE),
    ("MXFP4 MoE", FileType::MXFP4_MOE),
];

/// What a mix wants to know of the model, apart from the tensor at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape<'a> {
    /// `general.architecture`.
    pub arch: &'a str,
    /// Layers, `{arch}.block_count`.
    pub n_layer: usize,
    /// Query heads per key-value head.
    pub n_gqa: usize,
    /// Experts per layer; 0 for a dense model.
    pub n_expert: usize,
    /// Whether the token embedding serves as output too, so that the file has no `output.weight`.
    pub tied_embeddings: bool,
}

/// The part a tensor plays, as far as mixes tell parts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    TokenEmbedding,
    Output,
    /// Values, also when fused with queries and keys or compressed with keys.
    AttentionValue,
    AttentionKey,
    AttentionOutput,
    FfnDown,
    Other,
}

impl FileType {
    /// Every file type.
    pub const ALL: [FileType; TABLE.len()] = {
        let mut all = [FileType::F32; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    /// The file type of this name; case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        let row = TABLE.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0);
        let alias = || ALIASES.iter().find(|a| a.0.eq_ignore_ascii_case(name)).map(|a| a.1);
        row.or_else(alias)
    }

    /// The file type that GGUF files denote by this `general.file_type`, when it is one of ours.
    pub fn from_ggml(id: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    /// The name that `llama-quantize` takes.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// The value of `general.file_type` in GGUF files.
    pub fn ggml_id(self) -> u32 {
        TABLE[self as usize].1
    }

    /// The element type of tensors for which the mix has no special rule.
    pub fn default_type(self) -> DType {
        TABLE[self as usize].3
    }

    /// The element type of the tensor `name` with the shape `shape` (ggml order, `ne0` fastest).
    ///
    /// Tensors that are never quantised (of one dimension, norms, expert routers, convolutions, and
    /// a few small ones) stay `F32`, the type in which converters write them.
    pub fn tensor_type(self, name: &str, shape: &[usize], model: &ModelShape) -> DType {
        if !is_quantisable(name, shape) {
            return DType::F32;
        }
        let wanted = self.default_type();
        if !wanted.is_quantised() {
            return wanted;
        }
        let role = role_of(name);
        let tied = role == Role::TokenEmbedding && model.tied_embeddings;
        let wanted = if role == Role::Output || tied {
            self.output_type(shape, model)
        } else if self == FileType::MXFP4_MOE {
            let is_expert = shape.get(2).is_some_and(|&n| n > 1);
            if is_expert { DType::MXFP4 } else { DType::Q8_0 }
        } else {
            let layer = layer_of(name);
            match role {
                Role::AttentionValue => self.attention_value_type(layer, model),
                Role::AttentionKey if model.n_expert == 8 => DType::Q8_0,
                Role::AttentionOutput => self.attention_output_type(model),
                Role::FfnDown => self.ffn_down_type(layer, model),
                _ => wanted,
            }
        };
        fit_row(wanted, shape[0])
    }

    /// The output decides over every token, so it gets 6 bits even where the rest gets 2.
    fn output_type(self, shape: &[usize], model: &ModelShape) -> DType {
        let wanted = self.default_type();
        let cut = !shape[0].is_multiple_of(wanted.block_len());
        if self == FileType::MXFP4_MOE || model.arch == "falcon" || cut {
            DType::Q8_0
        } else if wanted == DType::Q8_0 {
            wanted
        } else {
            DType::Q6_K
        }
    }

    /// Values are small when many query heads share them, and errors in them are costly.
    fn attention_value_type(self, layer: usize, model: &ModelShape) -> DType {
        let shared = model.n_gqa >= 4;
        let wanted = match self {
            FileType::Q2_K => {
                if shared {
                    DType::Q4_K
                } else {
                    DType::Q3_K
                }
            }
            FileType::Q3_K_M if layer < 2 => DType::Q5_K,
            FileType::Q3_K_M => DType::Q4_K,
            FileType::Q3_K_L => DType::Q5_K,
            FileType::IQ4_NL | FileType::IQ4_XS if shared => DType::Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if gets_more_bits(layer, model.n_layer) => {
                DType::Q6_K
            }
            FileType::Q4_K_S if layer < 4 => DType::Q5_K,
            _ => self.default_type(),
        };
        if model.n_expert == 8 {
            DType::Q8_0
        } else if model.is_70b() && matches!(wanted, DType::Q3_K | DType::Q4_K) {
            DType::Q5_K
        } else {
            wanted
        }
    }

    fn attention_output_type(self, model: &ModelShape) -> DType {
        let falcon = model.arch == "falcon";
        match self {
            FileType::Q3_K_L if falcon => DType::Q4_K,
            _ if falcon => self.default_type(),
            FileType::Q2_K
            | FileType::Q3_K_S
            | FileType::Q3_K_M
            | FileType::IQ4_NL
            | FileType::IQ4_XS
            | FileType::Q4_K_S
            | FileType::Q4_K_M
                if model.n_expert == 8 =>
            {
                DType::Q5_K
            }
            _ if model.n_expert == 8 => self.default_type(),
            FileType::Q2_K => DType::Q3_K,
            FileType::Q3_K_M => DType::Q4_K,
            FileType::Q3_K_L => DType::Q5_K,
            _ => self.default_type(),
        }
    }

    fn ffn_down_type(self, layer: usize, model: &ModelShape) -> DType {
        let n = model.n_layer;
        let falcon = model.arch == "falcon";
        match self {
            FileType::Q2_K => DType::Q3_K,
            FileType::Q3_K_M if layer < n / 16 => DType::Q5_K,
            FileType::Q3_K_M if falcon && !gets_more_bits(layer, n) => DType::Q3_K,
            FileType::Q3_K_M => DType::Q4_K,
            FileType::Q3_K_L if falcon => DType::Q4_K,
            FileType::Q3_K_L => DType::Q5_K,
            FileType::Q4_K_M if falcon && layer < n / 16 => DType::Q6_K,
            FileType::Q4_K_M if falcon && gets_more_bits(layer, n) => DType::Q5_K,
            FileType::Q4_K_M if falcon => DType::Q4_K,
            FileType::Q4_K_M | FileType::Q5_K_M if gets_more_bits(layer, n) => DType::Q6_K,
            FileType::IQ4_NL | FileType::IQ4_XS if layer < n / 8 => DType::Q5_K,
            FileType::Q4_K_S if !falcon && layer < n / 8 => DType::Q5_K,
            _ => self.default_type(),
        }
    }
}

impl ModelShape<'_> {
    /// Whether llama.cpp takes this for a model of 70 billion parameters, judging by architecture
    /// and layers as it does.
    fn is_70b(&self) -> bool {
        match self.arch {
            "llama" => self.n_layer == 80 && self.n_gqa > 1,
            "qwen2" | "deci" => self.n_layer == 80,
            _ => false,
        }
    }
}

/// The layers to which the medium mixes give more bits: the first and last eighth, and every third
/// between.
fn gets_more_bits(layer: usize, n_layer: usize) -> bool {
    let eighth = n_layer / 8;
    layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2
}

/// The layer in `blk.<layer>.…`; 0 for tensors outside the layers.
fn layer_of(name: &str) -> usize {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
    number.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn role_of(name: &str) -> Role {
    match name {
        "output.weight" => return Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => return Role::TokenEmbedding,
        _ => {}
    }
    // The first match counts; experts have the same stems with a suffix.
    let stems = [
        ("attn_qkv.weight", Role::AttentionValue),
        ("attn_kv_b.weight", Role::AttentionValue),
        ("attn_v.weight", Role::AttentionValue),
        ("attn_k.weight", Role::AttentionKey),
        ("attn_output.weight", Role::AttentionOutput),
        ("ffn_down", Role::FfnDown),
    ];
    stems.iter().find(|(stem, _)| name.contains(stem)).map_or(Role::Other, |&(_, role)| role)
}

/// Parts of names whose tensors are too small or too sensitive to quantise.
const KEPT: [&str; 12] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "attn_rel_b.weight",
    "position_embd",
    "token_types.weight",
    ".patch_embd",
    "time_mix_",
];

fn is_quantisable(name: &str, shape: &[usize]) -> bool {
    let is_vector = shape.iter().skip(1).all(|&n| n == 1);
    !is_vector && name.ends_with("weight") && !KEPT.iter().any(|part| name.contains(part))
}

/// `wanted`, or what replaces it in rows that are no whole number of its blocks.
///
/// Older versions of llama.cpp put `IQ4_NL` where `Q2_K` and `Q3_K` do not fit.
fn fit_row(wanted: DType, row: usize) -> DType {
    let fits = |dtype: DType| row.is_multiple_of(dtype.block_len());
    if fits(wanted) {
        return wanted;
    }
    let smaller = match wanted {
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        DType::IQ4_XS => DType::IQ4_NL,
        _ => DType::F16,
    };
    if fits(smaller) { smaller } else { DType::F16 }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const DENSE: ModelShape =
        ModelShape { arch: "llama", n_layer: 32, n_gqa: 4, n_expert: 0, tied_embeddings: false };

    fn llama(file_type: FileType, name: &str) -> DType {
        file_type.tensor_type(name, &[4096, 4096], &DENSE)
    }

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{}", row.2);
            assert_eq!(FileType::ALL[i], row.0);
            assert_eq!(FileType::from_ggml(row.1), Some(row.0));
            assert_eq!(FileType::from_name(&row.2.to_lowercase()), Some(row.0));
        }
        assert_eq!(FileType::from_name("q4_k"), Some(FileType::Q4_K_M));
        assert_eq!(FileType::from_name("Q9_K"), None);
        assert_eq!(FileType::from_ggml(4), None);
    }

    #[test]
    fn the_medium_mix_gives_more_bits_at_both_ends_and_to_every_third_layer() {
        let down = |layer| llama(FileType::Q4_K_M, &format!("blk.{layer}.ffn_down.weight"));
        let layers: Vec<usize> = (0..32).filter(|&layer| down(layer) == DType::Q6_K).collect();
        assert_eq!(layers, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!(llama(FileType::Q4_K_M, "blk.5.ffn_up.weight"), DType::Q4_K);
        assert_eq!(llama(FileType::Q4_K_M, "output.weight"), DType::Q6_K);
        assert_eq!(llama(FileType::Q4_K_M, "token_embd.weight"), DType::Q4_K);
    }

    #[test]
    fn rows_that_cut_a_block_fall_back() {
        let tensor = |file_type: FileType, row| {
            file_type.tensor_type("blk.9.ffn_up.weight", &[row, 64], &DENSE)
        };
        assert_eq!(tensor(FileType::Q4_K_S, 896), DType::Q5_0);
        assert_eq!(tensor(FileType::Q5_K_S, 896), DType::Q5_1);
        assert_eq!(tensor(FileType::Q6_K, 896), DType::Q8_0);
        assert_eq!(tensor(FileType::Q6_K, 100), DType::F16);
    }

    #[test]
    fn vectors_norms_and_routers_stay_f32() {
        for file_type in FileType::ALL {
            let kept = |name, shape: &[usize]| file_type.tensor_type(name, shape, &DENSE);
            assert_eq!(kept("blk.0.attn_q.bias", &[4096]), DType::F32);
            assert_eq!(kept("output_norm.weight", &[4096]), DType::F32);
            assert_eq!(kept("blk.0.attn_q_norm.weight", &[128, 32]), DType::F32);
            assert_eq!(kept("blk.0.ffn_gate_inp.weight", &[4096, 8]), DType::F32);
        }
    }

    /// Every tensor of ten models under twenty file types, as llama.cpp itself decided.
    #[test]
    fn every_choice_is_that_of_llama_cpp() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/quant/mixes.json");
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let number = |v: &Value| usize::try_from(v.as_u64().unwrap()).unwrap();
        let ids = file["file_types"].as_object().unwrap();
        assert_eq!(ids.len(), FileType::ALL.len());
        for (name, id) in ids {
            let file_type = FileType::from_name(name).unwrap();
            assert_eq!(number(id), file_type.ggml_id() as usize, "{name}");
        }
        let mut checked = 0;
        for model in file["models"].as_array().unwrap() {
            let shape = ModelShape {
                arch: model["arch"].as_str().unwrap(),
                n_layer: number(&model["n_layer"]),
                n_gqa: number(&model["n_head"]) / number(&model["n_head_kv"]),
                n_expert: number(&model["n_expert"]),
                tied_embeddings: model["tied_embeddings"].as_bool().unwrap(),
            };
            for (file_type, types) in model["types"].as_object().unwrap() {
                let tensors = model["tensors"].as_array().unwrap();
                let types = types.as_array().unwrap();
                assert_eq!(tensors.len(), types.len());
                for (tensor, want) in tensors.iter().zip(types) {
                    let name = tensor[0].as_str().unwrap();
                    let dims: Vec<usize> =
                        tensor[1].as_array().unwrap().iter().map(number).collect();
                    let got =
                        FileType::from_name(file_type).unwrap().tensor_type(name, &dims, &shape);
                    let at = format!("{} as {file_type}: {name} {dims:?}", model["name"]);
                    assert_eq!(got.name(), want.as_str().unwrap(), "{at}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 10_000, "{checked}");
    }
}
