//! Small things in front of a line: quoting, spinners, elapsed times, names of a shell's wrapper.

use super::super::text::{clock, is_head};
use super::{Stripped, Told};

pub(super) fn open(text: &str) -> Stripped {
    spinner(text).or_else(|| quote(text)).or_else(|| wrapper(text)).or_else(|| actor(text))
}

/// `(EngineCore_DP0 pid=4711) ` and `[rank0]: ` of vLLM's processes and of Ray.
fn actor(text: &str) -> Stripped {
    if let Some((inner, rest)) = text.strip_prefix('(').and_then(|t| t.split_once(") ")) {
        let (name, process) = inner.split_once(" pid=")?;
        let plain =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let process = process.split(',').next().and_then(|p| p.parse().ok())?;
        let told = Told { process: Some(process), ..Told::default() };
        return plain.then_some((text.len() - rest.len(), told));
    }
    let (rank, rest) = text.strip_prefix("[rank")?.split_once("]: ")?;
    let number = !rank.is_empty() && rank.bytes().all(|b| b.is_ascii_digit());
    number.then(|| (text.len() - rest.len(), Told::default()))
}

/// `0.00.800.123 I `: the level's letter says nothing that the line does not.
pub(super) fn elapsed(text: &str) -> Stripped {
    let (elapsed_ns, len) = clock::elapsed(text.as_bytes())?;
    let told = Told { elapsed_ns: Some(elapsed_ns), ..Told::default() };
    match &text.as_bytes()[len..] {
        [b' ', b'A'..=b'Z', b' ', ..] => Some((len + 3, told)),
        [b' ', b'A'..=b'Z'] => Some((len + 2, told)),
        [b' ', ..] => Some((len + 1, told)),
        _ => None,
    }
}

/// Glyphs of a spinner, which a terminal would have drawn over.
fn spinner(text: &str) -> Stripped {
    let glyph = |c: char| ('\u{2800}'..='\u{28ff}').contains(&c);
    let rest = text.trim_start_matches(|c: char| glyph(c) || c == ' ' || c == '\t');
    let len = text.len() - rest.len();
    (len > 0 && text[..len].contains(glyph)).then(|| (len, Told::default()))
}

/// `> ` and `< ` of a mail or a diff; `+ ` and `- ` only before what is surely a line.
fn quote(text: &str) -> Stripped {
    let rest = match text.as_bytes() {
        [b'>' | b'<', b' ', ..] => &text[2..],
        [b'>' | b'<'] => "",
        [b'>', ..] if text[1..].starts_with('>') || is_head(&text[1..]) => &text[1..],
        [b'+' | b'-', b' ', ..] if is_head(&text[2..]) => &text[2..],
        [b'+' | b'-', ..] if is_head(&text[1..]) => &text[1..],
        _ => return None,
    };
    Some((text.len() - rest.len(), Told::default()))
}

/// `ollama.exe : ` that PowerShell writes before what a program wrote to standard error.
fn wrapper(text: &str) -> Stripped {
    let rest = text.strip_prefix("ollama").or_else(|| text.strip_prefix("llama-server"))?;
    let inner = rest.strip_prefix(".exe").unwrap_or(rest).strip_prefix(" : ")?;
    Some((text.len() - inner.len(), Told::default()))
}
