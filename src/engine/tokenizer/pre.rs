//! Pre-tokenizers: the rules that cut text into words before byte-level BPE merges inside them.
//!
//! Each rule is a list of regular expressions; a step cuts every piece of the step before it into
//! its matches and the gaps between them. The expressions are those the models' `tokenizer.json`
//! files publish, looked up by the names of `tokenizer.ggml.pre` in llama.cpp's `llama-vocab.cpp`;
//! where llama.cpp approximates one for lack of Unicode classes (`tekken`, `gpt-4o`: combining
//! marks), the published one stands here.
//!
//! Almost all of them end in `\s+(?!\S)|\s+`: a run of whitespace gives its last character to the
//! word that follows. Backtracking engines need that lookahead and are slow, or give up, on long
//! runs. Here the run is matched whole by a linear-time automaton and its last character handed
//! back, which is the same thing (a test below compares both on random text).
//!
//! Invariant: the pieces of a text, joined, are the text.

use regex::Regex;

use super::TokenizerError;

/// The English contractions of GPT-3.5 and later, in any case.
macro_rules! contractions {
    () => {
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    };
}

/// Words, numbers (`$digits` is the number branch), punctuation, line ends, other whitespace.
macro_rules! modern {
    ($digits:literal) => {
        concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
        )
    };
}

/// As [`modern!`], with words cut where lower case turns into upper case; `$suffix` may follow a
/// word.
macro_rules! cased {
    ($suffix:expr, $digits:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $suffix,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $suffix,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
        )
    };
}

/// One step: an expression, and what a match of whitespace alone does.
type Step = (&'static str, Whitespace);

/// What happens to a match that is all whitespace and is followed by something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whitespace {
    /// Nothing: the expression has no such lookahead.
    Keep,
    /// Its last character goes to what follows.
    GiveBack,
    /// The same, unless it ends a line: then an earlier branch of the expression matched it.
    GiveBackInLine,
}
use Whitespace::{GiveBack, GiveBackInLine, Keep};

const GPT2: Step = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", GiveBack);
const LLAMA3: Step = (modern!(r"\p{N}{1,3}"), GiveBackInLine);
const QWEN2: Step = (modern!(r"\p{N}"), GiveBackInLine);
const QWEN35: Step = (
    concat!(
        contractions!(),
        r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    ),
    GiveBackInLine,
);
const TEKKEN: Step = (cased!("", r"\p{N}"), GiveBackInLine);
const GPT4O: Step = (cased!(concat!(contractions!(), "?"), r"\p{N}{1,3}"), GiveBackInLine);
const DIGIT: Step = (r"\p{N}", Keep);
const THREE_ASCII_DIGITS: Step = (r"[0-9][0-9][0-9]", Keep);
const DEEPSEEK_WORDS: Step = (
    concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"
    ),
    GiveBackInLine,
);
const CJK_KANA: Step = ("[一-龥\u{3040}-ゟ゠-ヿ]+", Keep);
const CJK_HANGUL: Step = ("[一-龥\u{800}-一가-\u{d7ff}]+", Keep);
const BAILING: Step = (
    concat!(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"|\s*[\r\n]|\s+"
    ),
    GiveBackInLine,
);
const SEED: Step = (
    concat!(
        contractions!(),
        r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"
    ),
    GiveBackInLine,
);
const NO_SENTENCE_MARKS: Step = (r" ?[^(\s|.,!?…。，、।۔،)]+", Keep);
/// Cased and title-case letters of the alphabets `deepseek-llm` knows; llama.cpp lists the ranges
/// one by one, which are the letters of general category L& outside later additions to Unicode.
const DEEPSEEK_LLM_LETTERS: Step = (r"\s?[\p{Lu}\p{Ll}\p{Lt}]+", Keep);

/// What a name in `tokenizer.ggml.pre` stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    steps: &'static [Step],
    /// A word that is a token is taken whole.
    pub(super) ignore_merges: bool,
    /// Whether `bos` is added when the file does not say.
    pub(super) add_bos: bool,
}

const fn rule(steps: &'static [Step]) -> Rule {
    Rule { steps, ignore_merges: false, add_bos: false }
}

/// The rule that llama.cpp calls `default`; files that name no rule get it there too.
pub(super) const DEFAULT: Rule =
    rule(&[(r"[\p{P}$+<=>^~|]+", Keep), GPT2, (r"\p{N}+", Keep), THREE_ASCII_DIGITS]);

/// The rule of this name, or `None` for a name that is not known.
pub(super) fn rule_of(name: &str) -> Option<Rule> {
    Some(match name {
        "default" => DEFAULT,
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" => Rule { steps: &[LLAMA3], ignore_merges: true, add_bos: true },
        "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => rule(&[LLAMA3]),
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "hunyuan" | "megrez" | "solar-open"
        | "grok-2" | "kormo" => rule(&[QWEN2]),
        "qwen35" => rule(&[QWEN35]),
        "tekken" => Rule { steps: &[TEKKEN], ignore_merges: true, add_bos: true },
        "gpt-4o" | "llama4" | "kanana2" | "minimax-m2" => rule(&[GPT4O]),
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling"
        | "exaone4" | "gigachat" | "a.x-4.0" | "mellum" => rule(&[GPT2]),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => rule(&[DIGIT, GPT2]),
        "falcon" => rule(&[(r"[\p{P}$+<=>^~|`]+", Keep), GPT2, THREE_ASCII_DIGITS]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => {
            rule(&[(r"\p{N}{1,3}", Keep), CJK_KANA, DEEPSEEK_WORDS])
        }
        "deepseek-coder" => rule(&[
            (r"[\r\n]", Keep),
            (r"\s?\p{L}+", Keep),
            (r"\s?\p{P}+", Keep),
            CJK_HANGUL,
            DIGIT,
        ]),
        "deepseek-llm" => rule(&[
            (r"[\r\n]", Keep),
            DEEPSEEK_LLM_LETTERS,
            (r"\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+", Keep),
            (r"\s+$", Keep),
            CJK_HANGUL,
            (r"\p{N}+", Keep),
        ]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => rule(&[BAILING]),
        "seed-coder" => rule(&[SEED]),
        "poro-chat" | "bloom" | "gpt3-finnish" => rule(&[NO_SENTENCE_MARKS]),
        "viking" => rule(&[NO_SENTENCE_MARKS, DIGIT]),
        _ => return None,
    })
}

/// A rule with its expressions compiled.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    steps: Vec<(Regex, Whitespace)>,
}

impl PreTokenizer {
    /// Compiles a rule's expressions, which takes milliseconds for the larger ones.
    pub(super) fn new(rule: &Rule) -> Result<Self, TokenizerError> {
        let steps = rule
            .steps
            .iter()
            .map(|&(expression, whitespace)| Ok((Regex::new(expression)?, whitespace)))
            .collect::<Result<_, Box<regex::Error>>>()
            .map_err(TokenizerError::Expression)?;
        Ok(Self { steps })
    }

    /// Hands every word of `text` to `word`, in order.
    pub(super) fn split<'t>(&self, text: &'t str, word: &mut impl FnMut(&'t str)) {
        split_from(&self.steps, text, word);
    }
}

fn split_from<'t>(steps: &[(Regex, Whitespace)], piece: &'t str, word: &mut dyn FnMut(&'t str)) {
    if piece.is_empty() {
        return;
    }
    let Some(((expression, whitespace), rest)) = steps.split_first() else {
        word(piece);
        return;
    };
    let mut at = 0;
    while at < piece.len() {
        let Some(found) = expression.find_at(piece, at) else { break };
        let end = match whitespace {
            Keep => found.end(),
            kind => end_of_match(piece, found.start(), found.end(), *kind),
        };
        split_from(rest, &piece[at..found.start()], word);
        split_from(rest, &piece[found.start()..end], word);
        at = end;
    }
    split_from(rest, &piece[at..], word);
}

/// Where a match ends once the lookahead `(?!\S)` is honoured: a run of whitespace longer than one
/// character, with something else behind it, ends one character earlier.
fn end_of_match(text: &str, start: usize, end: usize, kind: Whitespace) -> usize {
    let matched = &text[start..end];
    let mut chars = matched.chars();
    let Some(last) = chars.next_back() else { return end };
    let in_line = !matches!(last, '\r' | '\n');
    let gives_back = end < text.len()
        && (kind == GiveBack || in_line)
        && !chars.as_str().is_empty()
        && last.is_whitespace()
        && chars.all(char::is_whitespace);
    if gives_back { end - last.len_utf8() } else { end }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// The expressions as published, lookahead and all.
    const PUBLISHED: &[(&str, &str)] = &[
        ("gpt-2", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
        (
            "llama-bpe",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        (
            "qwen2",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        (
            "tekken",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        (
            "bailingmoe",
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
    ];

    type Compiled = (&'static str, fancy_regex::Regex, PreTokenizer);

    static COMPILED: LazyLock<Vec<Compiled>> = LazyLock::new(|| {
        let compile = |&(name, published): &(&'static str, &str)| {
            let splitter = PreTokenizer::new(&rule_of(name).unwrap()).unwrap();
            (name, fancy_regex::Regex::new(published).unwrap(), splitter)
        };
        PUBLISHED.iter().map(compile).collect()
    });

    proptest! {
        #[test]
        fn handing_back_equals_the_published_lookahead(
            text in "([ \t\r\n\u{a0}]{1,3}|[a-zäA-Z中]{1,3}|[0-9]{1,4}|[!'/.\u{301}]{1,2}|'(s|ll|RE)){0,20}",
        ) {
            for (name, expression, splitter) in &*COMPILED {
                let expected: Vec<&str> =
                    expression.find_iter(&text).map(|found| found.unwrap().as_str()).collect();
                let mut words = Vec::new();
                splitter.split(&text, &mut |word| words.push(word));
                prop_assert_eq!(words, expected, "{} {:?}", name, text);
            }
        }
    }

    /// Backtracking engines give up on this or take minutes.
    #[test]
    fn long_runs_are_cut_in_linear_time() {
        for (text, words) in [(" ".repeat(1 << 20) + "a", 2), ("=".repeat(1 << 20), 1)] {
            let mut count = 0;
            let rule = rule_of("llama-bpe").unwrap();
            PreTokenizer::new(&rule).unwrap().split(&text, &mut |_| count += 1);
            assert_eq!(count, words);
        }
    }

    #[test]
    fn every_rule_compiles() {
        let names = [
            "default",
            "llama-bpe",
            "dbrx",
            "qwen2",
            "qwen35",
            "tekken",
            "gpt-4o",
            "gpt-2",
            "smollm",
            "falcon",
            "deepseek-v3",
            "deepseek-coder",
            "deepseek-llm",
            "bailingmoe",
            "seed-coder",
            "poro-chat",
            "viking",
        ];
        for name in names {
            PreTokenizer::new(&rule_of(name).unwrap()).unwrap();
        }
        assert!(rule_of("no-such-rule").is_none());
    }
}
