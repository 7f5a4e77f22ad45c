//! Reads dates and times as logs write them. It knows no zone rules: an offset, `Z`, or what the
//! caller assumes.

/// A date and time at the beginning of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Stamp {
    /// Nanoseconds since the epoch, as if the zone were UTC.
    pub(in super::super) local_ns: i64,
    /// Seconds east of UTC, where told.
    pub(in super::super) offset_s: Option<i32>,
    /// Bytes that it takes.
    pub(in super::super) len: usize,
}

impl Stamp {
    /// Nanoseconds since the epoch; `offset_s` where the text tells none.
    pub(in super::super) fn epoch_ns(&self, offset_s: i32) -> i64 {
        self.local_ns - i64::from(self.offset_s.unwrap_or(offset_s)) * 1_000_000_000
    }
}

/// `2025-02-15T16:25:02.007+01:00`, `2025-02-15 16:25:02,007Z`, `2023/10/11 07:10:02`,
/// `2025/02/14 - 10:20:30`.
pub(in super::super) fn date_time(text: &[u8]) -> Option<Stamp> {
    let [year, month, day] = [digits(text, 0, 4)?, digits(text, 5, 2)?, digits(text, 8, 2)?];
    let separator = text[4];
    if !matches!(separator, b'-' | b'/') || text[7] != separator {
        return None;
    }
    let time_at = match text.get(10)? {
        b' ' if text[10..].starts_with(b" - ") => 13,
        b'T' | b't' | b'_' | b' ' => 11,
        _ => return None,
    };
    let (second, nanos, mut len) = time_of_day(text, time_at)?;
    let (1970..=2200, 1..=12, 1..=31) = (year, month, day) else { return None };
    let offset = offset(&text[len..]);
    len += offset.map_or(0, |o| o.1);
    let seconds = days_from_civil(year, month, day) * 86_400 + second;
    let local_ns = seconds * 1_000_000_000 + nanos;
    Some(Stamp { local_ns, offset_s: offset.map(|o| o.0), len })
}

/// `07:10:02` with an optional fraction, from `at` on: seconds of the day, nanoseconds, and where
/// it ends.
pub(in super::super) fn time_of_day(text: &[u8], at: usize) -> Option<(i64, i64, usize)> {
    let [h, m, s] = [digits(text, at, 2)?, digits(text, at + 3, 2)?, digits(text, at + 6, 2)?];
    if text[at + 2] != b':' || text[at + 5] != b':' || h > 23 || m > 59 || s > 60 {
        return None;
    }
    let (nanos, end) = fraction(text, at + 8);
    Some((h * 3600 + m * 60 + s, nanos, end))
}

/// `.007` or `,007`: nanoseconds, and where it ends.
fn fraction(text: &[u8], at: usize) -> (i64, usize) {
    if !matches!(text.get(at), Some(b'.' | b',')) {
        return (0, at);
    }
    let (mut nanos, mut unit, mut end) = (0, 100_000_000, at + 1);
    while let Some(digit) = text.get(end).filter(|b| b.is_ascii_digit()) {
        nanos += i64::from(digit - b'0') * unit;
        unit /= 10;
        end += 1;
    }
    if end == at + 1 { (0, at) } else { (nanos, end) }
}

/// `Z`, `+01:00`, `+0100`, ` +0100`, ` UTC`: seconds east, and the length.
fn offset(text: &[u8]) -> Option<(i32, usize)> {
    let at = usize::from(text.first() == Some(&b' '));
    match text.get(at)? {
        b'Z' if at == 0 => Some((0, 1)),
        b'U' if text[at..].starts_with(b"UTC") => Some((0, at + 3)),
        sign @ (b'+' | b'-') => {
            let hours = digits(text, at + 1, 2)?;
            let colon = usize::from(text.get(at + 3) == Some(&b':'));
            let minutes = digits(text, at + 3 + colon, 2)?;
            let east = (hours * 3600 + minutes * 60) as i32;
            Some((if *sign == b'-' { -east } else { east }, at + 5 + colon))
        }
        _ => None,
    }
}

/// `0.00.800.123` of llama.cpp, minutes, seconds, milliseconds, microseconds: nanoseconds, and the
/// length.
pub(in super::super) fn elapsed(text: &[u8]) -> Option<(u64, usize)> {
    let len = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let minutes = digits(text, 0, len).filter(|_| (1..=7).contains(&len))?;
    let rest = &text[len..];
    let parts = [digits(rest, 1, 2)?, digits(rest, 4, 3)?, digits(rest, 8, 3)?];
    if rest[0] != b'.' || rest[3] != b'.' || rest[7] != b'.' {
        return None;
    }
    let micros = (minutes * 60 + parts[0]) * 1_000_000 + parts[1] * 1000 + parts[2];
    Some((micros as u64 * 1000, len + 11))
}

fn digits(text: &[u8], at: usize, count: usize) -> Option<i64> {
    let digits = text.get(at..at + count).filter(|_| count <= 9)?;
    digits.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// Days since the epoch in the Gregorian calendar (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<i64> {
        date_time(text.as_bytes()).map(|s| s.epoch_ns(0))
    }

    #[test]
    fn dates_of_all_forms() {
        assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
        let wanted = Some(1_739_636_702_007_000_000);
        assert_eq!(at("2025-02-15T16:25:02.007Z"), wanted);
        assert_eq!(at("2025-02-15T17:25:02.007+01:00 level"), wanted);
        assert_eq!(at("2025-02-15 08:25:02,007-0800"), wanted);
        assert_eq!(at("2025/02/15 - 16:25:02.007"), wanted);
        assert_eq!(at("2025/02/15 16:25:02.007 llama.go"), wanted);
        let stamp = date_time(b"2025/02/15 16:25:02 x").unwrap();
        assert_eq!((stamp.len, stamp.offset_s), (19, None));
        for wrong in ["", "2025-02-15", "2025-13-15T00:00:00", "2025-02/15 16:25:02", "20250215"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn elapsed_times() {
        assert_eq!(elapsed(b"0.00.800.123 I x"), Some((800_123_000, 12)));
        assert_eq!(elapsed(b"12.03.000.001 W"), Some((723_000_001_000, 13)));
        assert_eq!(elapsed(b"1.2.3"), None);
        assert_eq!(elapsed(b""), None);
    }
}
