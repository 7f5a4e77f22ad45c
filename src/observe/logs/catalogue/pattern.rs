//! One pattern: how it recognises a line and what it takes from it.
//!
//! Two kinds of matcher. A *text* pattern searches the line without its envelope with a regular
//! expression. A *slog* pattern asks a structured line for its message and keys, and may search
//! the message with a regular expression.

use std::sync::OnceLock;

use regex::{CaptureLocations, Regex};

use super::super::fold::Kind;
use super::super::record::Span;
use super::super::slog::Pairs;
use super::error::CatalogueError;
use super::file::{Entry, Sample, Slog};

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
    pub(super) literals: Vec<String>,
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

/// A regular expression that is compiled when a line first asks for it: a log needs few of the
/// hundreds that there are.
#[derive(Debug)]
struct Expression {
    text: String,
    compiled: OnceLock<Option<Regex>>,
    /// Group number of each name.
    groups: Vec<usize>,
}

impl Expression {
    fn new(text: String) -> Result<(Self, Vec<String>), String> {
        let regex = Regex::new(&text).map_err(|e| e.to_string())?;
        let named = regex.capture_names().enumerate();
        let (groups, names) =
            named.filter_map(|(i, n)| Some((i, n?.to_string()))).unzip::<_, _, Vec<_>, Vec<_>>();
        Ok((Self { text, compiled: OnceLock::from(Some(regex)), groups }, names))
    }

    fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| Regex::new(&self.text).ok()).as_ref()
    }
}

/// Room for what a match takes; kept from line to line.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Taken {
    pub(in super::super) spans: Vec<Span>,
    pub(in super::super) scratch: String,
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
        let literals = entry.literal.into_vec();
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
            literals,
            slog: entry.slog.map(SlogMatcher::new).transpose()?,
            expression,
            keys,
            samples: entry.sample,
        })
    }

    /// Whether a line without structure matches; what it takes is then in `taken`.
    pub(super) fn match_text(&self, text: &str, taken: &mut Taken) -> bool {
        taken.clear();
        self.slog.is_none()
            && self.literals.iter().all(|l| text.contains(l.as_str()))
            && self.match_expression(text, 0, false, taken)
    }

    /// Whether a structured line matches; what it takes is then in `taken`.
    pub(super) fn match_slog(&self, text: &str, pairs: &Pairs, taken: &mut Taken) -> bool {
        taken.clear();
        let Some(slog) = &self.slog else { return false };
        let Some(msg) = pairs.msg() else { return false };
        let start = taken.scratch.len();
        if msg.text_into(text, &mut taken.scratch) {
            return self.match_message(slog, text, pairs, None, start, taken);
        }
        let range = msg.value.clone();
        self.match_message(slog, text, pairs, Some(range), start, taken)
    }

    /// `msg` is the message's place in the line; `None` when it was unescaped into the scratch.
    fn match_message(
        &self,
        slog: &SlogMatcher,
        text: &str,
        pairs: &Pairs,
        msg: Option<std::ops::Range<usize>>,
        scratch_start: usize,
        taken: &mut Taken,
    ) -> bool {
        let in_scratch = msg.is_none();
        let start = msg.as_ref().map_or(scratch_start, |r| r.start);
        let message = match msg {
            Some(range) => text.get(range).unwrap_or_default().to_string(),
            None => taken.scratch[scratch_start..].to_string(),
        };
        if !slog.accepts(&message, text, pairs)
            || !self.literals.iter().all(|l| text.contains(l.as_str()))
            || !self.match_expression(&message, start, in_scratch, taken)
        {
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

    fn match_expression(
        &self,
        text: &str,
        offset: usize,
        scratch: bool,
        taken: &mut Taken,
    ) -> bool {
        let Some(expression) = &self.expression else { return true };
        let Some(regex) = expression.regex() else { return false };
        if expression.groups.is_empty() {
            return regex.is_match(text);
        }
        let mut places: CaptureLocations = regex.capture_locations();
        if regex.captures_read(&mut places, text).is_none() {
            return false;
        }
        for (name, group) in expression.groups.iter().enumerate() {
            if let Some((start, end)) = places.get(*group) {
                let (start, end) = ((start + offset) as u32, (end + offset) as u32);
                taken.spans.push(Span { name: name as u16, scratch, start, end });
            }
        }
        true
    }
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
