//! A line that a pattern of the catalogue matched, with what the pattern took from it.
//!
//! Borrowed from the line: whoever keeps something copies it. What a record means is the fold's
//! business. Invariant: every field's name is one that its pattern declares.

use super::catalogue::Pattern;
use super::fold::Kind;
use super::session::{LineId, LineText};

/// Where the value of a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Position of the field's name among the pattern's names.
    pub(super) name: u16,
    /// In the scratch text, because it had escapes, and not in the line.
    pub(super) scratch: bool,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What a pattern took from a line: names and texts, in the order of the pattern.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    pub(super) pattern: &'a Pattern,
    pub(super) spans: &'a [Span],
    pub(super) text: &'a str,
    pub(super) scratch: &'a str,
}

impl<'a> Fields<'a> {
    /// The text of a field; `None` when the line did not have it.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let named = |span: &&Span| {
            self.pattern.names.get(usize::from(span.name)).is_some_and(|n| n == name)
        };
        let span = self.spans.iter().find(named)?;
        let from = if span.scratch { self.scratch } else { self.text };
        from.get(span.start as usize..span.end as usize)
    }

    /// A field as a number of any kind that reads so.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.trim().parse().ok()
    }

    /// All fields that the line had.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let Self { pattern, spans, text, scratch } = *self;
        spans.iter().filter_map(move |span| {
            let name = pattern.names.get(usize::from(span.name))?;
            let from = if span.scratch { scratch } else { text };
            Some((name.as_str(), from.get(span.start as usize..span.end as usize)?))
        })
    }
}

/// A line that a pattern matched.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The pattern; its `id` tells lines of one kind apart, its `notice` names a fact.
    pub pattern: &'a Pattern,
    /// What to do with it.
    pub kind: Kind,
    /// What it took from the line.
    pub fields: Fields<'a>,
    /// The (first) line of the log that it stands in.
    pub line: LineId,
    /// The line without its envelope.
    pub text: &'a str,
    /// Nanoseconds since the Unix epoch, where the line or its envelope told a full time.
    pub at_ns: Option<i64>,
    /// Nanoseconds since the program started, where the line told so (`0.00.800.123 I …`).
    pub elapsed_ns: Option<u64>,
    /// How often the line stands for itself: more than 1 when syslog folded repeats into one.
    pub count: u64,
    /// The process that wrote it, where the envelope tells: a pid, or the port of a router's child.
    pub process: Option<u32>,
    /// Which of several files the line is from.
    pub source: u16,
}

impl Record<'_> {
    /// The line to keep with a fact, cut to [`LineText::BYTES_MAX`].
    pub fn line_text(&self) -> LineText<'_> {
        let end = self.text.floor_char_boundary(LineText::BYTES_MAX);
        LineText { text: &self.text[..end], at_ns: self.at_ns, source: self.source }
    }
}
