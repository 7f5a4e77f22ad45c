//! Text to tokens and back, and chat templates, from a GGUF file's metadata alone.
//!
//! Two kinds of tokenizer: SentencePiece's BPE (`tokenizer.ggml.model = "llama"`) and byte-level BPE
//! (`"gpt2"`). [`Vocab`] is the data, [`Tokenizer`] encodes and decodes, [`Detokenizer`] decodes
//! while tokens still arrive, and [`ChatTemplate`] turns a conversation into a prompt. Deliberately
//! not here: training, and normalisation. (Qwen's own tokenizer brings text to Unicode form NFC
//! first; like llama.cpp, this one does not, so that decoding gives back what was encoded.)
//!
//! Invariant: decoding what was encoded gives the text again, byte for byte. Exceptions, which are
//! SentencePiece's own: U+2581 is how it writes a space, so it comes back as one; and where the
//! vocabulary has neither a token nor bytes for a character, `unk` stands for it.

pub mod chat;

mod bpe;
mod detok;
mod error;
mod load;
mod pre;
mod special;
mod spm;
mod vocab;

pub use chat::{ChatError, ChatTemplate};
pub use detok::{DecodeOptions, Detokenizer};
pub use error::TokenizerError;
pub use vocab::{TokenType, Vocab};

use bpe::{Bpe, Scratch};
use pre::PreTokenizer;
use special::{Fragment, Specials};
use spm::Spm;

/// Encodes text to token ids and decodes them, for one vocabulary.
///
/// ```
/// use gpuwhy::engine::tokenizer::{TokenType, Tokenizer, Vocab};
///
/// let vocab = Vocab {
///     model: "llama".into(),
///     tokens: ["<unk>", "<s>", "▁", "h", "i", "hi", "▁hi"].map(String::from).to_vec(),
///     scores: vec![0.0, 0.0, -3.0, -4.0, -5.0, -1.0, -2.0],
///     types: [2, 3, 1, 1, 1, 1, 1].map(TokenType::from_number).to_vec(),
///     bos: Some(1),
///     ..Vocab::default()
/// };
/// let tokenizer = Tokenizer::new(vocab)?;
/// let tokens = tokenizer.encode("hi hi", true, false);
/// assert_eq!(tokens, [1, 6, 6]);
/// assert_eq!(tokenizer.decode(&tokens), "hi hi");
/// # Ok::<(), gpuwhy::engine::tokenizer::TokenizerError>(())
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    model: Model,
    specials: Specials,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    /// Bytes of all tokens one after the other; token `i` ends at `piece_ends[i]`.
    pieces: Vec<u8>,
    piece_ends: Vec<usize>,
    end_of_generation: Vec<u32>,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Model {
    Spm(Spm),
    Bpe(Bpe, PreTokenizer),
}

impl Tokenizer {
    /// Checks the vocabulary and builds the tables.
    ///
    /// # Errors
    /// A kind of tokenizer that is not supported, arrays that do not fit together, ids outside the
    /// vocabulary, merges that are none. A pre-tokenizer of an unknown name is no error: the rule
    /// `default` replaces it and [`Tokenizer::notes`] says so.
    pub fn new(mut vocab: Vocab) -> Result<Self, TokenizerError> {
        vocab.check()?;
        let mut notes = Vec::new();
        let (model, add_bos, add_space_prefix) = match vocab.model.as_str() {
            "llama" => {
                if vocab.scores.is_empty() {
                    let key = "tokenizer.ggml.scores";
                    return Err(TokenizerError::Needs { model: "llama", key });
                }
                let spm = Spm::new(&vocab);
                if !spm.has_space() {
                    notes.push("the vocabulary has no piece for a space".to_owned());
                }
                (Model::Spm(spm), vocab.bos.is_some(), vocab.add_space_prefix.unwrap_or(true))
            }
            "gpt2" => {
                let rule = pre_rule(&vocab.pre, &mut notes);
                check_merges(&vocab)?;
                let bpe = Bpe::new(&vocab, rule.ignore_merges);
                let add_bos = rule.add_bos && vocab.bos.is_some();
                (Model::Bpe(bpe, PreTokenizer::new(&rule)?), add_bos, false)
            }
            _ => return Err(TokenizerError::Kind { model: std::mem::take(&mut vocab.model) }),
        };
        let loses_text = match &model {
            Model::Spm(spm) => spm.loses_text(),
            Model::Bpe(bpe, _) => bpe.loses_text(),
        };
        if loses_text {
            notes.push(
                "the vocabulary lacks tokens for some bytes and has no unknown token: text that \
                 needs them loses characters"
                    .to_owned(),
            );
        }
        let specials = match &model {
            Model::Spm(_) => Specials::new(&vocab, spm::escape)?,
            Model::Bpe(..) => Specials::new(&vocab, str::to_owned)?,
        };
        let (pieces, piece_ends) = pieces(&vocab, matches!(model, Model::Spm(_)));
        Self {
            add_bos: vocab.add_bos.unwrap_or(add_bos),
            add_eos: vocab.add_eos.unwrap_or(false),
            end_of_generation: special::end_of_generation(&vocab),
            vocab,
            model,
            specials,
            add_space_prefix,
            pieces,
            piece_ends,
            notes,
        }
        .check_added()
    }

    fn check_added(self) -> Result<Self, TokenizerError> {
        for (wanted, id, flag, key) in [
            (
                self.add_bos,
                self.vocab.bos,
                "tokenizer.ggml.add_bos_token",
                "tokenizer.ggml.bos_token_id",
            ),
            (
                self.add_eos,
                self.vocab.eos,
                "tokenizer.ggml.add_eos_token",
                "tokenizer.ggml.eos_token_id",
            ),
        ] {
            if wanted && id.is_none() {
                return Err(TokenizerError::NoSuchSpecial { flag, key });
            }
        }
        Ok(self)
    }

    /// The tokens of a text.
    ///
    /// `add_special` puts the beginning- and end-of-sequence tokens where the model wants them.
    /// `parse_special` reads control tokens such as `<|im_end|>` from the text: on for a prompt made
    /// by a chat template, off for what a user typed, who could otherwise forge a turn.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        if add_special && self.add_bos {
            out.extend(self.vocab.bos);
        }
        match &self.model {
            Model::Spm(spm) => self.encode_spm(spm, text, parse_special, &mut out),
            Model::Bpe(bpe, pre) => {
                let mut scratch = Scratch::default();
                self.specials.split(text, parse_special, |fragment| match fragment {
                    Fragment::Token(id) => out.push(id),
                    Fragment::Text(text) => {
                        pre.split(text, &mut |word| bpe.encode(word, &mut scratch, &mut out));
                    }
                });
            }
        }
        if add_special && self.add_eos {
            out.extend(self.vocab.eos);
        }
        out
    }

    /// The space before the text comes at the start and after a control token, as in llama.cpp; not
    /// after a user-defined token, which is text, as in SentencePiece.
    fn encode_spm(&self, spm: &Spm, text: &str, parse_special: bool, out: &mut Vec<u32>) {
        let escaped = spm::escape(text);
        let mut at_start = self.add_space_prefix;
        let mut prefixed = String::new();
        self.specials.split(&escaped, parse_special, |fragment| match fragment {
            Fragment::Token(id) if self.is_special(id) => {
                out.push(id);
                at_start = self.add_space_prefix;
            }
            Fragment::Token(id) => {
                if std::mem::take(&mut at_start) {
                    spm.encode(spm::SPACE_TEXT, out);
                }
                out.push(id);
            }
            Fragment::Text(text) if std::mem::take(&mut at_start) => {
                prefixed.clear();
                prefixed.push(spm::SPACE);
                prefixed.push_str(text);
                spm.encode(&prefixed, out);
            }
            Fragment::Text(text) => spm.encode(text, out),
        });
    }

    /// The text of a whole sequence, without control tokens. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        self.decode_with(tokens, DecodeOptions::default())
    }

    /// The text of tokens, by these options.
    pub fn decode_with(&self, tokens: &[u32], options: DecodeOptions) -> String {
        let mut stream = self.detokenizer(options);
        let mut text = String::new();
        for &token in tokens {
            text.push_str(stream.push(token));
        }
        text.push_str(&stream.finish());
        text
    }

    /// Starts decoding a stream of tokens.
    pub fn detokenizer(&self, options: DecodeOptions) -> Detokenizer<'_> {
        Detokenizer::new(self, options)
    }

    /// The bytes that a token stands for: text as it is, a control token's name, one byte for a byte
    /// token. Empty for ids outside the vocabulary.
    pub fn piece(&self, token: u32) -> &[u8] {
        let id = token as usize;
        let start = if id == 0 { 0 } else { self.piece_ends.get(id - 1).copied().unwrap_or(0) };
        self.piece_ends.get(id).map_or(&[], |&end| &self.pieces[start..end])
    }

    /// True when generation ends with this token.
    pub fn is_eog(&self, token: u32) -> bool {
        self.end_of_generation.binary_search(&token).is_ok()
    }

    /// True when this token steers the model and is no text: control and unknown tokens.
    pub fn is_special(&self, token: u32) -> bool {
        (token as usize) < self.vocab.tokens.len()
            && matches!(self.vocab.token_type(token), TokenType::Control | TokenType::Unknown)
    }

    /// How many tokens there are; ids are smaller than this.
    pub fn n_tokens(&self) -> usize {
        self.vocab.tokens.len()
    }

    /// The vocabulary as given.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// A token's text as the file writes it, with `▁` or `Ġ` for a space.
    pub fn token_text(&self, token: u32) -> Option<&str> {
        self.vocab.tokens.get(token as usize).map(String::as_str)
    }

    /// The id of a token by its text as the file writes it: a linear search, meant for setting up.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocab.tokens.iter().position(|token| token == text).map(|id| id as u32)
    }

    /// Ids of all tokens that end generation, ascending.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }

    /// Whether [`Tokenizer::encode`] with `add_special` puts the beginning-of-sequence token first.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether [`Tokenizer::encode`] with `add_special` puts the end-of-sequence token last.
    pub fn adds_eos(&self) -> bool {
        self.add_eos
    }

    /// What was assumed or looks wrong, in sentences for the user; empty when all is well.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn adds_space(&self) -> bool {
        self.add_space_prefix
    }
}

/// The rule of this name, or the default with a note.
fn pre_rule(name: &str, notes: &mut Vec<String>) -> pre::Rule {
    if name.is_empty() {
        notes.push(
            "tokenizer.ggml.pre is missing: the rule \"default\" cuts text into words, which may \
             not be what the model was trained with"
                .to_owned(),
        );
        return pre::DEFAULT;
    }
    pre::rule_of(name).unwrap_or_else(|| {
        notes.push(format!(
            "tokenizer.ggml.pre is {name:?}, which is not known: the rule \"default\" cuts text \
             into words instead, so that tokens can differ from those the model was trained with"
        ));
        pre::DEFAULT
    })
}

fn check_merges(vocab: &Vocab) -> Result<(), TokenizerError> {
    if vocab.merges.is_empty() {
        return Err(TokenizerError::Needs { model: "gpt2", key: "tokenizer.ggml.merges" });
    }
    match vocab.merges.iter().position(|merge| bpe::split_merge(merge).is_none()) {
        None => Ok(()),
        Some(index) => Err(TokenizerError::Merge { index, merge: vocab.merges[index].clone() }),
    }
}

/// The bytes of all tokens, and where each ends.
fn pieces(vocab: &Vocab, is_spm: bool) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(vocab.tokens.len());
    for (id, text) in (0u32..).zip(&vocab.tokens) {
        match vocab.token_type(id) {
            TokenType::Control | TokenType::Unknown => bytes.extend_from_slice(text.as_bytes()),
            TokenType::Byte if spm::byte_of(text).is_some() => bytes.extend(spm::byte_of(text)),
            _ if is_spm => bytes.extend(text.replace(spm::SPACE, " ").bytes()),
            TokenType::UserDefined => bytes.extend_from_slice(text.as_bytes()),
            _ => {
                for c in text.chars() {
                    match bpe::byte_of_char(c) {
                        Some(byte) => bytes.push(byte),
                        None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
        ends.push(bytes.len());
    }
    (bytes, ends)
}
