//! From a file's metadata to a vocabulary and a tokenizer.
//!
//! Only keys and defaults live here; what the values mean is checked by [`Tokenizer::new`].

use super::chat::{ChatError, ChatTemplate};
use super::vocab::{TokenType, Vocab};
use super::{Tokenizer, TokenizerError};
use crate::engine::gguf::Metadata;

impl Vocab {
    /// Reads the keys `tokenizer.ggml.*` and `tokenizer.chat_template`.
    ///
    /// For model `llama`, a file that does not name them has the ids of Llama's first vocabulary:
    /// `unk` 0, `bos` 1, `eos` 2.
    ///
    /// # Errors
    /// No tokenizer in the file, a kind that is not supported, or a key of a wrong type.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let model = metadata.opt_str("tokenizer.ggml.model")?.ok_or(TokenizerError::Missing)?;
        if !matches!(model, "llama" | "gpt2") {
            return Err(TokenizerError::Kind { model: model.to_owned() });
        }
        let tokens = metadata.strings("tokenizer.ggml.tokens")?.to_vec();
        let default_id = |id: u32| (model == "llama" && (id as usize) < tokens.len()).then_some(id);
        let id = |name: &str| metadata.opt_u32(&format!("tokenizer.ggml.{name}_token_id"));
        let flag = |name: &str| metadata.opt_bool(&format!("tokenizer.ggml.{name}"));
        let types = match metadata.opt_i32s("tokenizer.ggml.token_type")? {
            Some(numbers) => numbers.iter().map(|&n| TokenType::from_number(n)).collect(),
            None => Vec::new(),
        };
        let name = metadata.opt_str("general.name")?.unwrap_or_default().to_lowercase();
        Ok(Self {
            model: model.to_owned(),
            pre: metadata.opt_str("tokenizer.ggml.pre")?.unwrap_or_default().to_owned(),
            scores: metadata.opt_f32s("tokenizer.ggml.scores")?.unwrap_or_default().to_vec(),
            types,
            merges: metadata.opt_strings("tokenizer.ggml.merges")?.unwrap_or_default().to_vec(),
            bos: id("bos")?.or(default_id(1)),
            eos: id("eos")?.or(default_id(2)),
            eot: id("eot")?,
            eom: id("eom")?,
            unk: id("unknown")?.or(default_id(0)),
            pad: id("padding")?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            // No key says so; llama.cpp goes by the name as well.
            strip_after_special: name.contains("phi-3") || name.contains("phi3"),
            chat_template: metadata.opt_str("tokenizer.chat_template")?.map(str::to_owned),
            tokens,
        })
    }
}

impl Tokenizer {
    /// The tokenizer that a file carries.
    ///
    /// # Errors
    /// Those of [`Vocab::from_metadata`] and of [`Tokenizer::new`].
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        Self::new(Vocab::from_metadata(metadata)?)
    }

    /// The chat template that the file carries, compiled; `None` when it carries none.
    ///
    /// # Errors
    /// The template is no valid Jinja.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ChatError> {
        let text = |id: Option<u32>| id.and_then(|id| self.token_text(id)).unwrap_or_default();
        let vocab = self.vocab();
        let compile = |source| ChatTemplate::new(source, text(vocab.bos), text(vocab.eos));
        vocab.chat_template.as_deref().map(compile).transpose()
    }

    /// The tokens of a prompt made by a chat template: control tokens are read, and the
    /// beginning-of-sequence token is not doubled where the template has written it already.
    pub fn encode_prompt(&self, prompt: &str) -> Vec<u32> {
        let written = self
            .vocab()
            .bos
            .and_then(|id| self.token_text(id))
            .is_some_and(|bos| !bos.is_empty() && prompt.starts_with(bos));
        let mut tokens = self.encode(prompt, !written, true);
        // `add_special` stands for both ends of the sequence.
        if written && self.adds_eos() {
            tokens.extend(self.vocab().eos);
        }
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gguf::Value;

    fn metadata() -> Metadata {
        let mut metadata = Metadata::new();
        let tokens =
            ["<unk>", "<s>", "</s>", "▁", "a", "<0x0A>", "<|x|>"].map(String::from).to_vec();
        metadata
            .set("tokenizer.ggml.model", "llama")
            .set("tokenizer.ggml.tokens", Value::from(tokens))
            .set("tokenizer.ggml.scores", Value::from(vec![0f32; 7]))
            .set("tokenizer.ggml.token_type", Value::from(vec![2i32, 3, 3, 1, 1, 6, 3]))
            .set("tokenizer.ggml.eot_token_id", 6u32)
            .set(
                "tokenizer.chat_template",
                "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}",
            );
        metadata
    }

    #[test]
    fn a_whole_vocabulary() {
        let tokenizer = Tokenizer::from_metadata(&metadata()).unwrap();
        assert_eq!(tokenizer.encode("a\n", true, false), [1, 3, 4, 5]);
        assert_eq!(tokenizer.end_of_generation(), [2, 6]);
        assert_eq!(tokenizer.vocab().unk, Some(0));
        let template = tokenizer.chat_template().unwrap().unwrap();
        let messages = [super::super::chat::Message::new("user", "a")];
        let prompt = template.render(&messages, true, &serde_json::Map::new()).unwrap();
        assert_eq!(prompt, "<s>a</s>");
        assert_eq!(tokenizer.encode_prompt(&prompt), [1, 3, 4, 2], "<s> is not doubled");
        assert_eq!(tokenizer.encode_prompt("a"), [1, 3, 4]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |change: &dyn Fn(&mut Metadata) -> &mut Metadata| {
            let mut metadata = metadata();
            change(&mut metadata);
            Tokenizer::from_metadata(&metadata).unwrap_err().to_string()
        };
        let empty = Tokenizer::from_metadata(&Metadata::new()).unwrap_err();
        assert!(matches!(empty, TokenizerError::Missing));
        assert!(empty.hint().is_some());
        for kind in ["bert", "t5", "rwkv"] {
            let text = message(&|m| m.set("tokenizer.ggml.model", kind));
            assert!(text.contains(kind) && text.contains("gpt2"), "{text}");
        }
        assert_eq!(
            message(&|m| m.set("tokenizer.ggml.scores", Value::from(vec![0f32; 6]))),
            "tokenizer.ggml.scores has 6 entries, but tokenizer.ggml.tokens has 7"
        );
        assert_eq!(
            message(&|m| m.set("tokenizer.ggml.bos_token_id", 7u32)),
            "tokenizer.ggml.bos_token_id is 7, but there are only 7 tokens"
        );
        let wrong_type = message(&|m| m.set("tokenizer.ggml.tokens", 3u32));
        assert!(wrong_type.contains("tokenizer.ggml.tokens"), "{wrong_type}");
        assert_eq!(
            message(&|m| m.set("tokenizer.ggml.model", "gpt2")),
            "a tokenizer of model \"gpt2\" needs tokenizer.ggml.merges, which is missing"
        );
        let merges = Value::from(vec!["a a".to_owned(), "aa".to_owned()]);
        assert_eq!(
            message(&|m| m
                .set("tokenizer.ggml.model", "gpt2")
                .set("tokenizer.ggml.merges", merges.clone())),
            "tokenizer.ggml.merges[1] is \"aa\", not two texts separated by a space"
        );
    }

    #[test]
    fn an_unknown_pre_tokenizer_is_noted() {
        for (pre, notes) in [("gpt-2", 0), ("no-such-rule", 1)] {
            let mut metadata = metadata();
            metadata
                .set("tokenizer.ggml.model", "gpt2")
                .set("tokenizer.ggml.unknown_token_id", 0u32)
                .set("tokenizer.ggml.pre", pre)
                .set("tokenizer.ggml.merges", Value::from(vec!["a a".to_owned()]));
            let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
            assert_eq!(tokenizer.notes().len(), notes, "{:?}", tokenizer.notes());
            assert!(tokenizer.notes().iter().all(|note| note.contains(pre)));
        }
    }
}
