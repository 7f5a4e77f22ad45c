//! journald and syslog: `Mar 10 08:01:02 host ollama[2001]: `, in any locale, with parts missing.
//!
//! The date's words are of any language, so the time of day is what is looked for.

use super::super::text::clock;
use super::{Stripped, Told};

/// The time of day begins within so many bytes: `<30>1 2025-03-10T`, `Mon 2025-03-10 `.
pub(super) const DATE_BYTES_MAX: usize = 32;

/// A date in words, a time, a host, a unit; or the unit with its process alone.
pub(super) fn open(text: &str) -> Stripped {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(colon) = bytes.get(from..bytes.len().min(DATE_BYTES_MAX)).and_then(find_colon) {
        let colon = from + colon;
        if let Some(start) = colon.checked_sub(2)
            && let Some((second, _, end)) = clock::time_of_day(bytes, start)
            && date_words(text.get(..start)?)
        {
            let rest = text.get(end..)?;
            let inner = rest.trim_start_matches(' ');
            let skipped = text.len() - inner.len();
            let clock = Told { day_s: u32::try_from(second).ok(), ..Told::default() };
            return open_after_time(inner)
                .map(|(len, told)| (skipped + len, Told { day_s: clock.day_s, ..told }))
                .or_else(|| (start > 0 && skipped > end).then_some((skipped, clock)));
        }
        from = colon + 1;
    }
    unit(text, true)
}

fn find_colon(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b':', bytes)
}

/// Whether what stands before the time can be a date: some digits, few words, no pairs.
fn date_words(text: &str) -> bool {
    let text =
        text.strip_prefix('<').map_or(text, |rest| rest.split_once('>').map_or(rest, |p| p.1));
    let digit = text.bytes().any(|b| b.is_ascii_digit());
    let words = text.split_whitespace().count();
    digit && (1..=4).contains(&words) && !text.contains(['=', '"', '[', '|', '(', '/'])
}

/// What follows the time: at most a zone, the host, the unit. A unit with a process, or one of the
/// kernel and the service manager.
pub(super) fn open_after_time(text: &str) -> Stripped {
    let mut at = 0;
    for _ in 0..3 {
        if let Some((len, told)) = unit(&text[at..], false) {
            return (at + len > 0).then_some((at + len, told));
        }
        // Not a unit: a host or a zone, which is a word; or what a person put in the host's place.
        let stand_in = text[at..].starts_with('<').then(|| text[at..].find("> ")).flatten();
        let word = stand_in.map_or_else(|| text[at..].find(' '), |end| Some(end + 1))?;
        let plain = |b: u8| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'-' | b'.' | b'_' | b'+' | b':' | b'*' | b'[' | b']')
        };
        let named =
            stand_in.is_some() || text[at..at + word].bytes().all(|b| plain(b) || b >= 0x80);
        if word == 0 || word > 64 || !named {
            return None;
        }
        at += word + 1;
        at += text[at..].len() - text[at..].trim_start_matches(' ').len();
    }
    None
}

/// `ollama[2001]: `; `kernel: ` and a server's name without a number only when `strict` is false.
fn unit(text: &str, strict: bool) -> Stripped {
    let name =
        text.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_.@/".contains(b)).count();
    if name == 0 || name > 48 || !text.as_bytes()[0].is_ascii_alphabetic() {
        return None;
    }
    let rest = &text[name..];
    let (process, after) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((number, after)) => (Some(number.parse().ok()?), after),
        None => (None, rest),
    };
    let known = ["kernel", "systemd", "dockerd", "ollama", "llama-server"];
    if process.is_none() && (strict || !known.contains(&&text[..name])) {
        return None;
    }
    // Lines of the system are known by the unit that wrote them, so that it stays.
    if text.starts_with("systemd") || text.starts_with("kernel") {
        return after.starts_with(": ").then_some((0, Told { collected: true, ..Told::default() }));
    }
    let inner = match after.strip_prefix(": ") {
        Some(inner) => inner,
        None if after == ":" => "",
        None => return None,
    };
    Some((text.len() - inner.len(), Told { process, collected: true, ..Told::default() }))
}

/// `message repeated 2 times: [ line]`: where the line begins and ends, and the count.
pub(super) fn repeat(text: &str) -> Option<(usize, usize, u64)> {
    let rest = text.strip_prefix("message repeated ")?;
    let (count, rest) = rest.split_once(" times: [")?;
    let count = count.parse().ok()?;
    let inner = rest.trim_start_matches(' ');
    let end = if inner.ends_with(']') { text.len() - 1 } else { text.len() };
    let start = text.len() - inner.len();
    (start <= end).then_some((start, end, count))
}
