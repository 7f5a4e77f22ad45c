//! Quantities as people read and type them: memory in binary units, rates in SI units.

use std::fmt;

/// A number of bytes that prints as `1.50 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 4] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().rev().find(|u| self.0 >= u.1);
        let text = match unit {
            Some(&(name, size)) => format!("{:.2} {name}", self.0 as f64 / size as f64),
            None => format!("{} B", self.0),
        };
        f.pad(&text)
    }
}

/// A number of things: `1 split`, `3 splits`, `2 ubatches`.
pub fn counted(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ if what.ends_with("ch") => format!("{n} {what}es"),
        _ => format!("{n} {what}s"),
    }
}

/// A text that names no memory size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no memory size; write it like 512MiB, 12GiB or 1.5GB")]
pub struct BadSize(pub String);

/// Reads `12GiB`, `512M`, `1.5 GB` or plain bytes. `K`, `M`, `G`, `T` alone are binary, as memory
/// sizes are; `KB`, `MB`, `GB`, `TB` are decimal.
pub fn parse_bytes(text: &str) -> Result<u64, BadSize> {
    let bad = || BadSize(text.to_string());
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let number: f64 = trimmed[..end].parse().map_err(|_| bad())?;
    let factor: f64 = match trimmed[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0f64.powi(2),
        "g" | "gib" => 1024.0f64.powi(3),
        "t" | "tib" => 1024.0f64.powi(4),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(bad()),
    };
    let bytes = number * factor;
    if bytes.is_finite() && bytes < 2f64.powi(60) { Ok(bytes as u64) } else { Err(bad()) }
}

/// A duration in nanoseconds that prints with the unit that suits it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Nanos(pub f64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        let text = if ns >= 1e9 {
            format!("{:.2} s", ns / 1e9)
        } else if ns >= 1e6 {
            format!("{:.2} ms", ns / 1e6)
        } else if ns >= 1e3 {
            format!("{:.1} µs", ns / 1e3)
        } else {
            format!("{ns:.0} ns")
        };
        f.pad(&text)
    }
}

/// Bytes per second that print in SI units, as link and memory speeds are quoted.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct BytesPerSecond(pub f64);

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        let text = if b >= 1e9 {
            format!("{:.2} GB/s", b / 1e9)
        } else if b >= 1e6 {
            format!("{:.2} MB/s", b / 1e6)
        } else {
            format!("{:.2} kB/s", b / 1e3)
        };
        f.pad(&text)
    }
}

/// `n` with thousands separated by commas.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back() {
        assert_eq!(parse_bytes("12GiB"), Ok(12 << 30));
        assert_eq!(parse_bytes(" 512 M "), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5GB"), Ok(1_500_000_000));
        assert_eq!(parse_bytes("77"), Ok(77));
        for bad in ["", "GiB", "1.2.3G", "5 parsecs", "-1G", "1e99999T"] {
            assert_eq!(parse_bytes(bad), Err(BadSize(bad.to_string())));
        }
    }

    #[test]
    fn quantities_print_with_their_unit() {
        assert_eq!(Bytes(1536).to_string(), "1.50 KiB");
        assert_eq!(Bytes(12).to_string(), "12 B");
        assert_eq!(Nanos(1234.0).to_string(), "1.2 µs");
        assert_eq!(Nanos(2.5e9).to_string(), "2.50 s");
        assert_eq!(BytesPerSecond(16e9).to_string(), "16.00 GB/s");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
