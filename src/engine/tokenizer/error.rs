//! What can be wrong with a file's tokenizer.

use crate::engine::gguf::GgufError;

/// Why no tokenizer could be made from a file's metadata.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// `tokenizer.ggml.model` is missing.
    #[error("the file has no tokenizer: tokenizer.ggml.model is missing")]
    Missing,
    /// The kind of tokenizer is not one of the two that are implemented.
    #[error(
        "tokenizer.ggml.model is {model:?}, which is not supported; supported are \"llama\" \
         (SentencePiece) and \"gpt2\" (byte-level BPE)"
    )]
    Kind {
        /// What the file says.
        model: String,
    },
    /// The token list has no entry.
    #[error("tokenizer.ggml.tokens is empty")]
    Empty,
    /// An array does not have one entry per token.
    #[error("{key} has {found} entries, but tokenizer.ggml.tokens has {tokens}")]
    Length {
        /// The array's key.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// A special id lies outside the vocabulary.
    #[error("{key} is {id}, but there are only {tokens} tokens")]
    SpecialId {
        /// The id's key.
        key: &'static str,
        /// The id.
        id: u32,
        /// The number of tokens.
        tokens: usize,
    },
    /// `add_bos_token` or `add_eos_token` asks for a token that the file does not name.
    #[error("{flag} is true, but {key} is not set")]
    NoSuchSpecial {
        /// The flag's key.
        flag: &'static str,
        /// The id's key.
        key: &'static str,
    },
    /// An array that this kind of tokenizer cannot do without is missing.
    #[error("a tokenizer of model {model:?} needs {key}, which is missing")]
    Needs {
        /// The kind of tokenizer.
        model: &'static str,
        /// The missing key.
        key: &'static str,
    },
    /// A merge is not two texts with a space between them.
    #[error("tokenizer.ggml.merges[{index}] is {merge:?}, not two texts separated by a space")]
    Merge {
        /// Its place in the list.
        index: usize,
        /// Its text.
        merge: String,
    },
    /// The special tokens' texts, or a pre-tokenizer's rule, make an expression that is too large.
    #[error("the expression that splits text cannot be compiled: {0}")]
    Expression(#[source] Box<regex::Error>),
    /// A key of the metadata is missing or of a wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
}

impl TokenizerError {
    /// What a person can do about it, where something can be done.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing => {
                Some("use a file that carries its vocabulary; projector and adapter files do not")
            }
            Self::Kind { .. } => Some("models with this tokenizer cannot be run here yet"),
            Self::Metadata(_) | Self::Expression(_) => None,
            _ => Some("the file is damaged or was converted wrongly; convert it again"),
        }
    }
}
