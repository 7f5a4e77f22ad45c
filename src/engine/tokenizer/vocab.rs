//! The vocabulary as a GGUF file states it: token texts, scores, types, merges and special ids.
//!
//! Plain data, checked once: every id it names lies inside the token list and every array has one
//! entry per token. It deliberately knows nothing of how text is cut or merged; [`super::spm`] and
//! [`super::bpe`] do. Keys and defaults follow the GGUF specification
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>) and llama.cpp's `llama-vocab.cpp`.

use super::TokenizerError;

/// What a token is for, as `tokenizer.ggml.token_type` numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenType {
    /// Not stated.
    Undefined,
    /// A piece of text.
    #[default]
    Normal,
    /// Stands for what the vocabulary cannot express.
    Unknown,
    /// Steers the model; it is no text, and is read from text only on request.
    Control,
    /// Text that is always one token, whatever the merges say.
    UserDefined,
    /// In the vocabulary, but never produced.
    Unused,
    /// One byte, written `<0xNN>`.
    Byte,
}

impl TokenType {
    /// The type of this number in a file; numbers outside the list are [`TokenType::Undefined`].
    pub fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Undefined,
        }
    }

    /// The number of this type in a file.
    pub fn number(self) -> i32 {
        match self {
            Self::Undefined => 0,
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }
}

/// Everything a tokenizer is made from. `tokens`, `types` and (unless empty) `scores` have one entry
/// per token id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocab {
    /// The kind of algorithm, `tokenizer.ggml.model`: `llama` (SentencePiece) or `gpt2` (byte-level
    /// BPE).
    pub model: String,
    /// The rule that cuts text before merging, `tokenizer.ggml.pre`; only `gpt2` uses it. Empty when
    /// the file does not say.
    pub pre: String,
    /// Token texts by id.
    pub tokens: Vec<String>,
    /// SentencePiece scores by id, higher merges first. May be empty for `gpt2`.
    pub scores: Vec<f32>,
    /// Token types by id. Empty means that all are normal.
    pub types: Vec<TokenType>,
    /// BPE merges, `left right`, the first has the highest priority. Empty for `llama`.
    pub merges: Vec<String>,
    /// Beginning of a sequence.
    pub bos: Option<u32>,
    /// End of a sequence.
    pub eos: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// End of a message that a tool call follows.
    pub eom: Option<u32>,
    /// Stands for what cannot be encoded.
    pub unk: Option<u32>,
    /// Fills up batches.
    pub pad: Option<u32>,
    /// Whether encoding puts `bos` first; `None` when the file leaves it to the algorithm's default.
    pub add_bos: Option<bool>,
    /// Whether encoding puts `eos` last; `None` as above.
    pub add_eos: Option<bool>,
    /// Whether SentencePiece puts a space before the text; `None` as above.
    pub add_space_prefix: Option<bool>,
    /// Whether whitespace after a special token is dropped (Phi-3 asks for it).
    pub strip_after_special: bool,
    /// The chat template's Jinja source.
    pub chat_template: Option<String>,
}

impl Vocab {
    /// Checks that the arrays fit together and that every special id exists.
    ///
    /// # Errors
    /// An empty token list, an array of another length, or an id outside the list; the message
    /// names the key and the numbers.
    pub(super) fn check(&self) -> Result<(), TokenizerError> {
        let n = self.tokens.len();
        if n == 0 {
            return Err(TokenizerError::Empty);
        }
        if u32::try_from(n).is_err() {
            return Err(TokenizerError::Length {
                key: "tokenizer.ggml.tokens",
                found: n,
                tokens: n,
            });
        }
        if !self.scores.is_empty() && self.scores.len() != n {
            return Err(TokenizerError::Length {
                key: "tokenizer.ggml.scores",
                found: self.scores.len(),
                tokens: n,
            });
        }
        if !self.types.is_empty() && self.types.len() != n {
            return Err(TokenizerError::Length {
                key: "tokenizer.ggml.token_type",
                found: self.types.len(),
                tokens: n,
            });
        }
        for (key, id) in self.special_ids() {
            if let Some(id) = id
                && id as usize >= n
            {
                return Err(TokenizerError::SpecialId { key, id, tokens: n });
            }
        }
        Ok(())
    }

    /// The type of this id; ids without a stated type are normal.
    pub fn token_type(&self, id: u32) -> TokenType {
        self.types.get(id as usize).copied().unwrap_or_default()
    }

    fn special_ids(&self) -> [(&'static str, Option<u32>); 6] {
        [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.eot_token_id", self.eot),
            ("tokenizer.ggml.eom_token_id", self.eom),
            ("tokenizer.ggml.unknown_token_id", self.unk),
            ("tokenizer.ggml.padding_token_id", self.pad),
        ]
    }
}
