//! One log in every envelope gives one session.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use gpuwhy::observe::logs::{LineCounts, Lines, LogSession, parse_bytes};
use regex::Regex;

/// An invented log of Ollama with a llama.cpp runner: two slog forms, llama.cpp, access lines.
const PLAIN: &str = r#"2025/03/04 09:10:11 routes.go:1205: INFO server config env="map[CUDA_VISIBLE_DEVICES: OLLAMA_DEBUG:false OLLAMA_FLASH_ATTENTION:true OLLAMA_HOST:http://127.0.0.1:11434 OLLAMA_KEEP_ALIVE:5m0s OLLAMA_NUM_PARALLEL:2 OLLAMA_ORIGINS:[http://localhost https://localhost app://*]]"
time=2025-03-04T09:10:11.412+01:00 level=INFO source=routes.go:1256 msg="Listening on 127.0.0.1:11434 (version 0.5.13)"
time=2025-03-04T09:10:11.901+01:00 level=INFO source=types.go:130 msg="inference compute" id=GPU-0f1e2d3c-aaaa-bbbb-cccc-1234567890ab library=cuda variant=v12 compute=8.9 driver=12.6 name="NVIDIA GeForce RTX 4070" total="11.6 GiB" available="10.4 GiB"
time=2025-03-04T09:12:00.100+01:00 level=INFO source=server.go:130 msg=offload library=cuda layers.requested=-1 layers.model=49 layers.offload=31 layers.split="" memory.available="[10.4 GiB]" memory.gpu_overhead="0 B" memory.required.full="14.9 GiB" memory.required.partial="10.2 GiB" memory.required.kv="3.0 GiB" memory.required.allocations="[10.2 GiB]" memory.weights.total="8.4 GiB" memory.weights.repeating="7.8 GiB" memory.weights.nonrepeating="609.1 MiB" memory.graph.full="1.3 GiB" memory.graph.partial="1.3 GiB"
time=2025-03-04T09:12:00.102+01:00 level=INFO source=server.go:380 msg="starting llama server" cmd="/usr/bin/ollama runner --model /var/lib/ollama/models/blobs/sha256-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff --ctx-size 16384 --batch-size 512 --n-gpu-layers 31 --threads 8 --flash-attn --parallel 2 --port 40123"
time=2025-03-04T09:12:00.402+01:00 level=INFO source=server.go:585 msg="waiting for server to become available" status="llm server loading model"
llama_model_loader: loaded meta data with 27 key-value pairs and 579 tensors from /var/lib/ollama/models/blobs/sha256-0011 (version GGUF V3 (latest))
llama_model_loader: - kv   0:                       general.architecture str              = qwen2
llama_model_loader: - kv   1:                          qwen2.block_count u32              = 48
llama_model_loader: - kv   2:                       qwen2.context_length u32              = 32768
llama_model_loader: - kv   3:                     qwen2.embedding_length u32              = 5120
llama_model_loader: - kv   4:                 qwen2.attention.head_count u32              = 40
print_info: file size   = 8.37 GiB (4.87 BPW) 
load_tensors: offloading 31 repeating layers to GPU
load_tensors: offloaded 31/49 layers to GPU
load_tensors:        CUDA0 model buffer size =  5210.40 MiB
load_tensors:   CPU_Mapped model buffer size =  3361.17 MiB
llama_init_from_model: n_ctx         = 16384
llama_init_from_model: flash_attn    = 1
llama_kv_cache_init:      CUDA0 KV buffer size =  1984.00 MiB
llama_kv_cache_init:        CPU KV buffer size =  1088.00 MiB
llama_init_from_model:      CUDA0 compute buffer size =   916.08 MiB
llama_init_from_model:  CUDA_Host compute buffer size =    42.01 MiB
llama_init_from_model: graph nodes  = 1495
llama_init_from_model: graph splits = 242 (with bs=512), 3 (with bs=1)
time=2025-03-04T09:12:05.702+01:00 level=INFO source=server.go:624 msg="llama runner started in 5.60 seconds"
[GIN] 2025/03/04 - 09:12:31 | 200 | 31.204511233s |       127.0.0.1 | POST     "/api/chat"
"#;

/// What a session says, without where it stands, when, and how many lines there were.
fn facts(session: &LogSession) -> String {
    // That there was a container is what an envelope tells.
    let said = LogSession { in_container: false, in_journal: false, ..session.clone() };
    let said = LogSession { counts: LineCounts::default(), ..said };
    let said = LogSession { lines: Lines::default(), ..said };
    let text = format!("{said:#?}");
    let numbers = Regex::new(r"LineId\(\s*\d+,?\s*\)").unwrap().replace_all(&text, "LineId");
    let times = Regex::new(r"(?s)at_ns: (?:None|Some\(\s*-?\d+,\s*\))").unwrap();
    times.replace_all(&numbers, "at_ns").into_owned()
}

#[track_caller]
fn same(name: &str, wrapped: &[u8]) {
    let (plain, found) = (parse_bytes(PLAIN.as_bytes()), parse_bytes(wrapped));
    let (wanted, got) = (facts(&plain), facts(&found));
    if wanted != got {
        let lines = wanted.lines().zip(got.lines()).enumerate();
        let at = lines.filter(|(_, (a, b))| a != b).map(|(i, _)| i).next().unwrap_or(0);
        let near = |text: &str| -> String {
            text.lines().skip(at.saturating_sub(6)).take(14).collect::<Vec<_>>().join("\n")
        };
        panic!(
            "{name}: wanted\n{}\n--- found\n{}\n--- unknown: {:?}\n--- text\n{}",
            near(&wanted),
            near(&got),
            found.counts.unknown_shapes,
            String::from_utf8_lossy(wrapped)
        );
    }
}

fn each_line(change: impl Fn(usize, &str) -> String) -> String {
    PLAIN.lines().enumerate().map(|(i, line)| change(i, line)).collect()
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn the_plain_log_says_something() {
    let session = parse_bytes(PLAIN.as_bytes());
    assert_eq!(session.counts.unknown, 0, "{:?}", session.counts.unknown_shapes);
    assert_eq!(session.loads.len(), 1);
    assert_eq!(session.devices.len(), 1);
    assert_eq!(session.settings["OLLAMA_NUM_PARALLEL"].value, "2");
    assert_eq!(session.loads[0].layers.as_ref().unwrap().total, 49);
}

#[test]
fn prefixes_of_collectors() {
    let prefixes = [
        "Mar 04 09:10:11 box ollama[4711]: ",
        "3月 04 09:10:11 box ollama[4711]: ",
        "févr. 04 09:10:11 box ollama[4711]: ",
        "Mär 04 09:10:11 box ollama[4711]: ",
        "4 мар 09:10:11 box ollama[4711]: ",
        "2025-03-04T09:10:11+0100 box ollama[4711]: ",
        "ollama[4711]: ",
        "ollama  | ",
        "0123456789ab_stack-ollama-1  | ",
        "ollama-1  | 2025-03-04T08:10:11.123456789Z ",
        "2025-03-04T08:10:11.123456789Z ",
        "2025-03-04T08:10:11.123456789Z stderr F ",
        "[pod/ollama-0/ollama] ",
        "<30>Mar 04 09:10:11 box ollama[4711]: ",
        "    Mar 04 09:10:11 box ollama[4711]: ",
        "> Mar 04 09:10:11 <my server> ollama[4711]: ",
        "Mar 04 09:10:11 [host] ollama[4711]: ",
        "[ollama-ollama-1] 2025-03-04T08:10:11.123456789Z ",
        "(EngineCore_DP0 pid=4711) ",
        "[rank0]: ",
        "> ",
        "> > ",
        "⠹ ",
        "\u{1b}[?25l⠙ \u{1b}[0m",
    ];
    for prefix in prefixes {
        same(prefix, each_line(|_, line| format!("{prefix}{line}\n")).as_bytes());
    }
}

#[test]
fn objects_of_collectors() {
    same(
        "docker",
        each_line(|_, line| {
            let line = json(&format!("{line}\n"));
            format!(
                "{{\"log\":{line},\"stream\":\"stderr\",\"time\":\"2025-03-04T08:10:11.1Z\"}}\n"
            )
        })
        .as_bytes(),
    );
    same(
        "journalctl -o json",
        each_line(|i, line| {
            let line = json(line);
            format!(
                "{{\"MESSAGE\":{line},\"_PID\":\"4711\",\"__REALTIME_TIMESTAMP\":\"17410758{i:02}000000\"}}\n"
            )
        })
        .as_bytes(),
    );
    same(
        "a collector's export",
        each_line(|_, line| format!("{{\"textPayload\":{},\"insertId\":\"x\"}}\n", json(line)))
            .as_bytes(),
    );
}

#[test]
fn endings_and_encodings() {
    let windows = PLAIN.replace('\n', "\r\n");
    same("CRLF", windows.as_bytes());
    same("CR", PLAIN.replace('\n', "\r").as_bytes());
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    same("UTF-16", &utf16(&windows));
    same("UTF-16 with a mark", &utf16(&format!("\u{feff}{windows}")));
    let (first, second) = windows.split_at(windows.find("llama_model_loader").unwrap());
    same("first UTF-8, then UTF-16", &[first.as_bytes(), &utf16(second)].concat());
    same("a mark", &[b"\xef\xbb\xbf", PLAIN.as_bytes()].concat());
    let latin = [b"# caf\xe9 \xfc\n", PLAIN.as_bytes()].concat();
    same("a line of Latin-1", &latin);
    let coloured = each_line(|_, line| format!("\u{1b}[90m{line}\u{1b}[0m\u{1b}[K\n"));
    same("colours", coloured.as_bytes());
    let spun = each_line(|_, line| format!("pulling ⠹ 10 %\r⠸ {line}\n"));
    same("a spinner on the same line", spun.as_bytes());
}

#[test]
fn broken_and_glued_lines() {
    for width in [80, 100, 120, 200] {
        let mut wrapped = String::new();
        for line in PLAIN.lines() {
            let chars: Vec<char> = line.chars().collect();
            for piece in chars.chunks(width) {
                wrapped.extend(piece);
                wrapped.push('\n');
            }
        }
        same(&format!("wrapped at {width}"), wrapped.as_bytes());
    }
    let partial = each_line(|_, line| {
        let mut out = String::new();
        let (head, tail) = line.split_at(line.len().min(70));
        let stamp = "2025-03-04T08:10:11.123456789Z stderr";
        if tail.is_empty() {
            let _ = writeln!(out, "{stamp} F {head}");
        } else {
            let _ = writeln!(out, "{stamp} P {head}\n{stamp} F {tail}");
        }
        out
    });
    same("cut by a container's runtime", partial.as_bytes());
    let glued = PLAIN.replace("in 5.60 seconds\"\n[GIN]", "in 5.60 seconds\"[GIN]");
    assert_ne!(glued, PLAIN);
    same("an access line glued on", glued.as_bytes());
    let glued = PLAIN.replace("3 (with bs=1)\ntime=", "3 (with bs=1)time=");
    assert_ne!(glued, PLAIN);
    same("a structured line glued on", glued.as_bytes());
    let journald = each_line(|_, line| {
        let (head, tail) = line.split_at(line.len().min(120));
        let rest = if tail.is_empty() { String::new() } else { format!("{tail}\n") };
        format!("Mar 04 09:10:11 box ollama[4711]: {head}\n{rest}")
    });
    same("journald wrapped by a terminal", journald.as_bytes());
    let by_words = each_line(|_, line| {
        let mut out = String::new();
        let mut width = 0;
        for word in line.split_inclusive(' ') {
            // Structured lines alone: somebody broke them by hand, so that they can be read.
            if width + word.len() > 90 && line.starts_with("time=") && word.contains('=') {
                let kept = out.trim_end_matches(' ').len();
                out.truncate(kept);
                out.push_str("\n ");
                width = 0;
            }
            width += word.len();
            out.push_str(word);
        }
        out + "\n"
    });
    same("structured lines broken between pairs", by_words.as_bytes());
}

#[test]
fn viewers() {
    let stamp = |i: usize| format!("2025-03-04T08:10:{i:02}.5Z");
    let mut newest_first: Vec<String> =
        PLAIN.lines().enumerate().map(|(i, line)| format!("{} {line}\n", stamp(i))).collect();
    newest_first.reverse();
    same("newest first", newest_first.concat().as_bytes());
    let alternate = each_line(|i, line| format!("{}\ninfo\n{line}\n", stamp(i)));
    same("time, level and line in turns", alternate.as_bytes());
    let mut both: Vec<String> = PLAIN
        .lines()
        .enumerate()
        .map(|(i, line)| format!("{}\ninfo\n{line}\n", stamp(i)))
        .collect();
    both.reverse();
    same("in turns, newest first", both.concat().as_bytes());
    let fenced = format!("```\n[...]\n{PLAIN}```\n\n[...]\n");
    same("fenced", fenced.as_bytes());
    let empty_between = PLAIN.replace('\n', "\n\n");
    same("empty lines between", empty_between.as_bytes());
}

#[test]
fn pieces_of_any_size() {
    use gpuwhy::observe::logs::{Options, Parser};
    let whole = parse_bytes(PLAIN.as_bytes());
    for size in [1, 7, 64, 1000] {
        let mut parser = Parser::new(Options::default());
        PLAIN.as_bytes().chunks(size).for_each(|piece| parser.push(piece));
        assert!(parser.finish() == whole, "pieces of {size}");
    }
    // Who follows a log sees what is there, and nothing is lost or doubled by looking.
    let mut parser = Parser::new(Options::default());
    for line in PLAIN.split_inclusive('\n') {
        let (half, rest) = line.split_at(line.len() / 2);
        let before = parser.snapshot();
        parser.push(half.as_bytes());
        let mut seen = parser.snapshot();
        seen.counts.bytes = before.counts.bytes;
        assert!(seen == before, "half a line says nothing: {half}");
        parser.push(rest.as_bytes());
    }
    assert!(parser.snapshot() == whole);
    assert!(parser.finish() == whole);
}
