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
#[derive(Clone, Debug, Default)]
pub(super) struct Memo {
    answers: HashMap<u64, Answer, BuildHasherDefault<AsIs>>,
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

impl Memo {
    pub(super) fn get(&self, skeleton: u64) -> Option<Answer> {
        self.answers.get(&skeleton).copied()
    }

    pub(super) fn put(&mut self, skeleton: u64, answer: Answer) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.insert(skeleton, answer);
    }
}

/// The hash of a line's skeleton: of each stretch without digits, eight bytes at a time.
pub(super) fn skeleton(text: &[u8]) -> u64 {
    let mut hash = 0;
    let mut rest = text;
    loop {
        let plain = plain_len(rest);
        hash = hash_stretch(&rest[..plain], hash);
        rest = &rest[plain..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return hash;
        }
        hash = mix(hash, u64::from(b'0'));
        rest = &rest[digits..];
    }
}

/// How many bytes there are before the first digit.
fn plain_len(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (i, chunk) in chunks.iter().enumerate() {
        // The high bit of a byte is set where the byte is below ':' and not below '0'; bytes above
        // 0x7f are told apart by their own high bit.
        let word = u64::from_le_bytes(*chunk);
        let low = word & (EACH * 0x7f);
        let from_zero = low + EACH * (0x80 - b'0' as u64);
        let past_nine = low + EACH * (0x80 - (b'9' as u64 + 1));
        let digits = from_zero & !past_nine & !word & (EACH * 0x80);
        if digits != 0 {
            return 8 * i + digits.trailing_zeros() as usize / 8;
        }
    }
    let tail_len = tail.iter().take_while(|b| !b.is_ascii_digit()).count();
    8 * chunks.len() + tail_len
}

fn hash_stretch(bytes: &[u8], mut hash: u64) -> u64 {
    let (chunks, tail) = bytes.as_chunks::<8>();
    for chunk in chunks {
        hash = mix(hash, u64::from_le_bytes(*chunk));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    // The length tells a stretch from one with more zero bytes, and from two shorter ones.
    mix(hash, u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56)
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

    #[test]
    fn the_first_digit_is_found_wherever_it_stands() {
        for len in 0..40 {
            for byte in 0..=255u8 {
                let mut text = vec![b'x'; len];
                text.push(byte);
                text.extend(*b"yyyyyyyyyy");
                let wanted = text.iter().take_while(|b| !b.is_ascii_digit()).count();
                assert_eq!(plain_len(&text), wanted, "{byte} after {len}");
                text[..len].fill(byte);
                let wanted = text.iter().take_while(|b| !b.is_ascii_digit()).count();
                assert_eq!(plain_len(&text), wanted, "{byte} times {len}");
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
