//! SentencePiece's BPE: characters are merged, best score first, until no pair is a piece.
//!
//! The algorithm is the one of `bpe_model.cc` in <https://github.com/google/sentencepiece>, which
//! llama.cpp's `llm_tokenizer_spm` repeats: the pair whose joined text has the highest score is
//! merged, the leftmost among equals; a character that is no piece becomes its bytes, or `unk`
//! where the vocabulary has no byte tokens. Deliberately not here: the unigram model, and any
//! normalisation, because files of type `llama` are made with the identity rule.
//!
//! Invariant: the tokens' texts joined are the escaped input, except where `unk` stands.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::vocab::{TokenType, Vocab};

/// How SentencePiece writes a space inside pieces (U+2581).
pub(super) const SPACE: char = '\u{2581}';
/// The same as text.
pub(super) const SPACE_TEXT: &str = "\u{2581}";

/// Writes spaces as [`SPACE`].
pub(super) fn escape(text: &str) -> String {
    text.replace(' ', SPACE_TEXT)
}

/// The tables of one vocabulary.
#[derive(Debug)]
pub(super) struct Spm {
    /// Pieces that merging may form: normal, user-defined and unused ones.
    pieces: HashMap<Box<str>, u32>,
    scores: Vec<f32>,
    unused: Vec<bool>,
    /// The token of each byte, where there is one.
    bytes: Vec<Option<u32>>,
    unk: Option<u32>,
    /// Longest piece in bytes: no longer pair needs looking up.
    longest: usize,
    /// Neighbouring characters that occur inside some piece. Between others nothing is ever merged.
    neighbours: HashSet<(char, char)>,
}

/// A stretch of the text that is one symbol at present. `len` is 0 once merged into its left
/// neighbour.
struct Symbol {
    start: usize,
    len: usize,
    prev: usize,
    next: usize,
}

const NONE: usize = usize::MAX;

/// A pair that could be merged, as of the time it was queued.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl Spm {
    /// Builds the tables. Where two tokens share a text, the first is used.
    pub(super) fn new(vocab: &Vocab) -> Self {
        let mut pieces = HashMap::with_capacity(vocab.tokens.len());
        let mut bytes = vec![None; 256];
        let mut unused = vec![false; vocab.tokens.len()];
        let mut longest = 0;
        let mut neighbours = HashSet::new();
        for (id, text) in (0u32..).zip(&vocab.tokens) {
            match vocab.token_type(id) {
                TokenType::Byte => {
                    if let Some(byte) = byte_of(text) {
                        bytes[byte as usize].get_or_insert(id);
                    }
                }
                TokenType::Unknown | TokenType::Control => {}
                kind => {
                    unused[id as usize] = kind == TokenType::Unused;
                    longest = longest.max(text.len());
                    neighbours.extend(text.chars().zip(text.chars().skip(1)));
                    pieces.entry(text.as_str().into()).or_insert(id);
                }
            }
        }
        let mut scores = vocab.scores.clone();
        scores.resize(vocab.tokens.len(), 0.0);
        Self { pieces, scores, unused, bytes, unk: vocab.unk, longest, neighbours }
    }

    /// True when spaces survive: without a piece for them they come back as U+2581.
    pub(super) fn has_space(&self) -> bool {
        self.pieces.contains_key(SPACE_TEXT)
    }

    /// True when some text cannot be expressed and nothing stands for it.
    pub(super) fn loses_text(&self) -> bool {
        self.unk.is_none() && self.bytes.iter().any(Option::is_none)
    }

    /// Appends the tokens of `text`, in which spaces are already written as [`SPACE`].
    ///
    /// The text is first cut wherever no piece spans the cut, mostly before words. That changes no
    /// result, and it keeps the queue short: a megabyte in one queue is ten times slower.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let first = out.len();
        let mut start = 0;
        let mut last = None;
        let mut symbols = Vec::new();
        for (at, c) in text.char_indices() {
            if last.is_some_and(|last| !self.neighbours.contains(&(last, c))) {
                self.encode_part(&text[start..at], &mut symbols, first, out);
                start = at;
            }
            last = Some(c);
        }
        self.encode_part(&text[start..], &mut symbols, first, out);
    }

    /// Appends the tokens of a part of a text. `symbols` is working memory; `first` is where the
    /// whole text's tokens begin.
    fn encode_part(&self, text: &str, symbols: &mut Vec<Symbol>, first: usize, out: &mut Vec<u32>) {
        symbols.clear();
        symbols.extend(text.char_indices().enumerate().map(|(i, (start, c))| Symbol {
            start,
            len: c.len_utf8(),
            prev: i.wrapping_sub(1),
            next: i + 1,
        }));
        let Some(last) = symbols.last_mut() else { return };
        last.next = NONE;

        let mut merges = Merges { spm: self, text, heap: BinaryHeap::new(), parts: HashMap::new() };
        for right in 1..symbols.len() {
            merges.queue(symbols, right - 1, right);
        }
        while let Some(best) = merges.heap.pop() {
            let (left, right) = (best.left, best.right);
            if symbols[left].len == 0
                || symbols[right].len == 0
                || symbols[left].len + symbols[right].len != best.len
            {
                continue;
            }
            symbols[left].len = best.len;
            symbols[right].len = 0;
            let next = symbols[right].next;
            symbols[left].next = next;
            if next != NONE {
                symbols[next].prev = left;
                merges.queue(symbols, left, next);
            }
            let prev = symbols[left].prev;
            if prev != NONE {
                merges.queue(symbols, prev, left);
            }
        }

        let mut at = 0;
        while at != NONE {
            let symbol = &symbols[at];
            self.emit(&text[symbol.start..symbol.start + symbol.len], &merges.parts, first, out);
            at = symbol.next;
        }
    }

    /// Appends the token of one final symbol. An unused piece is taken apart again into what it was
    /// merged from. `first` is where this text's tokens begin, so that `unk` is joined only within it.
    fn emit<'t>(
        &self,
        piece: &'t str,
        parts: &HashMap<&'t str, (&'t str, &'t str)>,
        first: usize,
        out: &mut Vec<u32>,
    ) {
        match self.pieces.get(piece) {
            Some(&id) if self.unused[id as usize] => {
                if let Some(&(left, right)) = parts.get(piece) {
                    self.emit(left, parts, first, out);
                    self.emit(right, parts, first, out);
                } else {
                    out.push(id);
                }
            }
            Some(&id) => out.push(id),
            None => self.emit_bytes(piece, first, out),
        }
    }

    /// Appends the byte tokens of a piece outside the vocabulary, or one `unk` for a run of such.
    fn emit_bytes(&self, piece: &str, first: usize, out: &mut Vec<u32>) {
        if piece.bytes().all(|byte| self.bytes[byte as usize].is_some()) {
            out.extend(piece.bytes().filter_map(|byte| self.bytes[byte as usize]));
        } else if let Some(unk) = self.unk
            && out[first..].last() != Some(&unk)
        {
            out.push(unk);
        }
    }
}

/// The queue of possible merges over one text.
struct Merges<'t, 's> {
    spm: &'s Spm,
    text: &'t str,
    heap: BinaryHeap<Candidate>,
    /// What each unused piece was merged from.
    parts: HashMap<&'t str, (&'t str, &'t str)>,
}

impl Merges<'_, '_> {
    /// Queues the pair of neighbours `left`, `right` if their joined text is a piece.
    fn queue(&mut self, symbols: &[Symbol], left: usize, right: usize) {
        let (l, r) = (&symbols[left], &symbols[right]);
        let len = l.len + r.len;
        if len > self.spm.longest {
            return;
        }
        let joined = &self.text[l.start..l.start + len];
        let Some(&id) = self.spm.pieces.get(joined) else { return };
        self.heap.push(Candidate { score: self.spm.scores[id as usize], left, right, len });
        if self.spm.unused[id as usize] {
            self.parts.insert(joined, joined.split_at(l.len));
        }
    }
}

/// The byte that a byte token's text `<0xNN>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}
