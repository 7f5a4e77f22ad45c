//! Lines that facts refer to, and how many lines there were.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of a line in its log, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId(pub u64);

/// A value with the line that told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub line: LineId,
}

/// A line as it stands in the log, without its envelope and cut to [`LineText::BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineText {
    /// The text.
    pub text: Arc<str>,
    /// Nanoseconds since the Unix epoch, where the line or its envelope told a full time.
    pub at_ns: Option<i64>,
    /// Which of several files the line is from, by its position among the inputs.
    pub source: u16,
}

impl LineText {
    /// Longer lines are cut here, at a character's border.
    pub const BYTES_MAX: usize = 800;
}

/// The texts of the lines that facts refer to. Bounded: when full, new lines are not kept, and a
/// fact then has a number but no text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    texts: BTreeMap<LineId, LineText>,
    bytes: usize,
}

impl Lines {
    /// All texts together stay under this.
    pub const BYTES_MAX: usize = 16 << 20;

    /// Keeps a line, if there is room for it.
    pub fn keep(&mut self, id: LineId, line: LineText) {
        if self.texts.contains_key(&id) || self.bytes + line.text.len() > Self::BYTES_MAX {
            return;
        }
        self.bytes += line.text.len();
        self.texts.insert(id, line);
    }

    /// All texts together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The text of a line that was kept.
    pub fn get(&self, id: LineId) -> Option<&LineText> {
        self.texts.get(&id)
    }

    /// Forgets the lines that nothing refers to any more.
    pub fn retain(&mut self, wanted: impl Fn(LineId) -> bool) {
        self.texts.retain(|&id, _| wanted(id));
        self.bytes = self.texts.values().map(|l| l.text.len()).sum();
    }
}

/// How many lines there were, and how many of them were understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// All lines.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lines that a pattern matched.
    pub known: u64,
    /// Lines that say nothing: empty ones, cuts like `[...]`.
    pub blank: u64,
    /// Lines that no pattern matched.
    pub unknown: u64,
    /// Kinds of unknown lines by their shape (numbers and ids replaced), with an example and how
    /// often; bounded, the most frequent first.
    pub unknown_shapes: Vec<(String, LineId, u64)>,
}
