//! One pattern: how it recognises a line and what it takes from it.
//!
//! Two kinds of matcher. A *text* pattern searches the line without its envelope with a regular
//! expression. A *slog* pattern asks a structured line for its message and keys, and may search
//! the message with a regular expression.

use std::sync::OnceLock;

use memchr::memmem::Finder;
use regex::Regex;
use regex_syntax::hir::{Hir, HirKind};

use super::super::fold::Kind;
use super::super::record::Span;
use super::super::slog::Pairs;
use super::error::CatalogueError;
use super::file::{Entry, Sample, Slog};
use super::memo::Digits;
use super::scan::{NONE, Scan, Stack};

/// One pattern of the catalogue.
#[derive(Debug)]
pub struct Pattern {
    /// Its name, one of a kind over all files.
    pub id: String,
    /// What the fold does with its lines.
    pub kind: Kind,
    /// The fact that its lines are; lines of other kinds than [`Kind::Notice`] may be one, too.
    pub notice: Option<String>,
    /// Names of the fields that it may take: groups of the expression, then names for keys.
    pub names: Vec<String>,
    /// The longest literal of a text pattern without its digits, which the catalogue looks for.
    pub(super) literal: Option<String>,
    /// Bytes of all literals.
    pub(super) literal_bytes: usize,
    /// Whether it may match one line and not another that differs in the runs of its digits only.
    pub(super) digits_matter: bool,
    /// Pieces without digits of all literals.
    words: Vec<Finder<'static>>,
    literals_have_digits: bool,
    /// The other literals.
    more_literals: Vec<Finder<'static>>,
    pub(super) slog: Option<SlogMatcher>,
    expression: Option<Expression>,
    /// Keys to take, with the name's position in `names`.
    keys: Vec<(String, u16)>,
    pub(super) samples: Vec<Sample>,
}

/// What a structured line must say.
#[derive(Debug)]
pub(super) struct SlogMatcher {
    pub(super) msg: String,
    /// Whether `msg` is only the beginning.
    pub(super) prefix: bool,
    source: Option<String>,
    keys: Vec<String>,
}

/// A regular expression. Each matcher is made when a line first asks for it: a log needs few of the
/// hundreds that there are.
#[derive(Debug)]
struct Expression {
    text: String,
    scan: OnceLock<Option<Scan>>,
    regex: OnceLock<Option<Regex>>,
    /// Group number of each name.
    groups: Vec<usize>,
    digits_matter: bool,
    digits_shared: bool,
}

impl Expression {
    /// The expression with the names of its groups.
    fn new(text: String) -> Result<(Self, Vec<String>), String> {
        let hir = regex_syntax::parse(&text).map_err(|e| e.to_string())?;
        let mut named = Vec::new();
        group_names(&hir, &mut named);
        let (groups, names) = named.into_iter().unzip();
        let Digits { matter: digits_matter, shared: digits_shared, .. } = Digits::of(&hir);
        let (scan, regex) = (OnceLock::new(), OnceLock::new());
        Ok((Self { text, scan, regex, groups, digits_matter, digits_shared }, names))
    }

    fn scan(&self) -> Option<&Scan> {
        self.scan.get_or_init(|| Scan::new(&self.text)).as_ref()
    }

    fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| Regex::new(&self.text).ok()).as_ref()
    }

    /// Whether a text matches; the places of the groups are then in `stack.slots`.
    fn search(&self, text: &str, stack: &mut Stack) -> bool {
        let quick = self.scan().filter(|_| text.is_ascii());
        if let Some(found) = quick.and_then(|scan| scan.search(text.as_bytes(), stack)) {
            return found;
        }
        let Some(regex) = self.regex() else { return false };
        let mut places = regex.capture_locations();
        if regex.captures_read(&mut places, text).is_none() {
            return false;
        }
        stack.slots.clear();
        for group in 0..places.len() {
            let (start, end) = places.get(group).unwrap_or((NONE, NONE));
            stack.slots.extend([start, end]);
        }
        true
    }
}

/// Names of groups with their numbers, in their order.
fn group_names(hir: &Hir, into: &mut Vec<(usize, String)>) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            if let Some(name) = &capture.name {
                into.push((capture.index as usize, name.to_string()));
            }
            group_names(&capture.sub, into);
        }
        HirKind::Repetition(repetition) => group_names(&repetition.sub, into),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            for part in parts {
                group_names(part, into);
            }
        }
        _ => {}
    }
}

/// Room for what a match takes; kept from line to line.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Taken {
    pub(in super::super) spans: Vec<Span>,
    pub(in super::super) scratch: String,
    stack: Stack,
}

impl Taken {
    fn clear(&mut self) {
        self.spans.clear();
        self.scratch.clear();
    }
}

impl Pattern {
    pub(super) fn new(file: &str, entry: Entry) -> Result<Self, CatalogueError> {
        let id = entry.id.clone();
        Self::build(entry).map_err(|reason| CatalogueError::Pattern {
            file: file.to_string(),
            id,
            reason,
        })
    }

    fn build(entry: Entry) -> Result<Self, String> {
        let mut literals = entry.literal.into_vec();
        if entry.sample.is_empty() {
            return Err("has no sample".into());
        }
        match (entry.kind, &entry.notice) {
            (Kind::Notice, None) => return Err("is a notice and does not say which".into()),
            (Kind::Ignore, Some(_)) => return Err("is ignored and has a `notice`".into()),
            _ => {}
        }
        if entry.regex.is_none() && entry.slog.is_none() {
            return Err("has neither `regex` nor `slog`".into());
        }
        if entry.slog.is_none() && !literals.iter().any(|l| l.len() >= LITERAL_BYTES_MIN) {
            return Err(format!("needs a `literal` of at least {LITERAL_BYTES_MIN} bytes"));
        }
        if entry.slog.is_none() && !entry.keys.is_empty() {
            return Err("has `keys`, which only a `slog` pattern can take".into());
        }
        let (expression, mut names) = match entry.regex {
            Some(text) => Expression::new(text).map(|(e, n)| (Some(e), n))?,
            None => (None, Vec::new()),
        };
        let digit = |l: &String| l.bytes().any(|b| b.is_ascii_digit());
        let literals_have_digits = literals.iter().any(digit);
        let digits_matter =
            literals_have_digits || expression.as_ref().is_some_and(|e| e.digits_matter);
        let pieces = literals.iter().flat_map(|l| l.split(|c: char| c.is_ascii_digit()));
        let words = pieces.filter(|p| !p.is_empty()).map(|p| Finder::new(p).into_owned()).collect();
        let literal_bytes = literals.iter().map(String::len).sum();
        let literal = if entry.slog.is_none() { take_longest(&mut literals) } else { None };
        let first_key = names.len();
        let mut keys: Vec<(String, u16)> = Vec::new();
        for (i, (key, name)) in entry.keys.into_iter().enumerate() {
            keys.push((key, (first_key + i) as u16));
            names.push(name);
        }
        Ok(Self {
            id: entry.id,
            kind: entry.kind,
            notice: entry.notice,
            names,
            literal,
            literal_bytes,
            words,
            literals_have_digits,
            digits_matter,
            more_literals: literals.iter().map(|l| Finder::new(l).into_owned()).collect(),
            slog: entry.slog.map(SlogMatcher::new).transpose()?,
            expression,
            keys,
            samples: entry.sample,
        })
    }

    /// Whether a line that has the pattern's literal matches; what it takes is then in `taken`.
    pub(super) fn match_text(&self, text: &str, taken: &mut Taken) -> bool {
        taken.clear();
        self.slog.is_none()
            && self.has_more_literals(text)
            && self.match_expression(text, 0, false, taken)
    }

    /// The same for a line that differs in its digits only from one that matched.
    pub(super) fn match_again(&self, text: &str, taken: &mut Taken) -> bool {
        taken.clear();
        (!self.literals_have_digits || self.has_more_literals(text))
            && self.match_expression(text, 0, false, taken)
    }

    /// Whether a structured line matches; what it takes is then in `taken`. `message` is the
    /// message as it reads, and `unescaped` says that it does not stand so in the line.
    pub(super) fn match_slog(
        &self,
        text: &str,
        message: &str,
        unescaped: bool,
        pairs: &Pairs,
        taken: &mut Taken,
    ) -> bool {
        taken.clear();
        let (Some(slog), Some(msg)) = (&self.slog, pairs.msg()) else { return false };
        if !slog.accepts(message, text, pairs) || !self.has_more_literals(text) {
            return false;
        }
        if unescaped {
            taken.scratch.push_str(message);
        }
        let start = if unescaped { 0 } else { msg.value.start };
        if !self.match_expression(message, start, unescaped, taken) {
            return false;
        }
        for (key, name) in &self.keys {
            let Some(pair) = pairs.find(text, key) else { continue };
            let from = taken.scratch.len();
            let scratch = pair.text_into(text, &mut taken.scratch);
            let (start, end) = if scratch {
                (from, taken.scratch.len())
            } else {
                (pair.value.start, pair.value.end)
            };
            let (start, end) = (start as u32, end as u32);
            taken.spans.push(Span { name: *name, scratch, start, end });
        }
        true
    }

    /// Whether every line of a skeleton matches when one does, and nothing is taken from it.
    pub(in super::super) fn says_nothing(&self) -> bool {
        self.kind == Kind::Ignore && self.notice.is_none() && !self.digits_matter
    }

    /// Whether fields stand at the same places in all lines of a skeleton, as runs of digits count.
    pub(in super::super) fn has_anchors(&self) -> bool {
        !self.digits_matter && self.expression.as_ref().is_none_or(|e| !e.digits_shared)
    }

    /// Whether a piece of a literal without digits is missing, so that no line that differs in its
    /// digits only can match.
    pub(super) fn lacks_a_word(&self, text: &str) -> bool {
        self.words.iter().any(|word| word.find(text.as_bytes()).is_none())
    }

    fn has_more_literals(&self, text: &str) -> bool {
        self.more_literals.iter().all(|finder| finder.find(text.as_bytes()).is_some())
    }

    fn match_expression(
        &self,
        text: &str,
        offset: usize,
        scratch: bool,
        taken: &mut Taken,
    ) -> bool {
        let Some(expression) = &self.expression else { return true };
        let Taken { spans, stack, .. } = taken;
        if !expression.search(text, stack) {
            return false;
        }
        for (name, group) in expression.groups.iter().enumerate() {
            let (start, end) = (stack.slots[2 * group], stack.slots[2 * group + 1]);
            if end != NONE {
                let (start, end) = ((start + offset) as u32, (end + offset) as u32);
                spans.push(Span { name: name as u16, scratch, start, end });
            }
        }
        true
    }
}

/// The longest piece without digits of the longest literal. What has digits besides is left to be
/// looked for in the line.
fn take_longest(literals: &mut Vec<String>) -> Option<String> {
    let at = (0..literals.len()).max_by_key(|&i| literals[i].len())?;
    let longest = &literals[at];
    let pieces = longest.split(|c: char| c.is_ascii_digit());
    let letters = |p: &&str| p.bytes().filter(u8::is_ascii_alphabetic).count();
    let piece = pieces.max_by_key(letters).filter(|p| p.len() >= LITERAL_BYTES_MIN)?.to_string();
    if piece == *longest {
        literals.swap_remove(at);
    }
    Some(piece)
}

/// A literal for the prefilter may not be shorter: it would let most lines through.
const LITERAL_BYTES_MIN: usize = 3;

impl SlogMatcher {
    fn new(slog: Slog) -> Result<Self, String> {
        let prefix = slog.msg.ends_with('*');
        let msg = slog.msg.trim_end_matches('*').to_string();
        if prefix && msg.is_empty() {
            return Err("matches every message".into());
        }
        Ok(Self { msg, prefix, source: slog.source, keys: slog.keys })
    }

    fn accepts(&self, message: &str, text: &str, pairs: &Pairs) -> bool {
        let said = if self.prefix { message.starts_with(&self.msg) } else { message == self.msg };
        let from = || match &self.source {
            None => true,
            Some(wanted) => pairs
                .source()
                .and_then(|pair| text.get(pair.value.clone()))
                .is_some_and(|s| s.split(':').next() == Some(wanted)),
        };
        said && from() && self.keys.iter().all(|k| pairs.find(text, k).is_some())
    }
}
