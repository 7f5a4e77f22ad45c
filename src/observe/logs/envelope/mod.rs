//! What other programs put around a line: journald, syslog, Docker, Kubernetes, quoting mail and
//! terminals. Takes it off and keeps what it says: a time, a process, a count.
//!
//! It does not know what the line itself says. Invariants: any text gives a text that is not
//! longer (but for JSON, whose escapes are undone), and taking off what is off changes nothing.

mod container;
mod journald;
mod json;
mod prefix;

use std::borrow::Cow;

use super::text::clock;

/// What the envelope of a line told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// When it was written.
    pub(super) at: Option<At>,
    /// Nanoseconds since the program started.
    pub(super) elapsed_ns: Option<u64>,
    /// Second of the day, where the date lacks the year: good for the order of lines.
    pub(super) day_s: Option<u32>,
    /// How often the line stands for itself; 0 and 1 are once.
    pub(super) count: u64,
    /// The process that wrote it.
    pub(super) process: Option<u32>,
    /// Whether the next line goes on in this one, as the container's runtime says.
    pub(super) partial: bool,
    /// Whether a log collector named itself, its host or its unit in the line.
    pub(super) collected: bool,
    /// Whether a container's runtime, or a viewer of containers, put something around the line.
    pub(super) container: bool,
}

/// What the envelope of a line is, for all lines of the same skeleton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// There is none.
    Bare,
    /// The time since the program started.
    Elapsed,
    /// Any others, by what they told.
    Other(u8),
}

/// A time of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    /// Nanoseconds since the epoch.
    ns: i64,
    /// Whether the zone was not told, and `ns` counts as if it were UTC.
    local: bool,
}

impl At {
    /// A time whose zone is known.
    fn utc(ns: i64) -> Self {
        Self { ns, local: false }
    }

    fn of(stamp: clock::Stamp) -> Self {
        Self { ns: stamp.epoch_ns(0), local: stamp.offset_s.is_none() }
    }
}

/// What a line may lose at once: the length in front, and what that told.
type Stripped = Option<(usize, Told)>;

/// Takes envelopes off lines; remembers what lines tell about later ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Envelope {
    /// Seconds east of UTC, from the last time that told it; for those that do not.
    zone_s: i32,
    /// The time of a line of its own, for the line that follows.
    pending: Option<At>,
    /// Whether any line so far came out of a container.
    pub(super) container: bool,
    /// Whether any line so far was written by a service, by its name and process.
    pub(super) journal: bool,
}

/// Lines of viewers that say nothing but how grave the next one is, or where it went.
const LEVELS: [&str; 8] =
    ["info", "warn", "warning", "error", "debug", "stderr", "stdout", "default"];

/// Envelopes within envelopes are taken off up to this depth.
const DEPTH_MAX: usize = 8;

impl Envelope {
    /// The line without its envelope.
    pub(super) fn open<'a>(&mut self, text: &'a str) -> (Cow<'a, str>, Told) {
        let mut told = Told::default();
        let mut text = Cow::Borrowed(text);
        for _ in 0..DEPTH_MAX {
            if surely_bare(&text) {
                break;
            }
            if let Some((inner, more)) = json::open(&text) {
                told.add(more);
                text = Cow::Owned(inner);
            } else if let Some((len, more)) = Self::prefix(&text) {
                told.add(more);
                text = match text {
                    Cow::Borrowed(text) => Cow::Borrowed(&text[len..]),
                    Cow::Owned(text) => Cow::Owned(text[len..].to_string()),
                };
            } else if let Some((start, end, count)) = journald::repeat(&text) {
                told.count = count;
                text = Cow::Owned(text[start..end].to_string());
            } else {
                break;
            }
        }
        self.lone_time(&mut text, &mut told);
        self.container |= told.container;
        self.journal |= told.collected && told.process.is_some() && !told.container;
        (text, told)
    }

    /// The same for a line of a form that is known, which may be had without looking for others.
    pub(super) fn open_known<'a>(&mut self, text: &'a str, known: Form) -> Option<(&'a str, Told)> {
        match known {
            Form::Bare => return Some((text, Told::default())),
            Form::Elapsed => {
                let (len, told) = prefix::elapsed(text)?;
                return Some((&text[len..], told));
            }
            Form::Other(_) => {}
        }
        match self.open(text) {
            (Cow::Borrowed(text), told) if Form::Other(told.parts()) == known => Some((text, told)),
            _ => None,
        }
    }

    /// Whether what was told is for the next line.
    pub(super) fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// For samples, which own their text.
    pub(super) fn strip_owned(&mut self, text: &mut String) {
        let inner = self.open(text).0.into_owned();
        *text = inner;
    }

    /// Nanoseconds since the epoch, by the line itself or else by its envelope. Lines must come in
    /// their order: one that tells no zone has the zone of those before it.
    pub(super) fn at_ns(&mut self, text: &str, told: &Told) -> Option<i64> {
        let envelope = |at: At| at.ns - if at.local { self.zone_ns() } else { 0 };
        let outer = told.at.map(envelope);
        self.time_within(text).or(outer)
    }

    fn zone_ns(&self) -> i64 {
        i64::from(self.zone_s) * 1_000_000_000
    }

    /// A full time as it stands in a line: `time=…` of slog, or an access line's.
    fn time_within(&mut self, text: &str) -> Option<i64> {
        let at = text.strip_prefix("time=").or_else(|| text.strip_prefix("[GIN] "))?;
        let at = at.strip_prefix('"').unwrap_or(at);
        let stamp = clock::date_time(at.as_bytes())?;
        if let Some(offset) = stamp.offset_s {
            self.zone_s = offset;
        }
        Some(stamp.epoch_ns(self.zone_s))
    }

    fn prefix(text: &str) -> Stripped {
        prefix::elapsed(text)
            .or_else(|| Self::date(text))
            .or_else(|| journald::open(text))
            .or_else(|| container::open(text))
            .or_else(|| prefix::open(text))
            .or_else(|| Self::indented(text))
    }

    /// Spaces in front of an envelope, as in a list of Markdown. Those of a bare line belong to it.
    fn indented(text: &str) -> Stripped {
        let inner = text.trim_start_matches([' ', '\t']);
        let indent = text.len() - inner.len();
        if indent == 0 || inner.is_empty() {
            return None;
        }
        let (len, told) = Self::date(inner).or_else(|| journald::open(inner))?;
        (told.at.is_some() || told.collected).then_some((indent + len, told))
    }

    /// A date and time in front of a line, with what Kubernetes puts after it; brackets around.
    fn date(text: &str) -> Stripped {
        let bytes = text.as_bytes();
        let bracket = usize::from(bytes.first() == Some(&b'['));
        let stamp = clock::date_time(bytes.get(bracket..)?)?;
        let end = bracket + stamp.len;
        let after = match (bracket, bytes.get(end)) {
            (1, Some(b']')) => end + 1,
            (0, None | Some(b' ' | b'\t' | b':')) => end,
            _ => return None,
        };
        let rest = text[after..].trim_start_matches([' ', '\t', ':']);
        let mut told = Told { at: Some(At::of(stamp)), ..Told::default() };
        let mut len = text.len() - rest.len();
        if let Some((host, more)) = journald::open_after_time(rest) {
            told.add(more);
            len += host;
        } else if let Some((stream, partial)) = container::stream(rest) {
            told.partial = partial;
            told.container = true;
            len += stream;
        }
        Some((len, told))
    }

    /// Viewers that show time, level and message in lines of their own: a time is kept for the
    /// next line, a level alone says nothing.
    fn lone_time(&mut self, text: &mut Cow<'_, str>, told: &mut Told) {
        let alone = text.trim();
        if alone.is_empty() {
            self.pending = told.at.or(self.pending);
            return;
        }
        if LEVELS.iter().any(|level| alone.eq_ignore_ascii_case(level)) {
            *text = Cow::Borrowed("");
            return;
        }
        let pending = self.pending.take();
        told.at = told.at.or(pending);
    }
}

impl Told {
    /// Which envelopes there were around `rest`, which is left of `all`, without what they told.
    pub(super) fn form(&self, all: &str, rest: &str) -> Form {
        // No run of digits, however long, can make a time of day of this.
        let bytes = rest.as_bytes();
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let clock = |at: usize| at > 0 && digit(at - 1) && digit(at + 1);
        let surely_bare = surely_bare(rest)
            && (rest.starts_with("[GIN]") || !memchr::memchr_iter(b':', bytes).any(clock));
        let elapsed = Self { elapsed_ns: self.elapsed_ns, ..Self::default() };
        // Some envelopes, as a spinner, tell nothing, and yet something was taken off.
        let taken = all.len() - rest.len();
        let is_elapsed = || prefix::elapsed(all).is_some_and(|(len, _)| len == taken);
        match self.elapsed_ns {
            None if surely_bare && taken == 0 && *self == Self::default() => Form::Bare,
            Some(_) if surely_bare && *self == elapsed && is_elapsed() => Form::Elapsed,
            _ => Form::Other(self.parts()),
        }
    }

    fn parts(&self) -> u8 {
        let parts = [
            self.at.is_some(),
            self.elapsed_ns.is_some(),
            self.day_s.is_some(),
            self.process.is_some(),
            self.count > 0,
            self.partial,
            self.collected,
            self.container,
        ];
        parts.iter().fold(0, |form, part| form << 1 | u8::from(*part))
    }

    /// The inner envelope knows better when and by whom a line was written.
    fn add(&mut self, inner: Self) {
        self.at = inner.at.or(self.at);
        self.elapsed_ns = inner.elapsed_ns.or(self.elapsed_ns);
        self.process = inner.process.or(self.process);
        self.day_s = inner.day_s.or(self.day_s);
        self.count = self.count.max(inner.count);
        self.partial |= inner.partial;
        self.collected |= inner.collected;
        self.container |= inner.container;
    }
}

/// Whether a line's first word shows that no envelope is around it: to lose no time on the lines
/// of which a log has most.
fn surely_bare(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes.first() {
        None => true,
        Some(b' ') => {
            let inner = text.trim_start_matches(' ');
            !has_clock(inner.as_bytes())
                && !text.contains(|c: char| ('\u{2800}'..='\u{28ff}').contains(&c))
        }
        Some(b'[') => bytes.starts_with(b"[GIN]"),
        Some(b'(') => !text.contains(" pid="),
        Some(b'a'..=b'z' | b'A'..=b'Z' | b'#' | b'|' | b'_' | b'=') => {
            let word = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
            let after = &bytes[word.count()..];
            match after {
                // A service, a date, the wrapper of a shell, or a count of repeats.
                [b' ', ..] => {
                    let next = after.iter().find(|b| **b != b' ');
                    let bar_or_digit = next.is_some_and(|b| *b == b'|' || !b.is_ascii_alphabetic());
                    !bar_or_digit && !bytes.starts_with(b"message repeated ") && !has_clock(bytes)
                }
                [b'[' | b'@' | b'/' | 0x80.., ..] => false,
                _ => !has_clock(bytes),
            }
        }
        _ => false,
    }
}

/// Whether a time of day can begin within the part of a line where a date stands.
fn has_clock(bytes: &[u8]) -> bool {
    let near = &bytes[..bytes.len().min(journald::DATE_BYTES_MAX)];
    let digit = |at: usize| near.get(at).is_some_and(u8::is_ascii_digit);
    memchr::memchr_iter(b':', near).any(|at| at > 0 && digit(at - 1) && digit(at + 1))
}

#[cfg(test)]
mod tests;
