//! Byte-level BPE, as GPT-2 introduced it: bytes written as printable characters, merged by rank.
//!
//! The algorithm is that of <https://github.com/openai/gpt-2/blob/master/src/encoder.py>; ranks,
//! ties (leftmost first) and `ignore_merges` follow the Hugging Face `tokenizers` library. Cutting
//! text into words is not done here but in [`super::pre`].
//!
//! Invariant: a word's tokens, mapped back to bytes and joined, are the word, unless the vocabulary
//! lacks a byte.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::vocab::{TokenType, Vocab};

/// The character that stands for `byte` in token texts: itself where it is printable and not a
/// space, otherwise the next free one from U+0100 on.
pub(super) fn char_of_byte(byte: u8) -> char {
    match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        // The remaining bytes are numbered in order: 0..=0x20, 0x7f..=0xa0, 0xad.
        0..=0x20 => offset_char(u32::from(byte)),
        0x7f..=0xa0 => offset_char(u32::from(byte) - 0x7f + 0x21),
        0xad => offset_char(0x43),
    }
}

fn offset_char(n: u32) -> char {
    char::from_u32(0x100 + n).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character of a token's text stands for, if it stands for one.
pub(super) fn byte_of_char(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Hashes a pair of symbols packed into 64 bits; the keys are our own, so no defence is needed.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // The high bits of the product depend on all bits of the key; the table uses high and low.
        let product = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

type PairMap<V> = HashMap<u64, V, BuildHasherDefault<PairHasher>>;

/// What merging a pair gives.
#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    symbol: u32,
}

/// The tables of one vocabulary. A symbol is a token id, or, from `n_tokens` on, a text that merges
/// mention but that is no token.
#[derive(Debug)]
pub(super) struct Bpe {
    n_tokens: u32,
    /// The symbol of each single byte.
    bytes: Vec<u32>,
    merges: PairMap<Merge>,
    /// Bytes of the symbols that are no tokens.
    extra: Vec<Box<[u8]>>,
    /// Whole words that are tokens, by their bytes; filled only for `ignore_merges`.
    words: Option<HashMap<Box<[u8]>, u32>>,
    unk: Option<u32>,
}

/// A stretch of a word that is one symbol at present.
struct Part {
    symbol: u32,
    prev: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;
/// A part that was merged into its left neighbour.
const GONE: u32 = u32::MAX;

/// A queued merge: ordered by rank, then by place; `pair` tells whether it is still current.
type Candidate = Reverse<(u32, u32, u64, u32)>;

/// Working memory that is reused from word to word.
#[derive(Default)]
pub(super) struct Scratch {
    parts: Vec<Part>,
    heap: BinaryHeap<Candidate>,
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Bpe {
    /// Builds the tables. `ignore_merges`: a word that is a token is taken whole, even where the
    /// merges would not lead to it.
    pub(super) fn new(vocab: &Vocab, ignore_merges: bool) -> Self {
        let mut symbols: HashMap<&str, u32> = HashMap::with_capacity(vocab.tokens.len());
        let mut words = ignore_merges.then(HashMap::new);
        for (id, text) in (0u32..).zip(&vocab.tokens) {
            if matches!(vocab.token_type(id), TokenType::Control | TokenType::Unknown) {
                continue;
            }
            symbols.entry(text).or_insert(id);
            if let Some(words) = &mut words
                && let Some(bytes) = text.chars().map(byte_of_char).collect::<Option<Box<[u8]>>>()
            {
                words.entry(bytes).or_insert(id);
            }
        }

        let n_tokens = vocab.tokens.len() as u32;
        let mut extra: Vec<Box<[u8]>> = Vec::new();
        let mut names: HashMap<String, u32> = HashMap::new();
        let mut symbol_of = |text: &str| {
            symbols.get(text).copied().unwrap_or_else(|| {
                *names.entry(text.to_owned()).or_insert_with(|| {
                    extra.push(text.chars().filter_map(byte_of_char).collect());
                    n_tokens + (extra.len() - 1) as u32
                })
            })
        };
        let bytes = (0..=255u8).map(|byte| symbol_of(&String::from(char_of_byte(byte)))).collect();
        let mut merges = PairMap::default();
        for (rank, merge) in (0u32..).zip(&vocab.merges) {
            // `split_merge` was checked by the caller for every merge.
            let Some((left, right)) = split_merge(merge) else { continue };
            let key = pair(symbol_of(left), symbol_of(right));
            let symbol = symbol_of(&[left, right].concat());
            merges.entry(key).or_insert(Merge { rank, symbol });
        }
        Self { n_tokens, bytes, merges, extra, words, unk: vocab.unk }
    }

    /// True when some valid text cannot be expressed and nothing stands for it. Bytes that never
    /// occur in UTF-8 do not count.
    pub(super) fn loses_text(&self) -> bool {
        let occurs = |byte: usize| !matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff);
        self.unk.is_none() && (0..256).any(|b| occurs(b) && self.bytes[b] >= self.n_tokens)
    }

    /// Appends the tokens of one word.
    pub(super) fn encode(&self, word: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let word = word.as_bytes();
        if let Some(words) = &self.words
            && let Some(&id) = words.get(word)
        {
            out.push(id);
            return;
        }
        let Scratch { parts, heap } = scratch;
        parts.clear();
        heap.clear();
        parts.extend((0u32..).zip(word).map(|(i, &byte)| Part {
            symbol: self.bytes[byte as usize],
            prev: i.wrapping_sub(1),
            next: i + 1,
        }));
        let Some(last) = parts.last_mut() else { return };
        last.next = NONE;
        for left in 0..parts.len() - 1 {
            self.queue(parts, heap, left as u32, left as u32 + 1);
        }
        while let Some(Reverse((_, left, key, symbol))) = heap.pop() {
            let part = &parts[left as usize];
            let right = part.next;
            if part.symbol == GONE
                || right == NONE
                || pair(part.symbol, parts[right as usize].symbol) != key
            {
                continue;
            }
            let (prev, next) = (part.prev, parts[right as usize].next);
            parts[right as usize].symbol = GONE;
            parts[left as usize].symbol = symbol;
            parts[left as usize].next = next;
            if next != NONE {
                parts[next as usize].prev = left;
                self.queue(parts, heap, left, next);
            }
            if prev != NONE {
                self.queue(parts, heap, prev, left);
            }
        }
        let mut at = 0;
        while at != NONE {
            let part = &parts[at as usize];
            self.emit(part.symbol, out);
            at = part.next;
        }
    }

    fn queue(&self, parts: &[Part], heap: &mut BinaryHeap<Candidate>, left: u32, right: u32) {
        let key = pair(parts[left as usize].symbol, parts[right as usize].symbol);
        if let Some(merge) = self.merges.get(&key) {
            heap.push(Reverse((merge.rank, left, key, merge.symbol)));
        }
    }

    /// Appends a final symbol; one that is no token becomes the tokens of its bytes, or `unk`.
    fn emit(&self, symbol: u32, out: &mut Vec<u32>) {
        if symbol < self.n_tokens {
            out.push(symbol);
            return;
        }
        for &byte in &self.extra[(symbol - self.n_tokens) as usize] {
            match self.bytes[byte as usize] {
                id if id < self.n_tokens => out.push(id),
                _ => out.extend(self.unk),
            }
        }
    }
}

/// The two halves of a merge. They are separated by the first space that is not the first
/// character, so that a half may itself be a space.
pub(super) fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let space = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    (!right.is_empty()).then_some((left, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_characters_are_a_bijection_and_match_gpt2() {
        let chars: Vec<char> = (0..=255).map(char_of_byte).collect();
        for (byte, &c) in (0..=255).zip(&chars) {
            assert_eq!(byte_of_char(c), Some(byte));
        }
        assert_eq!(char_of_byte(b' '), 'Ġ');
        assert_eq!(char_of_byte(b'\n'), 'Ċ');
        assert_eq!(char_of_byte(0x7f), 'ġ');
        assert_eq!(char_of_byte(0xad), 'Ń');
        assert_eq!(byte_of_char('中'), None);
    }

    #[test]
    fn merges_split_at_the_inner_space() {
        assert_eq!(split_merge("a b"), Some(("a", "b")));
        assert_eq!(split_merge("  b"), Some((" ", "b")));
        assert_eq!(split_merge("ab"), None);
        assert_eq!(split_merge("a "), None);
        assert_eq!(split_merge(""), None);
    }

    /// `b c` outranks `a b`, and the leftmost of equal pairs goes first.
    #[test]
    fn ranks_and_ties() {
        let vocab = Vocab {
            tokens: ["a", "b", "c", "bc", "ab", "aa"].map(String::from).to_vec(),
            merges: ["b c", "a b", "a a"].map(String::from).to_vec(),
            ..Vocab::default()
        };
        let bpe = Bpe::new(&vocab, false);
        let encode = |word| {
            let mut out = Vec::new();
            bpe.encode(word, &mut Scratch::default(), &mut out);
            out
        };
        assert_eq!(encode("abc"), [0, 3]);
        assert_eq!(encode("aaa"), [5, 0]);
        assert_eq!(encode("aab"), [0, 4]);
        assert!(encode("d").is_empty(), "no byte token and no unk: nothing can stand for it");
        assert!(bpe.loses_text());
    }

    /// A merge may lead through a text that is no token; it comes out as its bytes.
    #[test]
    fn merged_text_that_is_no_token() {
        let vocab = Vocab {
            tokens: ["a", "b", "c", "abc"].map(String::from).to_vec(),
            merges: ["a b", "ab c"].map(String::from).to_vec(),
            ..Vocab::default()
        };
        let bpe = Bpe::new(&vocab, false);
        let mut out = Vec::new();
        bpe.encode("abcab", &mut Scratch::default(), &mut out);
        assert_eq!(out, [3, 0, 1]);
    }
}
