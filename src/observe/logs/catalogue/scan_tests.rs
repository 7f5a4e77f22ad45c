//! The quick matcher answers as the regex crate does.

use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::observe::logs::catalogue::builtin::FILES;
use crate::observe::logs::catalogue::file;

/// Both matchers of an expression.
struct Both {
    expression: String,
    scan: Scan,
    regex: Regex,
}

impl Both {
    fn new(expression: &str) -> Option<Self> {
        let (scan, regex) = (Scan::new(expression)?, Regex::new(expression).unwrap());
        Some(Self { expression: expression.to_string(), scan, regex })
    }

    /// `None` when the quick matcher leaves it to the regex crate.
    fn compare(&self, text: &str) -> Option<bool> {
        let mut stack = Stack::default();
        let found = self.scan.search(text.as_bytes(), &mut stack)?;
        let mut places = self.regex.capture_locations();
        let wanted = self.regex.captures_read(&mut places, text).is_some();
        assert_eq!(found, wanted, "{:?} on {text:?}", self.expression);
        for group in 0..if found { places.len() } else { 0 } {
            let (start, end) = (stack.slots[2 * group], stack.slots[2 * group + 1]);
            let got = (end != NONE).then_some((start, end));
            assert_eq!(
                got,
                places.get(group),
                "group {group} of {:?} on {text:?}",
                self.expression
            );
        }
        Some(found)
    }
}

fn expressions() -> Vec<String> {
    let files = FILES.iter().map(|(name, text)| file::parse(name, text).unwrap());
    files.flat_map(|f| f.pattern).filter_map(|p| p.regex).collect()
}

fn lines() -> Vec<String> {
    let files = FILES.iter().map(|(name, text)| file::parse(name, text).unwrap());
    let samples = files.flat_map(|f| f.pattern).flat_map(|p| p.sample);
    samples.map(|s| s.line).filter(|l| l.is_ascii()).collect()
}

#[test]
fn it_knows_nearly_all_patterns() {
    let all = expressions();
    let known = all.iter().filter(|e| Scan::new(e).is_some()).count();
    assert!(known * 100 >= all.len() * 90, "{known} of {}", all.len());
}

#[test]
fn every_pattern_on_every_sample() {
    let lines = lines();
    for both in expressions().iter().filter_map(|e| Both::new(e)) {
        for line in &lines {
            both.compare(line);
        }
    }
}

#[test]
fn choices_are_taken_in_order() {
    for (expression, text) in [
        ("(a|ab)(c|bcd)(d*)", "abcd"),
        (r"x(?<n>\d+)(?:\.(?<f>\d+))?y", "x12.y x3.4y"),
        (r"(\w+)\s+(\w+?)z", "ab  czdz"),
        (r"^(?:foo_)?bar: (\d{2,3})$", "bar: 1234"),
        (r"^(?:foo_)?bar: (\d{2,3})", "foo_bar: 1234"),
        (r"(\d+)\d", "a123"),
        (r"\bGPU\b (.*) end", "xGPU GPU a end end"),
        (r"(?:a|b|)c", "xbc"),
        (r"([^ ]+) MiB", "a  12.5 MiB"),
        (r"(?<a>a)?(?<b>b)?c", "bc ac"),
    ] {
        let both = Both::new(expression).unwrap_or_else(|| panic!("{expression:?} is not known"));
        assert!(both.compare(text).is_some(), "{expression:?} is given up");
    }
}

#[test]
fn a_hard_search_is_given_up() {
    let scan = Scan::new(r"x\w*\w*\w*\w*!").unwrap();
    let text = format!("x{}", "a".repeat(200));
    assert_eq!(scan.search(text.as_bytes(), &mut Stack::default()), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Samples with a byte changed, a piece cut out, or two glued.
    #[test]
    fn damaged_samples(
        pick in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in 32u8..127,
        first in 0usize..7,
    ) {
        static BOTH: LazyLock<(Vec<String>, Vec<Both>)> = LazyLock::new(|| {
            (lines(), expressions().iter().filter_map(|e| Both::new(e)).collect())
        });
        let (lines, both) = &*BOTH;
        let (line, other) = (pick.get(lines), other.get(lines));
        let at = at.index(line.len());
        let mut changed = line.clone().into_bytes();
        changed[at] = byte;
        let texts = [
            String::from_utf8(changed).unwrap(),
            format!("{}{other}", &line[..at]),
            format!("{other}{}", &line[at..]),
        ];
        for both in both.iter().skip(first).step_by(7) {
            for text in &texts {
                both.compare(text);
            }
        }
    }
}
