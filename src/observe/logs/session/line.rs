//! Lines that facts refer to, and how many lines there were.

use std::collections::BTreeSet;
use std::fmt;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineText<'a> {
    /// The text.
    pub text: &'a str,
    /// Nanoseconds since the Unix epoch, where the line or its envelope told a full time.
    pub at_ns: Option<i64>,
    /// Which of several files the line is from, by its position among the inputs.
    pub source: u16,
}

impl LineText<'_> {
    /// Longer lines are cut here, at a character's border.
    pub const BYTES_MAX: usize = 800;
}

/// The texts of the lines that facts refer to. Bounded: when full, new lines are not kept, and a
/// fact then has a number but no text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// In the order of their numbers.
    kept: Vec<Kept>,
    /// All texts, one after another: a log keeps and forgets many lines.
    text: String,
}

/// Where the text of a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    id: LineId,
    start: usize,
    end: usize,
    at_ns: Option<i64>,
    source: u16,
}

impl Lines {
    /// All texts together stay under this.
    pub const BYTES_MAX: usize = 16 << 20;

    /// Keeps a line, if there is room for it and it is not there already.
    pub fn keep(&mut self, id: LineId, line: LineText<'_>) {
        if self.text.len() + line.text.len() > Self::BYTES_MAX {
            return;
        }
        // Nearly always the last one.
        let at = match self.kept.last() {
            Some(last) if last.id == id => return,
            Some(last) if last.id > id => match self.kept.binary_search_by_key(&id, |k| k.id) {
                Ok(_) => return,
                Err(at) => at,
            },
            _ => self.kept.len(),
        };
        let start = self.text.len();
        self.text.push_str(line.text);
        let (end, LineText { at_ns, source, .. }) = (self.text.len(), line);
        self.kept.insert(at, Kept { id, start, end, at_ns, source });
    }

    /// All texts together.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The text of a line that was kept.
    pub fn get(&self, id: LineId) -> Option<LineText<'_>> {
        let at = self.kept.binary_search_by_key(&id, |k| k.id).ok()?;
        let Kept { start, end, at_ns, source, .. } = self.kept[at];
        Some(LineText { text: self.text.get(start..end)?, at_ns, source })
    }

    /// Forgets the lines that nothing refers to any more.
    pub fn retain(&mut self, wanted: &BTreeSet<LineId>) {
        let mut wanted = wanted.iter().peekable();
        let mut text = String::new();
        let all = std::mem::take(&mut self.text);
        self.kept.retain_mut(|kept| {
            let start = text.len();
            // Both are in order.
            while wanted.next_if(|id| **id < kept.id).is_some() {}
            let wanted = wanted.peek().is_some_and(|id| **id == kept.id);
            if wanted {
                text.push_str(&all[kept.start..kept.end]);
                (kept.start, kept.end) = (start, text.len());
            }
            wanted
        });
        self.text = text;
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.kept.iter().map(|k| (k.id, self.get(k.id)))).finish()
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
