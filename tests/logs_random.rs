//! Any bytes are a log: nothing panics, counts add up, memory stays bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gpuwhy::advise::diagnose::{Facts, diagnose};
use gpuwhy::observe::logs::{LogSession, Options, Parser, parse_bytes};
use proptest::prelude::*;

/// Pieces of lines of every kind, to be cut and put together at random.
const PIECES: [&str; 34] = [
    "time=2025-03-04T09:12:00.100+01:00 level=INFO source=server.go:130 msg=offload library=cuda ",
    "layers.requested=-1 layers.model=49 layers.offload=31 layers.split=\"\" ",
    "memory.available=\"[10.4 GiB]\"",
    "msg=\"Listening on 127.0.0.1:11434 (version 0.5.13)\"",
    "msg=load request=\"{Operation:fit KvSize:4096 GPULayers:35[ID:GPU-1 Layers:35(0..34)]}\"",
    "env=\"map[A:b OLLAMA_HOST:http://x:1 C:]\"",
    "2025/03/04 09:10:11 routes.go:1205: INFO server config ",
    "[GIN] 2025/03/04 - 09:12:31 | 200 | 31.2s | 127.0.0.1 | POST \"/api/chat\"",
    "load_tensors: offloaded 31/49 layers to GPU",
    "load_tensors:        CUDA0 model buffer size =  5210.40 MiB",
    "llama_kv_cache_init: KV self size = 99999999999999999999.0 MiB",
    "graph splits = 242 (with bs=512), 3 (with bs=1)",
    "prompt eval time = 1200.0 ms / 60 tokens (20.0 ms per token, inf tokens per second)",
    "slot print_timing: id  0 | task 18446744073709551616 | ",
    "## SPLIT #0: CPU # 0 inputs: ",
    "node #1 (MUL_MAT): x (4K) [CUDA0     ] use=1,c=1: y (18M) [CUDA0     ]",
    "llama_model_loader: - kv   3: general.name str = \"",
    "Mar 04 09:10:11 box ollama[4711]: ",
    "message repeated 99999999999999999999 times: [ ",
    "ollama-1  | ",
    "[40001] ",
    "0.00.800.123 I ",
    "> ",
    "{\"log\":\"load\\n\",\"time\":\"2025-03-04T08:10:11.1Z\"}",
    "{\"type\":\"log\",\"time\":18446744073709551615,\"msg\":\"x\\u0000\\n\"}",
    "{\"timestamp\":9223372036854775807,\"level\":\"INFO\",\"function\":\"main\",\"message\":\"system info\",\"n\":8}",
    "2025-03-04T08:10:11Z stderr P ",
    "9999999.99.999.999 W ",
    "é月\u{1b}[31m\u{8}\r",
    "\n",
    "\r\n",
    "\n\n",
    "\"",
    " ",
];

fn checked(bytes: &[u8]) -> LogSession {
    let session = parse_bytes(bytes);
    let counts = &session.counts;
    assert_eq!(counts.bytes, bytes.len() as u64);
    let ends = memchr::memchr_iter(b'\n', bytes).count() as u64;
    let last = u64::from(bytes.last().is_some_and(|b| *b != b'\n'));
    assert_eq!(counts.lines, ends + last);
    let shown: u64 = counts.unknown_shapes.iter().map(|s| s.2).sum();
    assert!(shown <= counts.unknown);
    // An object is longer when it is written as a structured line.
    assert!(session.lines.bytes() <= 3 * bytes.len() + 64 * counts.lines as usize);
    let said = diagnose(&Facts::of_log(&session));
    assert!(said.findings.iter().all(|f| (0.0..=1.0).contains(&f.confidence)));
    session
}

fn spliced() -> impl Strategy<Value = Vec<u8>> {
    let piece = (0..PIECES.len(), any::<prop::sample::Index>(), any::<bool>());
    prop::collection::vec(piece, 0..60).prop_map(|all| {
        let mut out = Vec::new();
        for (i, cut, whole) in all {
            let bytes = PIECES[i].as_bytes();
            out.extend_from_slice(if whole { bytes } else { &bytes[..cut.index(bytes.len() + 1)] });
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        checked(&bytes);
    }

    #[test]
    fn spliced_lines(bytes in spliced()) {
        checked(&bytes);
    }

    /// However the bytes arrive, the session is the same.
    #[test]
    fn pieces_give_the_whole(bytes in spliced(), size in 1usize..200) {
        let mut parser = Parser::new(Options::default());
        bytes.chunks(size).for_each(|piece| parser.push(piece));
        // As text, for a value may be no number.
        let (pieces, whole) = (parser.finish(), parse_bytes(&bytes));
        let (pieces, whole) = (format!("{pieces:#?}"), format!("{whole:#?}"));
        let differ: Vec<_> = pieces.lines().zip(whole.lines()).filter(|(a, b)| a != b).collect();
        prop_assert!(pieces == whole, "{differ:?} {:?}", String::from_utf8_lossy(&bytes));
    }

    /// One byte changed somewhere.
    #[test]
    fn damaged_lines(bytes in spliced(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = bytes;
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        checked(&bytes);
    }
}

/// Real logs with absurd numbers: rules reckon with what they are given.
#[test]
fn rules_bear_any_numbers() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")];
    let mut logs = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "log") {
                logs.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(logs.len() > 200);
    let numbers = ["0", "1", "99999", "4294967296", "9223372036854775807", "18446744073709551615"];
    for log in &logs {
        for (shift, only) in (0..numbers.len()).flat_map(|n| [(n, true), (n, false)]) {
            let mut out = String::new();
            let (mut in_number, mut count) = (false, shift);
            for c in log.chars() {
                if !c.is_ascii_digit() {
                    in_number = false;
                    out.push(c);
                } else if !in_number {
                    in_number = true;
                    count += 1;
                    // All the same, or one after the other.
                    out.push_str(numbers[if only { shift } else { count % numbers.len() }]);
                }
            }
            checked(out.as_bytes());
        }
    }
}

/// A line that never ends, many lines that go on, and many kinds of lines.
#[test]
fn nothing_grows_without_bound() {
    let mut parser = Parser::new(Options::default());
    let piece = b"time=2025-03-04T09:12:00Z level=INFO msg=\"".repeat(1000);
    for _ in 0..200 {
        parser.push(&piece);
    }
    parser.push(b"\n");
    for i in 0..20_000u32 {
        let name: String = format!("{i}").bytes().map(|b| char::from(b + 60)).collect();
        parser.push(format!("what is {name} {name}\nlevel=INFO msg=\"never {name}\n").as_bytes());
        parser.push(format!("load_backend: loaded {name} backend from /x/{name}.so\n").as_bytes());
    }
    let session = parser.finish();
    assert!(session.counts.unknown_shapes.len() <= 512);
    assert!(session.lines.bytes() <= gpuwhy::observe::logs::Lines::BYTES_MAX);
    assert_eq!(session.counts.lines, 60_001);
}
