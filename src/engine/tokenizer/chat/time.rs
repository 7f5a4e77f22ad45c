//! Dates for templates that tell the model which day it is.
//!
//! Times are UTC: the host's time zone is not read, because the same conversation should give the
//! same prompt on every machine.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Seconds since 1970 by the host's clock.
pub(super) fn now_unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}

/// A time by a format of C's `strftime`, in English. A conversion that is not known is an error.
pub(super) fn strftime(unix_s: i64, format: &str) -> Result<String, String> {
    let (day, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, mday) = civil(day);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let weekday = (day + 4).rem_euclid(7) as usize;
    let month_name = MONTHS[month as usize - 1];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut conversion = chars.next().unwrap_or('%');
        // `%-d` is glibc's way to leave out the padding.
        let padded = conversion != '-';
        if !padded {
            conversion = chars.next().unwrap_or('-');
        }
        let number = |n: i64, width: usize| {
            if padded { format!("{n:0width$}") } else { n.to_string() }
        };
        let text = match conversion {
            'Y' => year.to_string(),
            'y' => number(year.rem_euclid(100), 2),
            'm' => number(month, 2),
            'd' => number(mday, 2),
            'e' => format!("{mday:2}"),
            'j' => number(day - days_to_year(year) + 1, 3),
            'H' => number(hour, 2),
            'I' => number((hour + 11) % 12 + 1, 2),
            'M' => number(minute, 2),
            'S' => number(second % 60, 2),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'B' => month_name.to_owned(),
            'b' | 'h' => month_name[..3].to_owned(),
            'A' => DAYS[weekday].to_owned(),
            'a' => DAYS[weekday][..3].to_owned(),
            'F' => format!("{year}-{month:02}-{mday:02}"),
            'T' => format!("{hour:02}:{minute:02}:{:02}", second % 60),
            'Z' => "UTC".to_owned(),
            'z' => "+0000".to_owned(),
            '%' => "%".to_owned(),
            other => return Err(format!("strftime_now does not know %{other}")),
        };
        out.push_str(&text);
    }
    Ok(out)
}

/// Days from 1970-01-01 to the first day of a year of the Gregorian calendar.
fn days_to_year(year: i64) -> i64 {
    let before = year - 1;
    365 * (year - 1970) + (before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400))
        - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

/// Year, month (from 1) and day of the month (from 1) of a day since 1970-01-01.
fn civil(day: i64) -> (i64, i64, i64) {
    // 400 years have 146,097 days; the guess is at most one year off.
    let mut year = 1970 + (day * 400).div_euclid(146_097);
    while days_to_year(year) > day {
        year -= 1;
    }
    while days_to_year(year + 1) <= day {
        year += 1;
    }
    let leap = days_to_year(year + 1) - days_to_year(year) == 366;
    let mut rest = day - days_to_year(year);
    let mut month = 1;
    for length in [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let format = "%Y-%m-%d %H:%M:%S %a %A %b %B %j %-d %I%p %y%%";
        for (unix_s, text) in [
            (0, "1970-01-01 00:00:00 Thu Thursday Jan January 001 1 12AM 70%"),
            (951_827_696, "2000-02-29 12:34:56 Tue Tuesday Feb February 060 29 12PM 00%"),
            (1_735_689_599, "2024-12-31 23:59:59 Tue Tuesday Dec December 366 31 11PM 24%"),
            (-1, "1969-12-31 23:59:59 Wed Wednesday Dec December 365 31 11PM 69%"),
        ] {
            assert_eq!(strftime(unix_s, format).unwrap(), text);
        }
        assert_eq!(strftime(0, "%Q").unwrap_err(), "strftime_now does not know %Q");
    }
}
