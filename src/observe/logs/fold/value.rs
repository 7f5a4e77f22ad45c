//! Values as programs print them: sizes, durations, numbers with a comma, lists in brackets.

/// Bytes of one MiB.
pub(super) const MIB: f64 = 1_048_576.0;

/// A text that is kept, cut to a length that no log can blow up.
pub(super) fn kept(text: &str) -> String {
    const BYTES_MAX: usize = 2048;
    text[..text.floor_char_boundary(BYTES_MAX)].trim().to_string()
}

/// `1.5 GiB`, `457.0 MiB`, `0 B`, `512 MB` (a million bytes), or a bare number of bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let factor = match text[end..].trim() {
        "" | "B" => 1.0,
        "KiB" | "K" => 1024.0,
        "MiB" | "M" => MIB,
        "GiB" | "G" => 1024.0 * MIB,
        "TiB" => 1024.0 * 1024.0 * MIB,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return None,
    };
    bytes(number * factor)
}

/// A number of MiB as bytes.
pub(super) fn mib(number: f64) -> Option<u64> {
    bytes(number * MIB)
}

fn bytes(number: f64) -> Option<u64> {
    (number.is_finite() && (0.0..1e18).contains(&number)).then_some(number.round() as u64)
}

/// A list of sizes: `[22.6 GiB 21.0 GiB]`, or one without brackets.
pub(super) fn sizes(text: &str) -> Vec<u64> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let mut found = Vec::new();
    let mut words = inner.split_whitespace().peekable();
    while let Some(number) = words.next() {
        let unit = words.next_if(|w| w.starts_with(|c: char| c.is_ascii_alphabetic()));
        let one = unit.map_or_else(|| size(number), |unit| size(&format!("{number} {unit}")));
        let Some(one) = one else { break };
        found.push(one);
        if found.len() == LIST_MAX {
            break;
        }
    }
    found
}

/// Lists are cut here: there are no more GPUs in a machine.
const LIST_MAX: usize = 64;

/// A list of counts: `33,32`, or the newer `[33 32]`.
pub(super) fn counts(text: &str) -> Vec<u64> {
    let parts = text.split([',', ' ', '[', ']']).filter(|p| !p.is_empty());
    parts.map_while(|p| p.parse().ok()).take(LIST_MAX).collect()
}

/// A floating point number, also with a decimal comma; `inf` and `nan` are no numbers.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let number: f64 = text.trim().replace(',', ".").parse().ok()?;
    number.is_finite().then_some(number)
}

/// A duration as Go prints it, in nanoseconds: `4.5s`, `1m16s`, `444.59ms`, `123µs`, `5m1s`, `0s`.
pub(super) fn duration_ns(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [
            ("ns", 1.0),
            ("µs", 1e3),
            ("μs", 1e3),
            ("us", 1e3),
            ("ms", 1e6),
            ("h", 3.6e12),
            ("m", 6e10),
            ("s", 1e9),
        ];
        let (unit, factor) = units.iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * factor;
        rest = &rest[unit.len()..];
    }
    (0.0..9e18).contains(&total).then_some(total as u64)
}

/// Seconds as nanoseconds.
pub(super) fn seconds_ns(text: &str) -> Option<u64> {
    let seconds = decimal(text)?;
    (0.0..9e9).contains(&seconds).then_some((seconds * 1e9) as u64)
}

/// A count with a suffix, as llama.cpp prints parameters: `8.03 B`, `494.03 M`.
pub(super) fn magnitude(text: &str) -> Option<f64> {
    let mut parts = text.split_whitespace();
    let number = decimal(parts.next()?)?;
    let factor = match parts.next().unwrap_or_default() {
        "" => 1.0,
        "K" => 1e3,
        "M" => 1e6,
        "B" => 1e9,
        "T" => 1e12,
        _ => return None,
    };
    let whole = number * factor;
    // The printed digits are exact, their product is not.
    Some(if factor > 1.0 { whole.round() } else { whole })
}

/// The largest number of a value that may differ from layer to layer: `8`, `[4, 4, 1]`.
pub(super) fn largest(text: &str) -> Option<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1.5 GiB"), Some(1_610_612_736));
        assert_eq!(size("457.0 MiB"), Some(479_199_232));
        assert_eq!(size("0 B"), Some(0));
        assert_eq!(size("512 MB"), Some(512_000_000));
        assert_eq!(size("9876543210"), Some(9_876_543_210));
        assert_eq!(size("many"), None);
        assert_eq!(size("1 furlong"), None);
        assert_eq!(sizes("[22.5 GiB 1.0 MiB 7]"), vec![24_159_191_040, 1_048_576, 7]);
        assert_eq!(sizes("7.5 GiB"), vec![8_053_063_680]);
        assert_eq!(sizes("[]"), Vec::<u64>::new());
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration_ns("4.5012345s"), Some(4_501_234_500));
        assert_eq!(duration_ns("1m16s"), Some(76_000_000_000));
        assert_eq!(duration_ns("444.59ms"), Some(444_590_000));
        assert_eq!(duration_ns("201.446µs"), Some(201_446));
        assert_eq!(duration_ns("2562047h47m16.8s"), None);
        assert_eq!(duration_ns("0s"), Some(0));
        assert_eq!(duration_ns("5"), None);
        assert_eq!(duration_ns("s"), None);
    }

    #[test]
    fn numbers_may_have_a_comma_or_a_magnitude() {
        assert_eq!(decimal("9321,55"), Some(9321.55));
        assert_eq!(decimal("inf"), None);
        assert_eq!(magnitude("8.03 B"), Some(8.03e9));
        assert_eq!(largest("[4, 4, 1, 4]"), Some(4));
        assert_eq!(counts("33,32"), vec![33, 32]);
        assert_eq!(counts("[33 32]"), vec![33, 32]);
        assert_eq!(counts(""), Vec::<u64>::new());
    }
}
