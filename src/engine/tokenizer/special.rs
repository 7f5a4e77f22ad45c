//! Special tokens in text, and which tokens end generation.
//!
//! Text is searched once, from the left, and the longest token wins at each place, as the Hugging
//! Face `tokenizers` library and SentencePiece do. (llama.cpp searches the whole text for each token
//! in turn, longest first; the two differ only where special tokens overlap.)

use std::collections::HashMap;

use regex::Regex;

use super::TokenizerError;
use super::vocab::{TokenType, Vocab};

/// A part of a text: a special token, or text in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment<'t> {
    /// Ordinary text, not empty.
    Text(&'t str),
    /// A special token.
    Token(u32),
}

/// Finds special tokens.
#[derive(Debug)]
pub(super) struct Specials {
    ids: HashMap<String, u32>,
    /// Tokens that are always one token, whatever the caller wants.
    user_defined: Option<Regex>,
    /// These and control tokens.
    all: Option<Regex>,
    /// Tokens after which whitespace is dropped.
    strip_after: Vec<u32>,
}

impl Specials {
    /// `normalize` brings a token's text into the form of the texts that will be searched.
    pub(super) fn new(
        vocab: &Vocab,
        normalize: impl Fn(&str) -> String,
    ) -> Result<Self, TokenizerError> {
        let mut ids = HashMap::new();
        let mut user_defined = Vec::new();
        let mut all = Vec::new();
        let mut strip_after = Vec::new();
        for (id, text) in (0u32..).zip(&vocab.tokens) {
            let kind = vocab.token_type(id);
            let special =
                matches!(kind, TokenType::Control | TokenType::UserDefined | TokenType::Unknown);
            if !special || text.is_empty() {
                continue;
            }
            let text = normalize(text);
            if kind == TokenType::UserDefined {
                user_defined.push(text.clone());
            }
            let strips = !matches!(text.as_str(), "<unk>" | "<s>" | "<|endoftext|>");
            if vocab.strip_after_special && strips {
                strip_after.push(id);
            }
            all.push(text.clone());
            ids.entry(text).or_insert(id);
        }
        Ok(Self { ids, user_defined: any_of(user_defined)?, all: any_of(all)?, strip_after })
    }

    /// Cuts `text` at special tokens and hands out the fragments in order.
    pub(super) fn split<'t>(
        &self,
        text: &'t str,
        parse_special: bool,
        mut fragment: impl FnMut(Fragment<'t>),
    ) {
        let expression = if parse_special { &self.all } else { &self.user_defined };
        let mut at = 0;
        if let Some(expression) = expression {
            while let Some(found) = expression.find_at(text, at) {
                if found.start() > at {
                    fragment(Fragment::Text(&text[at..found.start()]));
                }
                at = found.end();
                // Every alternative of the expression is a key of the map.
                let Some(&id) = self.ids.get(found.as_str()) else { continue };
                fragment(Fragment::Token(id));
                if self.strip_after.contains(&id) {
                    at = text.len() - text[at..].trim_start_matches(BLANK).len();
                }
            }
        }
        if at < text.len() {
            fragment(Fragment::Text(&text[at..]));
        }
    }
}

/// What is dropped after a token that strips; U+2581 is SentencePiece's space.
const BLANK: [char; 5] = [' ', '\t', '\n', '\r', '\u{2581}'];

/// An expression that matches the longest of these texts; `None` for no texts.
fn any_of(mut texts: Vec<String>) -> Result<Option<Regex>, TokenizerError> {
    if texts.is_empty() {
        return Ok(None);
    }
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let alternatives: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
    // Gemma has over 6,000 such tokens, so the default limit of 10 MiB could be too low.
    regex::RegexBuilder::new(&alternatives.join("|"))
        .size_limit(256 << 20)
        .build()
        .map(Some)
        .map_err(|error| TokenizerError::Expression(Box::new(error)))
}

/// Texts of tokens that end generation whatever the file's special ids say, as llama.cpp lists
/// them: end of sequence, of a turn, or of a message before a tool call.
const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // Fill-in-the-middle padding, repository and file marks: a completion stops there.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// The ids that end generation, ascending.
pub(super) fn end_of_generation(vocab: &Vocab) -> Vec<u32> {
    let mut ids: Vec<u32> = (0u32..)
        .zip(&vocab.tokens)
        .filter(|(_, text)| END_NAMES.contains(&text.as_str()))
        .map(|(id, _)| id)
        .collect();
    let text = |id: &u32| vocab.tokens[*id as usize].as_str();
    let has = |name: &str, ids: &[u32]| ids.iter().any(|id| text(id) == name);
    // Formats with channels end a message with <|end|> and go on; <|return|> and <|call|> end.
    let channels = has("<|return|>", &ids) && has("<|call|>", &ids)
        || has("<|flush|>", &ids) && (has("<|call|>", &ids) || has("<|calls|>", &ids));
    // Gemma 4 has </s> as ordinary text.
    let gemma4 = has("<|tool_response>", &ids);
    ids.retain(|id| !(channels && text(id) == "<|end|>" || gemma4 && text(id) == "</s>"));
    ids.extend([vocab.eos, vocab.eot, vocab.eom].into_iter().flatten());
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab(tokens: &[(&str, TokenType)]) -> Vocab {
        Vocab {
            tokens: tokens.iter().map(|(text, _)| (*text).to_owned()).collect(),
            types: tokens.iter().map(|&(_, kind)| kind).collect(),
            ..Vocab::default()
        }
    }

    fn fragments<'t>(specials: &Specials, text: &'t str, parse: bool) -> Vec<Fragment<'t>> {
        let mut out = Vec::new();
        specials.split(text, parse, |fragment| out.push(fragment));
        out
    }

    #[test]
    fn longest_token_wins_and_control_needs_asking() {
        use Fragment::{Text, Token};
        let vocab = vocab(&[
            ("<a", TokenType::Control),
            ("<a>", TokenType::Control),
            ("\n\n", TokenType::UserDefined),
            ("\n\n\n", TokenType::UserDefined),
            ("plain", TokenType::Normal),
        ]);
        let specials = Specials::new(&vocab, str::to_owned).unwrap();
        let text = "x<a>\n\n\n\n\nplain<a";
        assert_eq!(
            fragments(&specials, text, true),
            [Text("x"), Token(1), Token(3), Token(2), Text("plain"), Token(0)]
        );
        assert_eq!(
            fragments(&specials, text, false),
            [Text("x<a>"), Token(3), Token(2), Text("plain<a")]
        );
        assert_eq!(fragments(&specials, "", true), []);
    }

    #[test]
    fn whitespace_after_special_tokens_is_dropped_on_request() {
        use Fragment::{Text, Token};
        let mut vocab = vocab(&[("<|user|>", TokenType::Control), ("<s>", TokenType::Control)]);
        vocab.strip_after_special = true;
        let specials = Specials::new(&vocab, str::to_owned).unwrap();
        assert_eq!(
            fragments(&specials, "<s> <|user|>\n hi", true),
            [Token(1), Text(" "), Token(0), Text("hi")]
        );
    }

    #[test]
    fn ends_by_name_and_by_id() {
        let names = ["a", "<|end|>", "<|call|>", "</s>", "b"];
        let mut vocab = vocab(&names.map(|name| (name, TokenType::Control)));
        vocab.eos = Some(4);
        assert_eq!(end_of_generation(&vocab), [1, 2, 3, 4]);
        vocab.tokens[0] = "<|return|>".into();
        assert_eq!(end_of_generation(&vocab), [0, 2, 3, 4], "<|end|> no longer ends");
    }
}
