//! A vocabulary of any size that every text can be encoded with.
//!
//! It is no model's own vocabulary: special tokens, all bytes, a few pieces of English, and words
//! that stand for nothing. What matters is that its size is right, because the embedding and the
//! output matrix have one row per token, and that prompts and answers are text.

use crate::engine::gguf::Metadata;
use crate::engine::tokenizer::TokenType;

/// Control tokens, from id 1 on. llama.cpp wants the last of them in every model whose name says
/// Phi-3.
const CONTROL: [&str; 3] = ["<s>", "</s>", "<|endoftext|>"];

/// Pieces by rank: letters first, so that any lower-case word has a spelling without bytes.
const PIECES: &str = "▁ e t a o i n s h r d l c u m w f g y p b v k j x q z . , \
    ▁t he ▁a in re on er ▁the nd ▁s at ou is or en it ing ▁o ▁w es ed an ▁and ar ▁b al ▁c ▁of ▁to";

/// The smallest vocabulary: what cannot be left out. The space is the one piece among it, because
/// its sign is no text that could be spelled in bytes.
pub(super) const FEWEST: usize = 1 + CONTROL.len() + 256 + 1;

/// Adds a tokenizer of `n_vocab` tokens, at least [`FEWEST`], in the keys of converted
/// SentencePiece models.
pub(super) fn add(metadata: &mut Metadata, n_vocab: usize) {
    let mut tokens = Vec::with_capacity(n_vocab);
    let mut types = Vec::with_capacity(n_vocab);
    let mut scores = Vec::with_capacity(n_vocab);
    let mut add = |text: String, kind: TokenType, score: f32| {
        tokens.push(text);
        types.push(kind.number());
        scores.push(score);
    };
    add("<unk>".to_owned(), TokenType::Unknown, 0.0);
    for text in CONTROL {
        add(text.to_owned(), TokenType::Control, 0.0);
    }
    for byte in 0..=255u8 {
        add(format!("<0x{byte:02X}>"), TokenType::Byte, 0.0);
    }
    let fillers = (0..).map(|i: usize| format!("▁w{i}"));
    let words = PIECES.split_whitespace().map(str::to_owned).chain(fillers);
    for (rank, text) in words.take(n_vocab.saturating_sub(FEWEST - 1)).enumerate() {
        add(text, TokenType::Normal, -(rank as f32));
    }
    metadata
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.pre", "default")
        .set("tokenizer.ggml.tokens", tokens)
        .set("tokenizer.ggml.scores", scores)
        .set("tokenizer.ggml.token_type", types)
        .set("tokenizer.ggml.bos_token_id", 1u32)
        .set("tokenizer.ggml.eos_token_id", 2u32)
        .set("tokenizer.ggml.unknown_token_id", 0u32)
        .set("tokenizer.ggml.add_bos_token", true)
        .set("tokenizer.ggml.add_eos_token", false);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::engine::tokenizer::Tokenizer;

    #[test]
    fn every_text_survives_in_vocabularies_of_any_size() {
        for n_vocab in [FEWEST, FEWEST + 1, FEWEST + 40, 32000] {
            let mut metadata = Metadata::new();
            add(&mut metadata, n_vocab);
            let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap();
            assert_eq!(tokens.len(), n_vocab);
            assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), n_vocab);
            let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
            for text in ["the end of it, and the rest.", "w12 Ünïcode\n\t日本", ""] {
                let ids = tokenizer.encode(text, true, true);
                assert_eq!(ids[0], 1);
                assert_eq!(tokenizer.decode(&ids[1..]).trim_start(), text, "{n_vocab}");
            }
        }
    }
}
