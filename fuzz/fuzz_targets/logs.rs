//! Any bytes as a log: they give a session, the same for pieces of any size, within bounds, and the
//! rules can be asked about it.

#![no_main]

use gpuwhy::advise::diagnose::{Facts, diagnose};
use gpuwhy::observe::logs::{Lines, LogSession, Options, Parser, parse_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_bytes(bytes);
    check(&whole, bytes);
    let said = diagnose(&Facts::of_log(&whole));
    assert!(said.findings.iter().all(|f| (0.0..=1.0).contains(&f.confidence)));
    // The first byte decides how the rest is cut.
    let size = bytes.first().map_or(1, |b| usize::from(*b) + 1);
    let mut parser = Parser::new(Options::default());
    for piece in bytes.chunks(size) {
        parser.push(piece);
    }
    let pieces = parser.finish();
    // As text, for a value may be no number.
    assert_eq!(format!("{pieces:?}"), format!("{whole:?}"));
    followed(bytes);
});

fn check(session: &LogSession, bytes: &[u8]) {
    let counts = &session.counts;
    assert_eq!(counts.bytes, bytes.len() as u64);
    let ends = bytes.iter().filter(|b| **b == b'\n').count() as u64;
    let last = u64::from(bytes.last().is_some_and(|b| *b != b'\n'));
    assert_eq!(counts.lines, ends + last);
    let shown: u64 = counts.unknown_shapes.iter().map(|s| s.2).sum();
    assert!(shown <= counts.unknown);
    assert!(session.lines.bytes() <= Lines::BYTES_MAX);
}

/// As someone who follows the log: looks in between must neither lose nor double a line.
fn followed(bytes: &[u8]) {
    let mut parser = Parser::new(Options::default());
    for piece in bytes.chunks(bytes.len() / 4 + 1) {
        parser.push(piece);
        let seen = parser.snapshot();
        assert!(seen.counts.bytes <= bytes.len() as u64);
    }
    check(&parser.finish(), bytes);
}
