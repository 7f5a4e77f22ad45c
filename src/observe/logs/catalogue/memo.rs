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
    /// Whether a run of digits may be shared by two parts, so that its length says where one ends.
    pub(super) shared: bool,
    /// Whether it can begin, or end, with a run that needs a digit.
    begins: bool,
    ends: bool,
    /// Whether it can begin, or end, with a run that takes digits.
    takes_first: bool,
    takes_last: bool,
    /// Whether it can match nothing.
    empty: bool,
}

impl Digits {
    pub(super) fn of(hir: &Hir) -> Self {
        let plain = Self {
            matter: false,
            shared: false,
            begins: false,
            ends: false,
            takes_first: false,
            takes_last: false,
            empty: false,
        };
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
                            let (begins, ends) = (!empty, !empty);
                            let (takes_first, takes_last) = (true, true);
                            Self { begins, ends, takes_first, takes_last, empty, ..plain }
                        }
                        _ => Self { matter: true, ..plain },
                    };
                }
                let sub = Self::of(&repetition.sub);
                let many = max != Some(1);
                Self {
                    matter: sub.matter || (many && sub.begins && sub.ends),
                    shared: sub.shared || (many && sub.takes_first && sub.takes_last),
                    empty: empty || sub.empty,
                    ..sub
                }
            }
            HirKind::Alternation(parts) => {
                parts.iter().map(Self::of).fold(plain, |all, part| Self {
                    matter: all.matter || part.matter,
                    shared: all.shared || part.shared,
                    takes_first: all.takes_first || part.takes_first,
                    takes_last: all.takes_last || part.takes_last,
                    begins: all.begins || part.begins,
                    ends: all.ends || part.ends,
                    empty: all.empty || part.empty,
                })
            }
            HirKind::Concat(parts) => {
                let mut all = Self { empty: true, ..plain };
                for part in parts.iter().map(Self::of) {
                    all.matter |= part.matter || (all.ends && part.begins);
                    all.shared |= part.shared || (all.takes_last && part.takes_first);
                    all.takes_first |= all.empty && part.takes_first;
                    all.takes_last = part.takes_last || (part.empty && all.takes_last);
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
