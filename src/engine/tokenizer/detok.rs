//! Tokens back to text, one at a time.
//!
//! A token may end inside a character, so bytes are held back until they are complete. What can no
//! longer become a character is replaced by U+FFFD at once, by the same rule as
//! [`String::from_utf8_lossy`]; so the pieces joined are always the lossy decoding of all bytes,
//! however the tokens arrive.

use super::Tokenizer;

/// How tokens become text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Write control and unknown tokens as their names; otherwise they give no text.
    pub special: bool,
    /// The tokens continue a text that was decoded before, so that the first of them keeps a
    /// leading space. Set it for generated tokens after a prompt.
    pub continues: bool,
}

/// Decodes a stream of tokens.
///
/// ```
/// # use gpuwhy::engine::tokenizer::{DecodeOptions, TokenType, Tokenizer, Vocab};
/// # let vocab = Vocab {
/// #     model: "llama".into(),
/// #     tokens: ["<unk>", "é", "<0xC3>", "<0xA9>"].map(String::from).to_vec(),
/// #     scores: vec![0.0; 4],
/// #     types: vec![TokenType::Unknown, TokenType::Normal, TokenType::Byte, TokenType::Byte],
/// #     ..Vocab::default()
/// # };
/// # let tokenizer = Tokenizer::new(vocab)?;
/// let mut stream = tokenizer.detokenizer(DecodeOptions::default());
/// assert_eq!(stream.push(2), "", "<0xC3> is half a character");
/// assert_eq!(stream.push(3), "é");
/// assert_eq!(stream.push(2), "");
/// assert_eq!(stream.finish(), "\u{fffd}", "the other half never came");
/// # Ok::<(), gpuwhy::engine::tokenizer::TokenizerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    options: DecodeOptions,
    /// Whether the next text loses one leading space, which encoding put there.
    at_start: bool,
    /// At most three bytes that may become a character.
    held: Vec<u8>,
    text: String,
}

impl<'t> Detokenizer<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, options: DecodeOptions) -> Self {
        Self {
            tokenizer,
            options,
            at_start: !options.continues,
            held: Vec::new(),
            text: String::new(),
        }
    }

    /// Takes a token and returns the text that is now certain, often its own, sometimes none.
    /// An id outside the vocabulary gives no text.
    pub fn push(&mut self, token: u32) -> &str {
        self.text.clear();
        let strips = std::mem::take(&mut self.at_start) && self.tokenizer.adds_space();
        if self.tokenizer.is_special(token) {
            // Encoding puts a space before the text after a control token as well.
            self.at_start = true;
            if self.options.special {
                self.held.extend_from_slice(self.tokenizer.piece(token));
            }
        } else {
            let piece = self.tokenizer.piece(token);
            let piece = if strips { piece.strip_prefix(b" ").unwrap_or(piece) } else { piece };
            self.held.extend_from_slice(piece);
        }
        self.release();
        &self.text
    }

    /// Ends the stream: an unfinished character becomes U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }

    /// Moves everything that is certain from `held` to `text`.
    fn release(&mut self) {
        let mut rest = self.held.as_slice();
        let keep = loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    self.text.push_str(valid);
                    break 0;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    self.text.push_str(&String::from_utf8_lossy(valid));
                    let Some(len) = error.error_len() else { break invalid.len() };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = &invalid[len..];
                }
            }
        };
        let certain = self.held.len() - keep;
        self.held.drain(..certain);
    }
}
