//! Kinds of unknown lines: a line with its numbers, ids and quoted values replaced.
//!
//! Invariant: bounded in number and length; when full, the rarest kinds make room, so that the
//! frequent ones stay, and the counts are then lower bounds.

use std::collections::HashMap;

use super::session::LineId;

/// Kinds of unknown lines with an example and how often.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    kinds: HashMap<u64, Kind>,
}

#[derive(Clone, Debug)]
struct Kind {
    shape: String,
    first: LineId,
    count: u64,
}

/// So many kinds are told apart; twice as many while reading.
const KINDS_MAX: usize = 512;
/// A shape looks at so many bytes of a line.
const BYTES_MAX: usize = 160;

impl Shapes {
    /// Counts a line.
    pub(super) fn add(&mut self, text: &str, line: LineId) {
        let mut hash = Fnv::default();
        each_byte(text, |b| hash.add(b));
        if let Some(kind) = self.kinds.get_mut(&hash.0) {
            kind.count += 1;
            return;
        }
        if self.kinds.len() >= 2 * KINDS_MAX {
            self.make_room();
        }
        let mut bytes = Vec::new();
        each_byte(text, |b| bytes.push(b));
        let shape = String::from_utf8_lossy(&bytes).into_owned();
        self.kinds.insert(hash.0, Kind { shape, first: line, count: 1 });
    }

    fn make_room(&mut self) {
        let mut counts: Vec<u64> = self.kinds.values().map(|k| k.count).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let least = counts[KINDS_MAX];
        self.kinds.retain(|_, kind| kind.count > least);
    }

    /// The kinds, the most frequent first.
    pub(super) fn finish(self) -> Vec<(String, LineId, u64)> {
        let mut all: Vec<_> =
            self.kinds.into_values().map(|k| (k.shape, k.first, k.count)).collect();
        all.sort_by(|a, b| b.2.cmp(&a.2).then(a.1.cmp(&b.1)).then_with(|| a.0.cmp(&b.0)));
        all.truncate(KINDS_MAX);
        all
    }
}

/// The bytes of a line's shape: runs of digits and of hexadecimal become `#`, a quoted value `"…"`
/// but for the message's, `time=` is left out.
fn each_byte(text: &str, mut each: impl FnMut(u8)) {
    let text = match text.strip_prefix("time=") {
        Some(rest) => rest.split_once(' ').map_or("", |p| p.1),
        None => text,
    };
    let bytes = &text.as_bytes()[..text.len().min(BYTES_MAX)];
    let (mut at, mut message) = (0, false);
    while at < bytes.len() {
        let word = bytes[at..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let digits = bytes[at..at + word].iter().filter(|b| b.is_ascii_digit()).count();
        let alone = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        if bytes[at].is_ascii_digit() || (digits > 0 && word >= 4 && alone) {
            let run = |b: &&u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b',');
            at += bytes[at..].iter().take_while(run).count().max(1);
            each(b'#');
        } else if bytes[at] == b'"' && (message || bytes[..at].ends_with(b"msg=")) {
            message = !message;
            each(b'"');
            at += 1;
        } else if bytes[at] == b'"' {
            let rest = &bytes[at + 1..];
            at += rest.iter().position(|&b| b == b'"').map_or(rest.len(), |n| n + 1) + 1;
            "\"…\"".bytes().for_each(&mut each);
        } else {
            each(bytes[at]);
            at += 1;
        }
    }
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(lines: &[&str]) -> Vec<(String, u64)> {
        let mut shapes = Shapes::default();
        for (i, line) in (1..).zip(lines) {
            shapes.add(line, LineId(i));
        }
        shapes.finish().into_iter().map(|(shape, _, count)| (shape, count)).collect()
    }

    #[test]
    fn numbers_ids_and_values_do_not_tell_lines_apart() {
        let found = shapes(&[
            "loaded 5 of 7.25 from 0a1b2c3d4e",
            "loaded 12 of 8,5 from 99ffee00aa",
            r#"time=2025-01-01T00:00:00Z level=INFO msg="went on" path="/a b""#,
            r#"time=2025-01-02T00:00:00Z level=INFO msg="went on" path="/c""#,
            r#"level=INFO msg="went off" path="/c""#,
        ]);
        assert_eq!(found[0], ("loaded # of # from #".to_string(), 2));
        assert_eq!(found[1].0, "level=INFO msg=\"went on\" path=\"…\"");
        assert_eq!(found[1].1, 2);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn the_frequent_ones_survive_a_flood() {
        let mut shapes = Shapes::default();
        for i in 0..20_000u64 {
            let letters: String =
                format!("{i}").bytes().map(|b| char::from(b - b'0' + b'g')).collect();
            shapes.add(&letters, LineId(i));
            if i % 10 == 0 {
                shapes.add("often", LineId(i));
            }
        }
        assert!(shapes.kinds.len() <= 2 * KINDS_MAX);
        let first = &shapes.finish()[0];
        assert_eq!((first.0.as_str(), first.2), ("often", 2000));
    }
}
