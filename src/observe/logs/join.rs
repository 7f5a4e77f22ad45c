//! Lines that a terminal, a viewer or a container's runtime broke are put together again.
//!
//! A line goes on in the next one only when that one cannot be a line by itself and the two make
//! sense together. Invariant: what is held is bounded.

use super::catalogue::{Catalogue, Search};
use super::envelope::Told;
use super::session::LineId;
use super::slog::Pairs;
use super::text;

/// A line that may go on in the next one.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) text: String,
    pub(super) told: Told,
    pub(super) line: LineId,
    pieces: u32,
}

const BYTES_MAX: usize = 64 << 10;
const PIECES_MAX: u32 = 64;
/// Terminals are not narrower; a shorter line was not broken by one.
const BROKEN_BYTES_MIN: usize = 40;

impl Held {
    pub(super) fn new(text: &str, told: Told, line: LineId) -> Self {
        Self { text: text.to_string(), told, line, pieces: 1 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= BYTES_MAX || self.pieces >= PIECES_MAX
    }

    pub(super) fn append(&mut self, text: &str) {
        self.text.push_str(text);
        self.pieces += 1;
    }

    /// Whether `next` is the rest of this line.
    pub(super) fn goes_on_with(
        &self,
        next: &str,
        told: &Told,
        catalogue: &Catalogue,
        search: &mut Search,
    ) -> bool {
        let own_envelope = told.at_ns.is_some()
            || told.elapsed_ns.is_some()
            || told.process.is_some()
            || (told.collected && !self.told.collected);
        if own_envelope || self.text.len() < BROKEN_BYTES_MIN || text::is_head(next) {
            return false;
        }
        if self.told.collected && !told.collected {
            return true; // the collector would have named itself in a line of its own
        }
        if catalogue.find(next, search).is_some() {
            return false;
        }
        let mut pairs = Pairs::default();
        if pairs.read(&self.text) {
            return pairs.open || looks_like_pairs(next);
        }
        catalogue.find(&self.text, search).is_none()
            && ["", " "].iter().any(|between| {
                catalogue.find(&[&self.text, *between, next].concat(), search).is_some()
            })
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

/// Whether what follows a line may be its rest, as far as one can tell without reading it.
pub(super) fn may_go_on(line: &[u8], after: &[u8]) -> bool {
    const SAME: usize = 4;
    if after.len() >= SAME && line.get(..SAME) == after.get(..SAME) {
        return false;
    }
    let end = memchr::memchr(b'\n', after).unwrap_or(after.len()).min(128);
    let next = &after[..end];
    if next.is_empty() {
        // Nothing is known of it yet, or it is an empty line.
        return after.is_empty();
    }
    let valid = next.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    !text::is_head(valid)
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
