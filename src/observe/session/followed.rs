//! A log that is followed: its last lines, and what all of them told.

use std::collections::VecDeque;

use crate::base::event::Line;
use crate::observe::logs::{LineId, LogSession, Options, Parser};

/// Lines that are kept.
const LINES_MAX: usize = 2000;

/// Bytes of a kept line; the rest is not shown.
const LINE_BYTES_MAX: usize = 1000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedLine {
    /// Its number, from 1, as evidence names it.
    pub id: LineId,
    /// When it was read.
    pub at_ns: u64,
    /// What it says.
    pub text: String,
}

/// A log so far.
#[derive(Clone, Debug)]
pub struct Followed {
    parser: Parser,
    lines: VecDeque<FollowedLine>,
    count: u64,
    told: LogSession,
    /// Lines that `told` knows of.
    told_lines: u64,
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            parser: Parser::new(Options::default()),
            lines: VecDeque::new(),
            count: 0,
            told: LogSession::default(),
            told_lines: 0,
        }
    }
}

impl Followed {
    pub(super) fn line(&mut self, line: &Line) {
        self.count += 1;
        self.parser.push(line.text.as_bytes());
        self.parser.push(b"\n");
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        let mut text = line.text.clone();
        if text.len() > LINE_BYTES_MAX {
            let end = (0..=LINE_BYTES_MAX).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            text.truncate(end);
        }
        self.lines.push_back(FollowedLine { id: LineId(self.count), at_ns: line.at_ns, text });
    }

    /// The last lines, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &FollowedLine> + ExactSizeIterator {
        self.lines.iter()
    }

    /// How many lines there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Brings [`Self::told`] up to the last line. That costs more than a line does, so it is done when
    /// somebody asks, and only after new lines.
    pub fn settle(&mut self) {
        if self.told_lines != self.count {
            self.told = self.parser.snapshot();
            self.told_lines = self.count;
        }
    }

    /// What the lines told, as of the last [`Self::settle`].
    pub fn told(&self) -> &LogSession {
        &self.told
    }
}
