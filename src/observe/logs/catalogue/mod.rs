//! Patterns as data: which lines the program knows, from `profiles/engines/*.toml`.
//!
//! The catalogue says which pattern a line matches and what the pattern takes from it; what that
//! means is the fold's business. Invariant of a checked catalogue: every pattern has samples, and
//! every sample is matched by its own pattern and by no other.

mod builtin;
mod error;
mod file;
mod memo;
mod pattern;
mod scan;
mod skeleton;

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

pub use error::{CatalogueError, SampleFault};
pub(super) use memo::Memo;
pub use pattern::Pattern;
pub(super) use pattern::Taken;
pub(super) use skeleton::{Anchor, Runs, skeleton};

use memo::Answer;

use super::envelope::Envelope;
use super::slog::{Pairs, may_be_structured};

/// All patterns, with what finds the few that a line can match.
#[derive(Debug)]
pub struct Catalogue {
    patterns: Vec<Pattern>,
    /// Finds the longest literal of every text pattern in one pass; the position of a literal is
    /// the position in `text_patterns`.
    literals: Option<AhoCorasick>,
    /// For each literal the text patterns that hang on it.
    text_patterns: Vec<Vec<u32>>,
    /// Text patterns whose literals are nothing but digits: tried on every line.
    always: Vec<u32>,
    /// Position of each pattern in the order in which they are tried: the one with most
    /// literal bytes first, because it is the most exact.
    ranks: Vec<u32>,
    /// Slog patterns by their whole message.
    messages: HashMap<String, Vec<u32>>,
    /// Slog patterns by the beginning of their message, the longest first.
    prefixes: Vec<u32>,
}

/// Room for the search; kept from line to line.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    pub(super) pairs: Pairs,
    pub(super) taken: Taken,
    candidates: Vec<u32>,
    runs: Runs,
    message: String,
    memo: Memo<Answer>,
    /// The pattern that the last line matched, if every line of the same skeleton that matches it
    /// has it for its answer.
    pub(super) sure: Option<u32>,
}

impl Catalogue {
    /// The patterns that come with the program.
    pub fn builtin() -> &'static Self {
        builtin::catalogue()
    }

    /// Reads files, given as name and text, and checks them.
    ///
    /// # Errors
    /// See [`CatalogueError`].
    pub fn load<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, CatalogueError> {
        let (catalogue, file_of) = Self::read(files)?;
        match catalogue.faults(&file_of).into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(catalogue),
        }
    }

    /// Without trying the samples; with the file of each pattern.
    fn read<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(Self, Vec<&'a str>), CatalogueError> {
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut file_of = Vec::new();
        for (name, text) in files {
            for entry in file::parse(name, text)?.pattern {
                let pattern = Pattern::new(name, entry)?;
                if patterns.iter().any(|p| p.id == pattern.id) {
                    return Err(CatalogueError::Pattern {
                        file: name.to_string(),
                        id: pattern.id,
                        reason: "has an id that is taken".into(),
                    });
                }
                patterns.push(pattern);
                file_of.push(name);
            }
        }
        Ok((Self::index(patterns), file_of))
    }

    /// All patterns in their order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// The lines of all samples, in their order.
    pub fn samples(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().flat_map(|p| &p.samples).map(|s| s.line.as_str())
    }

    /// The words that are looked for in every line: one of each text pattern.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().filter_map(|p| p.literal.as_deref())
    }

    fn index(patterns: Vec<Pattern>) -> Self {
        let mut words: Vec<&str> = Vec::new();
        let mut text_patterns: Vec<Vec<u32>> = Vec::new();
        let mut messages: HashMap<String, Vec<u32>> = HashMap::new();
        let (mut prefixes, mut always) = (Vec::new(), Vec::new());
        for (i, pattern) in (0u32..).zip(&patterns) {
            match &pattern.slog {
                Some(slog) if slog.prefix => prefixes.push(i),
                Some(slog) => messages.entry(slog.msg.clone()).or_default().push(i),
                None => {
                    let Some(literal) = &pattern.literal else {
                        always.push(i);
                        continue;
                    };
                    if let Some(known) = words.iter().position(|w| w == literal) {
                        text_patterns[known].push(i);
                    } else {
                        words.push(literal);
                        text_patterns.push(vec![i]);
                    }
                }
            }
        }
        let length = |i: &u32| patterns[*i as usize].slog.as_ref().map_or(0, |s| s.msg.len());
        prefixes.sort_by_key(|i| std::cmp::Reverse(length(i)));
        let literals = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&words)
            .ok();
        let mut order: Vec<u32> = (0..patterns.len() as u32).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(patterns[i as usize].literal_bytes));
        let mut ranks = vec![0; patterns.len()];
        for (rank, &i) in (0..).zip(&order) {
            ranks[i as usize] = rank;
        }
        Self { patterns, literals, text_patterns, always, ranks, messages, prefixes }
    }

    /// The pattern that a line matches; what it takes is then in `search.taken`.
    pub(super) fn find(&self, text: &str, search: &mut Search) -> Option<&Pattern> {
        search.sure = None;
        if may_be_structured(text) {
            let mut found = None;
            self.each_match(text, search, |pattern| {
                found = Some(pattern);
                false
            });
            return found;
        }
        let skeleton = skeleton(text.as_bytes(), &mut search.runs);
        match search.memo.get(skeleton) {
            Some(Answer::Unknown) => return None,
            Some(Answer::Pattern(i)) => {
                let pattern = &self.patterns[i as usize];
                if pattern.match_again(text, &mut search.taken) {
                    search.sure = Some(i);
                    return Some(pattern);
                }
            }
            None => {}
        }
        self.candidates(text, &mut search.candidates);
        for &i in &search.candidates {
            let pattern = &self.patterns[i as usize];
            if pattern.match_text(text, &mut search.taken) {
                search.memo.put(skeleton, Answer::Pattern(i));
                search.sure = Some(i);
                return Some(pattern);
            }
            if pattern.digits_matter && !pattern.lacks_a_word(text) {
                // What comes after may be the answer for this line only.
                return self.find_after(i, text, search);
            }
        }
        search.memo.put(skeleton, Answer::Unknown);
        None
    }

    /// Tries one text pattern, the answer for other lines of the same skeleton.
    pub(super) fn find_again(
        &self,
        pattern: u32,
        text: &str,
        search: &mut Search,
    ) -> Option<&Pattern> {
        let pattern = self.patterns.get(pattern as usize)?;
        pattern.match_again(text, &mut search.taken).then_some(pattern)
    }

    /// The rest of a search whose answer is not remembered.
    fn find_after(&self, tried: u32, text: &str, search: &mut Search) -> Option<&Pattern> {
        let Search { candidates, taken, .. } = search;
        let rest = candidates.iter().skip_while(|&&i| i != tried).skip(1);
        let mut patterns = rest.map(|&i| &self.patterns[i as usize]);
        patterns.find(|pattern| pattern.match_text(text, taken))
    }

    /// Calls `each` for every pattern that matches, until it says false.
    fn each_match<'c>(
        &'c self,
        text: &str,
        search: &mut Search,
        mut each: impl FnMut(&'c Pattern) -> bool,
    ) {
        let Search { pairs, taken, candidates, message, .. } = search;
        if pairs.read(text) {
            message.clear();
            let msg = pairs.msg();
            let unescaped = msg.is_some_and(|msg| msg.text_into(text, message));
            let in_line = msg.and_then(|msg| text.get(msg.value.clone())).unwrap_or_default();
            let said = if unescaped { message.as_str() } else { in_line };
            for i in self.slog_candidates(said) {
                let pattern = &self.patterns[i as usize];
                if pattern.match_slog(text, said, unescaped, pairs, taken) && !each(pattern) {
                    return;
                }
            }
        }
        self.candidates(text, candidates);
        for &i in &*candidates {
            let pattern = &self.patterns[i as usize];
            if pattern.match_text(text, taken) && !each(pattern) {
                return;
            }
        }
    }

    /// Text patterns whose literal stands in a line, in the order in which they are tried.
    fn candidates(&self, text: &str, into: &mut Vec<u32>) {
        into.clear();
        into.extend(&self.always);
        let Some(literals) = &self.literals else { return };
        for hit in literals.find_overlapping_iter(text) {
            into.extend(&self.text_patterns[hit.pattern().as_usize()]);
        }
        into.sort_unstable_by_key(|&i| self.ranks[i as usize]);
        into.dedup();
    }

    /// Slog patterns that a message may be of: those for the whole message first.
    fn slog_candidates(&self, message: &str) -> impl Iterator<Item = u32> {
        let whole = self.messages.get(message).into_iter().flatten().copied();
        let begins = move |i: &u32| {
            let slog = self.patterns[*i as usize].slog.as_ref();
            slog.is_some_and(|s| message.starts_with(&s.msg))
        };
        whole.chain(self.prefixes.iter().copied().filter(begins))
    }

    /// Tries every sample on every pattern: what is wrong with them.
    fn faults(&self, file_of: &[&str]) -> Vec<CatalogueError> {
        let mut search = Search::default();
        let mut faults = Vec::new();
        for (pattern, file) in self.patterns.iter().zip(file_of) {
            for (number, sample) in (1..).zip(&pattern.samples) {
                if let Err(reason) = self.check_sample(pattern, sample, &mut search) {
                    faults.push(CatalogueError::Sample {
                        file: (*file).to_string(),
                        id: pattern.id.clone(),
                        number,
                        reason: Box::new(reason),
                    });
                }
            }
        }
        faults
    }

    fn check_sample(
        &self,
        pattern: &Pattern,
        sample: &file::Sample,
        search: &mut Search,
    ) -> Result<(), SampleFault> {
        let mut text = sample.line.clone();
        Envelope::default().strip_owned(&mut text);
        let mut ids = Vec::new();
        self.each_match(&text, search, |matched| {
            ids.push(matched.id.clone());
            true
        });
        if ids.is_empty() {
            return Err(SampleFault::NoMatch);
        }
        if ids != [pattern.id.clone()] {
            ids.retain(|id| *id != pattern.id);
            return Err(SampleFault::Others(ids));
        }
        self.find(&text, search);
        let Taken { spans, scratch, .. } = &search.taken;
        let fields = super::record::Fields { pattern, spans, text: &text, scratch };
        for (name, wanted) in &sample.fields {
            let found = fields.get(name);
            if found != Some(wanted) {
                return Err(SampleFault::Field {
                    name: name.clone(),
                    wanted: wanted.clone(),
                    found: found.map(str::to_string),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
