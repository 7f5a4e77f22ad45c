//! Prompts of a wanted length that no server has read before.
//!
//! A prompt's first words say the run's salt and how many prompts came before it in this run, so that a
//! cache of prefixes holds nothing of it but the token that some models put before everything. The rest
//! follows from that number alone: the fifth prompt of any run is, after its beginning, the fifth prompt
//! of every run. Text ends in a row of numbers, which models go on with instead of ending early.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Short words that nearly every vocabulary has as one token, with the blank before them.
const WORDS: [&str; 64] = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
];
/// Words or tokens at the beginning that tell prompts apart: 6 bits each.
const UNIQUE: usize = 12;
/// Words at the end that count on.
const COUNTED: usize = 8;

/// Makes prompts, each but once.
#[derive(Clone, Debug)]
pub(super) struct Prompts {
    salt: u64,
    made: u64,
}

impl Prompts {
    /// Prompts of a run with that salt.
    pub(super) fn new(salt: u64) -> Self {
        Self { salt, made: 0 }
    }

    /// The numbers of the next prompt: its beginning, unlike any other's, and then as many as wanted.
    fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut body = SplitMix64::seed_from_u64(self.made);
        // One step of the generator mixes both, so that neighbours begin with different words.
        let mixed = self.salt ^ self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut beginning = SplitMix64::seed_from_u64(mixed);
        self.made += 1;
        (0..count)
            .map(|i| if i < UNIQUE { beginning.next_u64() } else { body.next_u64() })
            .collect()
    }

    /// Exactly `count` tokens, at least one, for a model with that many different ones. Ordinary ones:
    /// those with a meaning of their own stand at the beginning or the end of vocabularies.
    pub(super) fn tokens(&mut self, count: usize, vocab: u64) -> Vec<u32> {
        let (first, past) = if vocab >= 4000 { (1000, vocab / 4 * 3) } else { (vocab / 4, vocab) };
        let range = past.saturating_sub(first).max(1);
        self.numbers(count.max(1)).into_iter().map(|n| (first + n % range) as u32).collect()
    }

    /// Text of about `count` words, at least 20.
    pub(super) fn text(&mut self, count: usize) -> String {
        let count = count.max(UNIQUE + COUNTED);
        let mut text = String::new();
        for n in self.numbers(count - COUNTED) {
            text.push_str(WORDS[(n % 64) as usize]);
            text.push(' ');
        }
        for n in 1..=COUNTED {
            text.push_str(&n.to_string());
            text.push(if n == COUNTED { '\n' } else { ' ' });
        }
        text.truncate(text.trim_end().len());
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_prompts_begin_alike_and_lengths_are_exact() {
        let mut seen = BTreeSet::new();
        for salt in [0, 1, u64::MAX] {
            let mut prompts = Prompts::new(salt);
            for _ in 0..200 {
                let tokens = prompts.tokens(100, 32000);
                assert_eq!(tokens.len(), 100);
                assert!(tokens.iter().all(|t| (1000..24000).contains(t)));
                // Already the first tokens differ from all others'.
                assert!(seen.insert(tokens[..2].to_vec()));
            }
        }
        assert_eq!(Prompts::new(1).tokens(0, 32000).len(), 1);
        assert!(Prompts::new(1).tokens(50, 10).iter().all(|t| *t < 10));
        assert_eq!(Prompts::new(1).tokens(3, 0).len(), 3);
    }

    #[test]
    fn text_has_its_words_and_counts_on() {
        let mut prompts = Prompts::new(3);
        let (one, two) = (prompts.text(100), prompts.text(5));
        assert_eq!(one.split_whitespace().count(), 100);
        assert!(one.ends_with("6 7 8"));
        assert_eq!(two.split_whitespace().count(), UNIQUE + COUNTED);
        assert_ne!(one.split_whitespace().next(), two.split_whitespace().next());
    }

    #[test]
    fn the_rest_of_a_prompt_owes_nothing_to_the_salt() {
        let rest = |salt| Prompts::new(salt).tokens(64, 32000)[UNIQUE..].to_vec();
        assert_eq!(rest(1), rest(2));
    }
}
