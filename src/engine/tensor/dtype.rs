//! The list of element types that the engine can read, with their ids, names and block geometry.
//!
//! Ids and names are those of ggml (`enum ggml_type`), because GGUF files carry the ids and users
//! know the names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An element type, as ggml names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(non_camel_case_types, reason = "the names are ggml's, which people search for")]
#[allow(missing_docs, reason = "each format is documented in its own file under `formats`")]
pub enum DType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    MXFP4,
    I32,
}

/// One row of the type table: ggml id, name, elements per block, bytes per block.
struct Row(DType, u32, &'static str, usize, usize);

/// Every type, in the order of the enum, so that `TABLE[dtype as usize]` is its row.
const TABLE: [Row; 17] = [
    Row(DType::F32, 0, "F32", 1, 4),
    Row(DType::F16, 1, "F16", 1, 2),
    Row(DType::BF16, 30, "BF16", 1, 2),
    Row(DType::Q4_0, 2, "Q4_0", 32, 18),
    Row(DType::Q4_1, 3, "Q4_1", 32, 20),
    Row(DType::Q5_0, 6, "Q5_0", 32, 22),
    Row(DType::Q5_1, 7, "Q5_1", 32, 24),
    Row(DType::Q8_0, 8, "Q8_0", 32, 34),
    Row(DType::Q2_K, 10, "Q2_K", 256, 84),
    Row(DType::Q3_K, 11, "Q3_K", 256, 110),
    Row(DType::Q4_K, 12, "Q4_K", 256, 144),
    Row(DType::Q5_K, 13, "Q5_K", 256, 176),
    Row(DType::Q6_K, 14, "Q6_K", 256, 210),
    Row(DType::IQ4_NL, 20, "IQ4_NL", 32, 18),
    Row(DType::IQ4_XS, 23, "IQ4_XS", 256, 136),
    Row(DType::MXFP4, 39, "MXFP4", 32, 17),
    Row(DType::I32, 26, "I32", 1, 4),
];

impl DType {
    /// Every type of weights (`I32` holds token ids and positions, never weights).
    pub const WEIGHTS: [DType; 16] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q2_K,
        DType::Q3_K,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
        DType::IQ4_NL,
        DType::IQ4_XS,
        DType::MXFP4,
    ];

    /// The type with this ggml id, or the reason why the engine cannot use it.
    pub fn from_ggml(id: u32) -> Result<Self, UnsupportedType> {
        TABLE.iter().find(|row| row.1 == id).map(|row| row.0).ok_or(UnsupportedType { id })
    }

    /// The type that ggml prints under this name; case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// The id that GGUF files carry.
    pub fn ggml_id(self) -> u32 {
        TABLE[self as usize].1
    }

    /// The name as ggml prints it.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// Elements per block; 1 for the plain types.
    pub fn block_len(self) -> usize {
        TABLE[self as usize].3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        TABLE[self as usize].4
    }

    /// True for the types whose blocks hold more than one element.
    pub fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of a row of `n` elements, or `None` when `n` is no multiple of the block length or the
    /// result does not fit.
    pub fn row_bytes(self, n: usize) -> Option<usize> {
        let len = self.block_len();
        if !n.is_multiple_of(len) {
            return None;
        }
        (n / len).checked_mul(self.block_bytes())
    }

    /// Average bits per element, block overhead included.
    pub fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A ggml type id that the engine does not implement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("type {} is not supported", ggml_name(*id))]
pub struct UnsupportedType {
    /// The id found in the file.
    pub id: u32,
}

/// The name ggml gives to ids outside our list, so that the error names what the file holds.
fn ggml_name(id: u32) -> String {
    let name = match id {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        40 => "NVFP4",
        _ => return format!("with ggml id {id}"),
    };
    format!("{name} (ggml id {id})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{}", row.2);
            assert_eq!(DType::from_ggml(row.1), Ok(row.0));
            assert_eq!(DType::from_name(&row.2.to_lowercase()), Some(row.0));
        }
    }

    #[test]
    fn an_unknown_id_is_named_where_ggml_names_it() {
        assert_eq!(
            DType::from_ggml(19).unwrap_err().to_string(),
            "type IQ1_S (ggml id 19) is not supported"
        );
        assert_eq!(
            DType::from_ggml(999).unwrap_err().to_string(),
            "type with ggml id 999 is not supported"
        );
    }

    #[test]
    fn a_row_that_cuts_a_block_has_no_size() {
        assert_eq!(DType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(DType::Q4_K.row_bytes(500), None);
        assert_eq!(DType::Q8_0.row_bytes(usize::MAX / 32 * 32), None);
    }
}
