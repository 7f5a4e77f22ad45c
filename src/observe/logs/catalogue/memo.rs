//! Remembers which pattern lines of one skeleton matched, so that most lines of a log are tried on
//! one pattern only.
//!
//! A skeleton is a line with every run of digits made one digit. Invariant: a remembered answer is
//! the one that a search would give. For that, an answer is remembered only when every pattern
//! that was tried before in vain does not care how its digits run ([`Digits::matter`]), and a
//! remembered pattern is tried again on each line.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use regex_syntax::hir::{Class, Hir, HirKind};

/// Answers by skeleton.
#[derive(Clone, Debug)]
pub(in super::super) struct Memo<T> {
    answers: HashMap<u64, T, BuildHasherDefault<AsIs>>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { answers: HashMap::default() }
    }
}

/// What lines of a skeleton match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This pattern.
    Pattern(u32),
    /// None.
    Unknown,
}

/// So many skeletons are remembered; then all are forgotten, which costs one search for each.
const ANSWERS_MAX: usize = 8192;

impl<T: Copy> Memo<T> {
    pub(in super::super) fn get(&self, skeleton: u64) -> Option<T> {
        self.answers.get(&skeleton).copied()
    }

    pub(in super::super) fn put(&mut self, skeleton: u64, answer: T) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.insert(skeleton, answer);
    }
}

/// The hash of a line's skeleton, eight bytes at a time. Words begin anew after each run of digits,
/// so that its length does not matter.
pub(in super::super) fn skeleton(text: &[u8]) -> u64 {
    let (mut hash, mut at) = (0, 0);
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let digits = digits_of(word);
        if digits == 0 {
            hash = mix(hash, word);
            at += 8;
            continue;
        }
        let before = digits.trailing_zeros() / 8;
        hash = mix_part(hash, word, before);
        // The run may go on beyond the word.
        let after = (!digits & HIGH_BITS) >> (8 * before) << (8 * before);
        at += if after == 0 { 8 } else { after.trailing_zeros() as usize / 8 };
        if after == 0 {
            at += text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        }
    }
    let mut last = [0; 8];
    let mut filled = 0;
    let mut in_digits = false;
    for &byte in &text[at.min(text.len())..] {
        if byte.is_ascii_digit() {
            if !in_digits {
                hash = mix_part(hash, u64::from_le_bytes(last), filled);
                (last, filled) = ([0; 8], 0);
            }
            in_digits = true;
        } else {
            in_digits = false;
            last[filled as usize % 8] = byte;
            filled += 1;
        }
    }
    mix_part(hash, u64::from_le_bytes(last), filled) ^ 1
}

pub(super) const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
pub(super) const HIGH_BITS: u64 = EACH_BYTE * 0x80;

/// The high bit of each byte that is a digit.
pub(super) fn digits_of(word: u64) -> u64 {
    let low = word & !HIGH_BITS;
    let from_zero = low + EACH_BYTE * (0x80 - b'0' as u64);
    let past_nine = low + EACH_BYTE * (0x80 - (b'9' as u64 + 1));
    from_zero & !past_nine & !word & HIGH_BITS
}

/// Takes in the first bytes of a word, after which a run of digits comes.
fn mix_part(hash: u64, word: u64, bytes: u32) -> u64 {
    let kept = if bytes >= 8 { word } else { word & !(u64::MAX << (8 * bytes)) };
    // The length tells less than eight bytes from eight with zeros, and marks the run.
    mix(hash, kept ^ u64::from(bytes + 1) << 56)
}

fn mix(hash: u64, word: u64) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(hash ^ word ^ MULTIPLIER) * u128::from(MULTIPLIER);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The skeleton is a hash already.
#[derive(Clone, Debug, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// How an expression treats digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits {
    /// Whether a match may depend on which digits a run has, or how many.
    pub(super) matter: bool,
    /// Whether it can begin, or end, with a run that needs a digit.
    begins: bool,
    ends: bool,
    /// Whether it can match nothing.
    empty: bool,
}

impl Digits {
    pub(super) fn of(hir: &Hir) -> Self {
        let plain = Self { matter: false, begins: false, ends: false, empty: false };
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Self { empty: true, ..plain },
            HirKind::Literal(literal) => {
                Self { matter: literal.0.iter().any(u8::is_ascii_digit), ..plain }
            }
            // One digit of a run, or some digits and not others.
            HirKind::Class(class) => Self { matter: digits_in(class) > 0, ..plain },
            HirKind::Capture(capture) => Self::of(&capture.sub),
            HirKind::Repetition(repetition) => {
                let (min, max) = (repetition.min, repetition.max);
                let empty = min == 0;
                if let HirKind::Class(class) = repetition.sub.kind() {
                    return match digits_in(class) {
                        0 => Self { empty, ..plain },
                        10 if max.is_none() && min <= 1 => {
                            Self { begins: !empty, ends: !empty, empty, ..plain }
                        }
                        _ => Self { matter: true, ..plain },
                    };
                }
                let sub = Self::of(&repetition.sub);
                let again = max != Some(1) && sub.begins && sub.ends;
                Self { matter: sub.matter || again, empty: empty || sub.empty, ..sub }
            }
            HirKind::Alternation(parts) => {
                parts.iter().map(Self::of).fold(plain, |all, part| Self {
                    matter: all.matter || part.matter,
                    begins: all.begins || part.begins,
                    ends: all.ends || part.ends,
                    empty: all.empty || part.empty,
                })
            }
            HirKind::Concat(parts) => {
                let mut all = Self { empty: true, ..plain };
                for part in parts.iter().map(Self::of) {
                    all.matter |= part.matter || (all.ends && part.begins);
                    all.begins |= all.empty && part.begins;
                    all.ends = part.ends || (part.empty && all.ends);
                    all.empty &= part.empty;
                }
                all
            }
        }
    }
}

/// How many of the ten digits a class has.
fn digits_in(class: &Class) -> usize {
    let within = |from: u32, to: u32| {
        (u32::from(b'0')..=u32::from(b'9')).filter(|d| (from..=to).contains(d)).count()
    };
    match class {
        Class::Unicode(class) => {
            class.iter().map(|r| within(u32::from(r.start()), u32::from(r.end()))).sum()
        }
        Class::Bytes(class) => {
            class.iter().map(|r| within(u32::from(r.start()), u32::from(r.end()))).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matter(expression: &str) -> bool {
        Digits::of(&regex_syntax::parse(expression).unwrap()).matter
    }

    #[test]
    fn skeletons_are_the_same_for_any_numbers() {
        let of = |text: &str| skeleton(text.as_bytes());
        assert_eq!(of("id 1 | task 22 | x = 3.50"), of("id 333 | task 4 | x = 12.1"));
        for other in ["id 1 | task 22 | y = 3.50", "id 1 | task  22 | x = 3.50", "", "0", "00 0"] {
            assert_ne!(of("id 1 | task 22 | x = 3.50"), of(other), "{other}");
        }
        assert_eq!(of("7"), of("0"));
        assert_ne!(of("aaaaaaaa"), of("aaaaaaa"));
    }

    /// What the hash is of: runs of digits as one mark.
    fn naive(text: &[u8]) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for &byte in text {
            match byte {
                b'0'..=b'9' if out.last() == Some(&b'0') => {}
                b'0'..=b'9' => out.push(b'0'),
                byte => out.push(byte),
            }
        }
        out
    }

    #[test]
    fn every_byte_is_told_from_a_digit() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut bytes = *b"xxxxxxxx";
                bytes[place] = byte;
                let wanted = if byte.is_ascii_digit() { 0x80 << (8 * place) } else { 0 };
                assert_eq!(digits_of(u64::from_le_bytes(bytes)), wanted, "{byte} at {place}");
            }
            let wanted = if byte.is_ascii_digit() { HIGH_BITS } else { 0 };
            assert_eq!(digits_of(u64::from_le_bytes([byte; 8])), wanted, "{byte}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

        /// Texts have the same hash exactly when they are the same but for runs of digits.
        #[test]
        fn hashes_tell_skeletons(a in "[ab0-9]{0,24}", b in "[ab0-9]{0,24}", cut in 0usize..24) {
            let same = skeleton(a.as_bytes()) == skeleton(b.as_bytes());
            prop_assert_eq!(same, naive(a.as_bytes()) == naive(b.as_bytes()));
            // The same text with one run longer.
            let at = a.char_indices().map(|c| c.0).nth(cut).unwrap_or(a.len());
            if a[at..].starts_with(|c: char| c.is_ascii_digit()) {
                let longer = format!("{}12345678{}", &a[..at], &a[at..]);
                prop_assert_eq!(skeleton(a.as_bytes()), skeleton(longer.as_bytes()));
            }
        }
    }

    #[test]
    fn expressions_that_care_for_digits_are_told() {
        for expression in [r"\d+ of \d+", r"(?<a>[\d.,]+) ms", r"\S+ x", r"n(?:_ctx)? = \d+", ".*a"]
        {
            assert!(!matter(expression), "{expression}");
        }
        for expression in [
            "error 35",
            r"\d{3}",
            r"\d",
            "[0-4]+",
            r"\w+\d+",
            r"(?:\d+)+x",
            r".x",
            r"\d?a",
            r"a\d+(?:b?)\d+",
        ] {
            assert!(matter(expression), "{expression}");
        }
    }
}
