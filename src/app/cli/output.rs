//! Where text goes, and whether it may be coloured.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::app::report::Style;

use super::failure::Failure;

/// Writes data to stdout at once.
pub(super) fn stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Writes to stderr at once; a reader that left is no reason to fail.
pub(super) fn stderr(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a document to stdout as indented JSON.
pub(super) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(document)
        .map_err(|e| Failure::new(format!("cannot write the report as JSON: {e}")))?;
    text.push('\n');
    stdout(text.as_bytes())
}

/// Writes a document to stdout as one line of JSON.
pub(super) fn json_line(document: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(document)
        .map_err(|e| Failure::new(format!("cannot write the report as JSON: {e}")))?;
    text.push('\n');
    stdout(text.as_bytes())
}

/// How text on a stream may look: plain unless it is a terminal and `NO_COLOR` is not set.
pub(super) fn style(stream: &impl IsTerminal) -> Style {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if wanted && stream.is_terminal() { Style::Colour } else { Style::Plain }
}

/// The time now as `2026-01-31T12:34:56Z`.
pub(super) fn utc_now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    utc(since.map_or(0, |s| s.as_secs()))
}

/// Seconds since 1970 as a date and time, by the civil calendar's cycle of 400 years.
fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Years begin in March here, so that the leap day is the last one.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn known_times() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
