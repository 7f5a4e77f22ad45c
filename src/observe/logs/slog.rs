//! Structured lines: `key=value` pairs as Go's slog writes them, and the forms around it.
//!
//! Reads places, copies nothing. It knows no key but `msg`. Forms:
//! `time=… level=INFO source=a.go:1 msg="two words" k=v`, where a value is a word, a Go-quoted
//! string, or a word with nested brackets that hold spaces (`map[A:x y B:]`, `[a b]`, `{A:1 B:2}`);
//! `a.go:1: INFO two words k=v` (slog through the old log package), and
//! `INFO [function] two words | k=v` (llama-server in 2024).
//! Invariant: any text gives pairs or none, in time linear in its length.

use std::ops::Range;

/// One pair; places are bytes of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: Range<usize>,
    /// Without the quotes.
    pub(super) value: Range<usize>,
    /// Whether the value stands in quotes and has a backslash.
    pub(super) escaped: bool,
}

impl Pair {
    /// Appends the value to `into` when it has escapes; false when it stands in the line as it is.
    pub(super) fn text_into(&self, text: &str, into: &mut String) -> bool {
        if self.escaped {
            unescape(text.get(self.value.clone()).unwrap_or_default(), into);
        }
        self.escaped
    }
}

/// The pairs of a line; kept from line to line.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    all: Vec<Pair>,
    msg: Option<usize>,
    source: Option<usize>,
    /// Whether the line ends within quotes or brackets: it was cut or goes on.
    pub(super) open: bool,
}

/// More pairs than this are not read.
const PAIRS_MAX: usize = 256;

impl Pairs {
    /// Reads a line; false when it is not structured.
    pub(super) fn read(&mut self, text: &str) -> bool {
        self.all.clear();
        (self.msg, self.source) = (None, None);
        self.open = false;
        if starts_with_known_key(text) {
            self.read_pairs(text, 0);
        } else if let Some(source) = bare_source(text) {
            self.source = Some(0);
            self.push(text, 0..0, source.clone(), false);
            self.read_pairs(text, source.end);
        } else if let Some((source, message)) = go_log(text) {
            self.read_message(text, &source, message);
        } else if let Some((source, message)) = server_text(text) {
            self.read_message(text, &source, message);
        }
        self.msg.is_some()
    }

    /// The pair of the message.
    pub(super) fn msg(&self) -> Option<&Pair> {
        self.all.get(self.msg?)
    }

    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = &Pair> {
        self.all.iter()
    }

    /// What logged the line: a file with a line number, or a function.
    pub(super) fn source(&self) -> Option<&Pair> {
        self.all.get(self.source?)
    }

    /// The first pair with this key.
    pub(super) fn find(&self, text: &str, key: &str) -> Option<&Pair> {
        self.all.iter().find(|p| text.get(p.key.clone()) == Some(key))
    }

    fn push(&mut self, text: &str, key: Range<usize>, value: Range<usize>, escaped: bool) {
        if self.all.len() >= PAIRS_MAX {
            return;
        }
        if self.msg.is_none() && text.get(key.clone()) == Some("msg") {
            self.msg = Some(self.all.len());
        }
        if self.source.is_none() && text.get(key.clone()) == Some("source") {
            self.source = Some(self.all.len());
        }
        self.all.push(Pair { key, value, escaped });
    }

    /// A message without a key, then pairs.
    fn read_message(&mut self, text: &str, source: &Range<usize>, message: usize) {
        self.source = Some(self.all.len());
        self.push(text, 0..0, source.clone(), false);
        let end = first_pair(text, message);
        let said = text[message..end].trim_end_matches([' ', '|']).len();
        self.msg = Some(self.all.len());
        self.all.push(Pair { key: 0..0, value: message..message + said, escaped: false });
        self.read_pairs(text, end);
    }

    fn read_pairs(&mut self, text: &str, from: usize) {
        let bytes = text.as_bytes();
        let mut at = from;
        while at < bytes.len() && self.all.len() < PAIRS_MAX {
            if bytes[at] == b' ' {
                at += 1;
                continue;
            }
            let Some((key, after)) = read_key(bytes, at) else {
                at = next_space(bytes, at);
                continue;
            };
            let value = read_value(bytes, after);
            self.open |= value.open;
            self.push(text, key, value.place, value.escaped);
            at = value.end;
        }
    }
}

/// What stands after a `=`.
struct Value {
    place: Range<usize>,
    end: usize,
    escaped: bool,
    open: bool,
}

/// Whether a line can be structured at all; cheap, for most lines of a log are not.
pub(super) fn may_be_structured(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [b't', b'i', b'm', b'e', b'=', ..]
        | [b'l', b'e', b'v', b'e', b'l', b'=', ..]
        | [b'm', b's', b'g', b'=', ..]
        | [b's', b'o', b'u', b'r', b'c', b'e', b'=', ..] => true,
        // A level, in capitals.
        [b'A'..=b'Z', b'A'..=b'Z', ..] => server_text(text).is_some(),
        _ => go_log(text).is_some() || bare_source(text).is_some(),
    }
}

/// `file.go:123 msg=…`: what is left when somebody cuts off the time and the level, with or without
/// the rest of the key: `rce=file.go:123 msg=…`.
fn bare_source(text: &str) -> Option<Range<usize>> {
    let cut = text.bytes().take(6).take_while(u8::is_ascii_lowercase).count();
    let from = if text.as_bytes().get(cut) == Some(&b'=') { cut + 1 } else { 0 };
    let (name, digits) = go_file(&text[from..])?;
    let end = from + name + ".go:".len() + digits;
    text[end..].starts_with(" msg=").then_some(from..end)
}

/// `file.go:123` at the start: the lengths of the name without its ending, and of the number.
fn go_file(text: &str) -> Option<(usize, usize)> {
    let simple = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/');
    let name = text.bytes().take(64).take_while(|b| simple(b)).count();
    let dot = name.checked_sub(3).filter(|&dot| text[dot..].starts_with(".go:"))?;
    let digits = text[dot + 4..].bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then_some((dot, digits))
}

/// `time=`, `level=`, `source=` or `msg=` at the start: the keys that slog writes first.
fn starts_with_known_key(text: &str) -> bool {
    ["time=", "level=", "msg=", "source="].iter().any(|key| text.starts_with(key))
}

/// `file.go:123: [LEVEL ]message`: the places of `file.go:123` and of the message.
fn go_log(text: &str) -> Option<(Range<usize>, usize)> {
    let (dot, digits) = go_file(text)?;
    let source = 0..dot + 4 + digits;
    if !text[source.end..].starts_with(": ") {
        return None;
    }
    let mut message = source.end + 2;
    if let Some(level) = LEVELS.iter().find(|l| has_word(&text[message..], l)) {
        message += level.len() + 1;
    }
    Some((source, message))
}

/// `INFO [function] message`: the places of `function` and of the message.
fn server_text(text: &str) -> Option<(Range<usize>, usize)> {
    let level = LEVELS.iter().find(|l| has_word(text, l))?;
    let rest = text[level.len()..].trim_start_matches(' ');
    let open = text.len() - rest.len();
    let inner = rest.strip_prefix('[')?;
    let close = inner.find(']').filter(|&c| c <= 64)?;
    let source = open + 1..open + 1 + close;
    let rest = text[source.end + 1..].trim_start_matches(' ');
    Some((source, text.len() - rest.len()))
}

const LEVELS: [&str; 7] = ["INFO", "WARN", "WARNING", "ERROR", "DEBUG", "VERB", "TRACE"];

fn has_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| rest.starts_with(' '))
}

/// Where the first ` key=` after a free message begins, or the end of the line.
fn first_pair(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        let at_word = at == from || bytes[at - 1] == b' ';
        if at_word && read_key(bytes, at).is_some_and(|(_, after)| after < bytes.len()) {
            return at;
        }
        at = next_space(bytes, at) + 1;
    }
    text.len()
}

fn next_space(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&b| b == b' ').map_or(bytes.len(), |n| at + n)
}

/// A key and where its value begins.
fn read_key(bytes: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    if bytes[at] == b'"' {
        let end = at + 1 + bytes[at + 1..].iter().position(|&b| b == b'"')?;
        return (bytes.get(end + 1) == Some(&b'=')).then_some((at + 1..end, end + 2));
    }
    let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/' | b'*');
    let len = bytes[at..].iter().take_while(|b| word(b)).count();
    (len > 0 && bytes.get(at + len) == Some(&b'=')).then_some((at..at + len, at + len + 1))
}

fn read_value(bytes: &[u8], at: usize) -> Value {
    if bytes.get(at) == Some(&b'"') {
        return read_quoted(bytes, at + 1);
    }
    let plain = next_space(bytes, at);
    let nested = bytes[at..plain].iter().any(|b| matches!(b, b'[' | b'{'));
    if !nested {
        return Value { place: at..plain, end: plain, escaped: false, open: false };
    }
    let mut depth = 0i32;
    for (i, b) in bytes[at..].iter().enumerate() {
        match b {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b' ' if depth <= 0 => {
                return Value { place: at..at + i, end: at + i, escaped: false, open: false };
            }
            _ => {}
        }
    }
    // Brackets that never close: the line was cut, or they are part of a word.
    let end = if depth > 0 { bytes.len() } else { bytes.len().max(plain) };
    Value { place: at..end, end, escaped: false, open: depth > 0 }
}

fn read_quoted(bytes: &[u8], start: usize) -> Value {
    let (mut at, mut escaped) = (start, false);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Value { place: start..at, end: at + 1, escaped, open: false },
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
    Value { place: start..bytes.len(), end: bytes.len(), escaped, open: true }
}

/// Undoes Go's quoting.
fn unescape(text: &str, into: &mut String) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            into.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => into.push('\n'),
            Some('t') => into.push('\t'),
            Some('r') => into.push('\r'),
            Some('x') => push_code(into, &mut chars, 2),
            Some('u') => push_code(into, &mut chars, 4),
            Some('U') => push_code(into, &mut chars, 8),
            Some(other) => into.push(other),
            None => into.push('\\'),
        }
    }
}

fn push_code(into: &mut String, chars: &mut std::str::Chars<'_>, digits: usize) {
    let code = chars.as_str().get(..digits);
    let parsed = code.and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32);
    match parsed {
        Some(c) => {
            into.push(c);
            *chars = chars.as_str()[digits..].chars();
        }
        None => into.push('\u{fffd}'),
    }
}

/// The entries of Go's `map[A:x B:y z C:]` in their order: an entry begins at a word before a `:`
/// that looks like a name of a variable, so that values may hold spaces and colons.
pub fn go_map(value: &str) -> Vec<(&str, &str)> {
    let inner = value.strip_prefix("map[").unwrap_or(value);
    let inner = inner.strip_suffix(']').unwrap_or(inner);
    let bytes = inner.as_bytes();
    let name_at = |at: usize| -> Option<usize> {
        let name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let len = bytes[at..].iter().take_while(|b| name(b)).count();
        let letters = bytes[at..at + len].iter().any(u8::is_ascii_alphabetic);
        let scheme = inner[at + len..].starts_with("://");
        (len > 1 && letters && !scheme && bytes.get(at + len) == Some(&b':')).then_some(len)
    };
    let mut starts = Vec::new();
    let mut depth = 0i32;
    for (at, b) in bytes.iter().enumerate() {
        let begins = at == 0 || bytes[at - 1] == b' ';
        if begins
            && depth <= 0
            && let Some(len) = name_at(at)
        {
            starts.push((at, len));
        }
        match b {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
    }
    let ends = starts.iter().skip(1).map(|s| s.0).chain([inner.len()]);
    let entry = |(&(at, len), end): (&(usize, usize), usize)| {
        (&inner[at..at + len], inner[at + len + 1..end].trim_end_matches(' '))
    };
    starts.iter().zip(ends).map(entry).collect()
}

#[cfg(test)]
#[path = "slog_tests.rs"]
mod tests;
