//! Bytes of a line become text: UTF-8, or what Windows writes instead, without what a terminal
//! would not show.
//!
//! Invariant: the text has no control characters but tabs and, where a carriage return separated
//! parts of it, line feeds.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

/// The text of a line. Parts that a carriage return separated are separated by a line feed: a
/// terminal would show the last one only, but a log of the old Mac kind has lines in them.
pub(in super::super) fn clean(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let text = decode(bytes);
    let odd = memchr3(0x1b, b'\r', 0, text.as_bytes()).is_some()
        || memchr2(0x08, 0x07, text.as_bytes()).is_some();
    if !odd {
        return text;
    }
    Cow::Owned(without_controls(&text))
}

fn decode(bytes: &[u8]) -> Cow<'_, str> {
    if memchr(0, bytes).is_some() || bytes.starts_with(&[0xff, 0xfe]) {
        return Cow::Owned(decode_utf16(bytes));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text.trim_start_matches('\u{feff}')),
        Err(_) => Cow::Owned(decode_mixed(bytes)),
    }
}

/// A line of UTF-16 as it looks when the stream is cut at line feeds: the other byte of the line
/// feed stands at the beginning of the next line (little endian) or at the end of this one.
fn decode_utf16(bytes: &[u8]) -> String {
    let zeros = |offset: usize| bytes.iter().skip(offset).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    if (even + odd) * 4 < bytes.len() {
        // Only a few: not UTF-16, so they are dropped.
        let rest: Vec<u8> = bytes.iter().copied().filter(|b| *b != 0).collect();
        return decode_mixed(&rest);
    }
    let starts_with_half = bytes.first() == Some(&0);
    let units = |from: usize, pair: fn([u8; 2]) -> u16| -> Vec<u16> {
        bytes[from.min(bytes.len())..].chunks_exact(2).map(|c| pair([c[0], c[1]])).collect()
    };
    // Zeros stand in the high bytes of the letters of a log.
    let big_endian = even > odd && !(starts_with_half && bytes.len() % 2 == 1);
    let units = match (big_endian, starts_with_half) {
        (true, _) => units(0, u16::from_be_bytes),
        (false, true) => units(1, u16::from_le_bytes),
        (false, false) => units(0, u16::from_le_bytes),
    };
    let text = String::from_utf16_lossy(&units);
    text.trim_start_matches('\u{feff}').trim_end_matches('\r').to_string()
}

/// Text in UTF-8 with single bytes of a Western code page in it.
fn decode_mixed(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|&b| latin1(b)));
    }
    text
}

fn latin1(byte: u8) -> char {
    if (0x80..0xa0).contains(&byte) { '\u{fffd}' } else { char::from(byte) }
}

fn without_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\r' => out.push('\n'),
            // A terminal would go back over the last character.
            '\u{8}' => {
                out.pop();
            }
            '\t' => out.push('\t'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Skips the rest of an escape sequence: colours and cursor (CSI), titles and links (OSC).
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {},
        Some(']') => {
            while chars.next_if(|c| *c != '\u{7}' && *c != '\u{1b}').is_some() {}
            if chars.next() == Some('\u{1b}') {
                chars.next_if_eq(&'\\');
            }
            return;
        }
        Some('(' | ')') => {}
        _ => return,
    }
    chars.next();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(clean(b"load_tensors: x\r"), Cow::Borrowed("load_tensors: x")));
        assert!(matches!(clean("3月 ü".as_bytes()), Cow::Borrowed("3月 ü")));
    }

    #[test]
    fn colours_and_titles_go() {
        assert_eq!(clean(b"\x1b[90m[GIN]\x1b[0m a\x1b[1;31mb\x1b[K"), "[GIN] ab");
        assert_eq!(clean(b"\x1b]0;title\x07x\x1b]8;;http://a\x1b\\y"), "xy");
        assert_eq!(clean(b"\x1b"), "");
        assert_eq!(clean(b"\x1b["), "");
    }

    #[test]
    fn what_a_spinner_overwrites_is_a_part_of_its_own() {
        assert_eq!(clean(b"pulling 1\rpulling 2\rtime=2025\r"), "pulling 1\npulling 2\ntime=2025");
    }

    #[test]
    fn utf16_is_read_line_by_line() {
        let log = "\u{feff}load: é\r\nnext: 月\r\nlast";
        let bytes: Vec<u8> = log.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let lines: Vec<_> = bytes.split(|b| *b == b'\n').map(clean).collect();
        assert_eq!(lines, ["load: é", "next: 月", "last"]);
        // The other byte order looks the same from the second line on, but for other scripts.
        let bytes: Vec<u8> = log.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let lines: Vec<_> = bytes.split(|b| *b == b'\n').map(clean).collect();
        assert_eq!((&*lines[0], &*lines[2]), ("load: é", "last"));
    }

    #[test]
    fn single_bytes_of_a_code_page_are_letters() {
        assert_eq!(clean(b"C:\\Users\\J\xf6rg\\ \xc3\xa9"), "C:\\Users\\Jörg\\ é");
        assert_eq!(clean(b"a\0b and more text"), "ab and more text");
    }
}
