//! What runtimes and viewers of containers put in front of a line.

use super::super::text::{clock, is_sure_head};
use super::{Stripped, Told};

/// `ollama-1  | `, `[pod/name/container] `, `[ollama] ` of a viewer, `[40001] ` of a router's child.
pub(super) fn open(text: &str) -> Stripped {
    service(text).or_else(|| bracket(text))
}

/// A service of docker compose: a name, spaces, a bar.
fn service(text: &str) -> Stripped {
    let bytes = text.as_bytes();
    let name = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)).count();
    if !(2..=80).contains(&name) || !bytes[..name].iter().any(u8::is_ascii_alphabetic) {
        return None;
    }
    let spaces = bytes[name..].iter().take_while(|b| **b == b' ').count();
    let bar = name + spaces;
    if spaces == 0
        || bytes.get(bar) != Some(&b'|')
        || !matches!(bytes.get(bar + 1), None | Some(b' '))
    {
        return None;
    }
    let len = (bar + 2).min(text.len());
    Some((len, Told { collected: true, container: true, ..Told::default() }))
}

fn bracket(text: &str) -> Stripped {
    let (inner, rest) = text.strip_prefix('[')?.split_once("] ")?;
    let len = text.len() - rest.len();
    let pod = inner.starts_with("pod/") && !inner.contains(' ');
    let number = (1..=6).contains(&inner.len()) && inner.bytes().all(|b| b.is_ascii_digit());
    // A name says nothing by itself: many lines begin so. What follows must be a whole line.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let name = || {
        inner.len() <= 80
            && inner.bytes().all(plain)
            && inner.as_bytes()[0].is_ascii_lowercase()
            && (is_sure_head(rest) || clock::date_time(rest.as_bytes()).is_some())
    };
    let named = pod || (!number && !inner.is_empty() && name());
    if !named && !number {
        return None;
    }
    let told =
        Told { process: inner.parse().ok(), collected: named, container: named, ..Told::default() };
    Some((len, told))
}

/// `stderr F ` of the container runtime interface: the length, and whether the line goes on.
pub(super) fn stream(text: &str) -> Option<(usize, bool)> {
    let rest = text.strip_prefix("stderr ").or_else(|| text.strip_prefix("stdout "))?;
    match rest.as_bytes() {
        [flag @ (b'F' | b'P'), b' ', ..] => Some((9, *flag == b'P')),
        [flag @ (b'F' | b'P')] => Some((8, *flag == b'P')),
        _ => None,
    }
}
