//! Bytes of a log in, a session out.

use super::catalogue::{Catalogue, Search, Taken};
use super::envelope::Envelope;
use super::fold::Fold;
use super::record::{Fields, Record};
use super::session::{LineCounts, LineId, LogSession};

/// How a log is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The patterns.
    pub catalogue: &'static Catalogue,
}

impl Default for Options {
    fn default() -> Self {
        Self { catalogue: Catalogue::builtin() }
    }
}

/// Takes the bytes of a log piece by piece.
#[derive(Debug)]
pub struct Parser {
    options: Options,
    envelope: Envelope,
    search: Search,
    fold: Fold,
    counts: LineCounts,
    /// The line that has begun and not ended.
    rest: Vec<u8>,
    source: u16,
}

impl Parser {
    /// An empty one.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            envelope: Envelope::default(),
            search: Search::default(),
            fold: Fold::default(),
            counts: LineCounts::default(),
            rest: Vec::new(),
            source: 0,
        }
    }

    /// Takes the next bytes; they may end anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.counts.bytes += bytes.len() as u64;
        self.rest.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.rest);
        let end = all.iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
        for line in all[..end].split_inclusive(|&b| b == b'\n') {
            self.line(line.strip_suffix(b"\n").unwrap_or(line));
        }
        self.rest.extend_from_slice(&all[end..]);
    }

    /// The next bytes are of another file: what has begun is ended.
    pub fn next_source(&mut self) {
        let last = std::mem::take(&mut self.rest);
        if !last.is_empty() {
            self.line(&last);
        }
        self.source = self.source.saturating_add(1);
    }

    /// Ends the log.
    pub fn finish(mut self) -> LogSession {
        self.next_source();
        let mut session = self.fold.finish();
        session.counts = self.counts;
        session
    }

    fn line(&mut self, bytes: &[u8]) {
        self.counts.lines += 1;
        let line = LineId(self.counts.lines);
        let mut text = String::from_utf8_lossy(bytes).trim_end_matches('\r').to_string();
        self.envelope.strip_owned(&mut text);
        if text.trim().is_empty() {
            self.counts.blank += 1;
            return;
        }
        let Some(pattern) = self.options.catalogue.find(&text, &mut self.search) else {
            self.counts.unknown += 1;
            return;
        };
        self.counts.known += 1;
        let Taken { spans, scratch } = &self.search.taken;
        self.fold.apply(&Record {
            pattern,
            kind: pattern.kind,
            fields: Fields { pattern, spans, text: &text, scratch },
            line,
            text: &text,
            at_ns: None,
            elapsed_ns: None,
            count: 1,
            process: None,
            source: self.source,
        });
    }
}

/// Reads a log that is in memory.
pub fn parse_bytes(bytes: &[u8]) -> LogSession {
    let mut parser = Parser::new(Options::default());
    parser.push(bytes);
    parser.finish()
}
