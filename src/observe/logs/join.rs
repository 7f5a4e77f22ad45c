//! Lines that a terminal, a viewer or a container's runtime broke are put together again.
//!
//! A line goes on in the next one only when that one cannot be a line by itself and the two make
//! sense together. Invariant: what is held is bounded.

use super::catalogue::{Catalogue, Search};
use super::envelope::Told;
use super::session::LineId;
use super::slog::Pairs;
use super::text;

/// What of a line as it stands in the file decides whether the next one may be its rest. Cheap,
/// and the same whether the next line is known already or comes later.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edge {
    first: [u8; Self::FIRST],
    /// Whether it ends within quotes.
    quoted: bool,
    /// Characters, envelope included: what a terminal counts.
    width: usize,
}

impl Edge {
    /// Lines that begin with the same bytes are lines of their own.
    const FIRST: usize = 4;
    /// So many bytes of the next line are looked at.
    const NEXT: usize = 128;

    /// The edge of a line that itself continues one that ended within quotes, or not.
    pub(super) fn of(line: &[u8], quoted: bool) -> Self {
        let mut first = [0; Self::FIRST];
        for (to, from) in first.iter_mut().zip(line) {
            *to = *from;
        }
        let quotes = memchr::memchr_iter(b'"', line).count();
        let width = line.iter().filter(|&&b| b & 0xc0 != 0x80).count();
        Self { first, quoted: quoted ^ (quotes % 2 == 1), width }
    }

    /// Whether what follows begins as the line does, and so is a line of its own.
    pub(super) fn same_beginning(line: &[u8], after: &[u8]) -> bool {
        line.get(..Self::FIRST).is_some_and(|first| after.starts_with(first))
    }

    /// Whether the line fills a terminal of a usual width, so that it was most likely broken there.
    fn full(&self) -> bool {
        const USUAL: [usize; 5] = [80, 100, 120, 132, 160];
        USUAL.contains(&self.width)
    }

    /// Whether the line ends within quotes.
    pub(super) fn quoted(&self) -> bool {
        self.quoted
    }

    /// Whether the beginning of what follows may be the rest; true when too little is known.
    pub(super) fn may_go_on(&self, after: &[u8]) -> bool {
        let end = memchr::memchr(b'\n', &after[..after.len().min(Self::NEXT)]);
        match end {
            None if after.len() < Self::NEXT => true,
            None => self.fits(after),
            Some(end) => self.fits(&after[..end]),
        }
    }

    /// Whether `next`, a whole line or a beginning that is long enough, may be the rest.
    fn fits(&self, next: &[u8]) -> bool {
        let next = &next[..next.len().min(Self::NEXT)];
        // Pieces that were broken at a space all begin with it.
        let piece = matches!(self.first, [b' ', b'a'..=b'z', ..]);
        if next.is_empty() || (!piece && next.starts_with(&self.first)) {
            return false;
        }
        let valid = next.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let rest_of_any = self.quoted || self.full();
        if rest_of_any { !text::is_sure_head(valid) } else { !text::is_head(valid) }
    }
}

/// How wide the terminal is that broke lines, as far as they tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widths {
    width: usize,
    seen: u32,
}

impl Widths {
    fn learn(&mut self, width: usize) {
        if self.width == width {
            self.seen = self.seen.saturating_add(1);
        } else {
            *self = Self { width, seen: 1 };
        }
    }

    /// Whether lines of this width were broken before.
    fn breaks_at(&self, width: usize) -> bool {
        self.seen >= 2 && self.width == width
    }
}

/// A line that may go on in the next one.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) text: String,
    pub(super) told: Told,
    pub(super) line: LineId,
    pub(super) edge: Edge,
    pieces: u32,
}

const BYTES_MAX: usize = 64 << 10;
const PIECES_MAX: u32 = 64;
/// Terminals are not narrower; a shorter line was not broken by one.
const BROKEN_BYTES_MIN: usize = 40;

impl Held {
    pub(super) fn new(text: &str, told: Told, line: LineId, edge: Edge) -> Self {
        Self { text: text.to_string(), told, line, edge, pieces: 1 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= BYTES_MAX || self.pieces >= PIECES_MAX
    }

    pub(super) fn append(&mut self, text: &str) {
        self.text.push_str(text);
        self.pieces += 1;
    }

    /// Whether `next` is the rest of this line; `raw` is the same with its envelope.
    pub(super) fn goes_on_with(
        &self,
        next: &str,
        raw: &[u8],
        told: &Told,
        widths: &mut Widths,
        catalogue: &Catalogue,
        search: &mut Search,
    ) -> bool {
        let own_envelope = told.at.is_some()
            || told.elapsed_ns.is_some()
            || told.process.is_some()
            || (told.collected && !self.told.collected);
        let long = self.text.len().max(self.edge.width);
        if own_envelope || long < BROKEN_BYTES_MIN || !self.edge.fits(raw) {
            return false;
        }
        let goes_on = self.makes_sense_with(next, told, *widths, catalogue, search);
        if goes_on {
            widths.learn(self.edge.width);
        }
        goes_on
    }

    fn makes_sense_with(
        &self,
        next: &str,
        told: &Told,
        widths: Widths,
        catalogue: &Catalogue,
        search: &mut Search,
    ) -> bool {
        if self.told.collected && !told.collected {
            return true; // the collector would have named itself in a line of its own
        }
        if text::is_sure_head(next) || catalogue.find(next, search).is_some() {
            return false;
        }
        let unknown = catalogue.find(&self.text, search).is_none();
        let known_with = |search: &mut Search| {
            ["", " "].iter().any(|between| {
                catalogue.find(&[&self.text, *between, next].concat(), search).is_some()
            })
        };
        let full = self.edge.full() && (unknown || known_with(search));
        let broken = full || (widths.breaks_at(self.edge.width) && !text::is_head(next));
        let mut pairs = Pairs::default();
        if pairs.read(&self.text) {
            return pairs.open || looks_like_pairs(next) || broken;
        }
        broken || (!text::is_head(next) && unknown && known_with(search))
    }

    /// Takes the rest in. A hard break lost nothing; a break between words lost a space.
    pub(super) fn append_wrapped(
        &mut self,
        next: &str,
        catalogue: &Catalogue,
        search: &mut Search,
    ) {
        let spaced = self.text.ends_with(' ') || next.starts_with(' ');
        let mut pairs = Pairs::default();
        let between = if spaced {
            ""
        } else if pairs.read(&self.text) {
            if !pairs.open && begins_with_pair(next) && ends_with_pair(&self.text) {
                " "
            } else {
                ""
            }
        } else if catalogue.find(&[&self.text, next].concat(), search).is_some() {
            ""
        } else if catalogue.find(&[&self.text, " ", next].concat(), search).is_some() {
            " "
        } else {
            ""
        };
        self.text.push_str(between);
        self.append(next);
    }
}

fn looks_like_pairs(text: &str) -> bool {
    begins_with_pair(text.trim_start())
        || text.split(' ').skip(1).any(begins_with_pair)
        || text.trim_end().ends_with('"')
}

/// `key=`.
fn begins_with_pair(text: &str) -> bool {
    let key = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let len = text.bytes().take_while(|b| key(b)).count();
    len > 0 && text.as_bytes().get(len) == Some(&b'=')
}

/// Whether the last word is a whole pair, as far as one can tell: a quoted value that is closed.
fn ends_with_pair(text: &str) -> bool {
    text.ends_with('"') || text.rsplit(' ').next().is_some_and(begins_with_pair)
}
