//! Every envelope around one line, and lines that have none.

use super::*;

const LINE: &str = "load_tensors: offloaded 44/81 layers to GPU";

fn open(text: &str) -> (String, Told) {
    let (line, told) = Envelope::default().open(text);
    (line.into_owned(), told)
}

#[test]
fn every_envelope_comes_off() {
    let prefixes = [
        "Mar 10 08:01:02 host ollama[2001]: ",
        "Mar 10 08:01:02.123456 my-host.local ollama[2001]: ",
        "3月 10 08:01:02 host ollama[2001]: ",
        "oct. 21 04:05:06 host ollama[2001]: ",
        "févr. 03 04:05:06 host ollama[2001]: ",
        "jan 27 04:05:06 host ollama[2001]: ",
        "Okt 12 04:05:06 büro-pc ollama[2001]: ",
        "10 мар 08:01:02 host ollama[2001]: ",
        "Mon 2025-03-10 08:01:02 CET host ollama[2001]: ",
        "2025-03-10T08:01:02+0100 host ollama[2001]: ",
        "2025-03-10T08:01:02.123456+01:00 host ollama[2001]: ",
        "<30>Mar 10 08:01:02 host ollama[2001]: ",
        "ollama[2001]: ",
        "Mar 10 08:01:02 ollama[2001]: ",
        "Mar 10 08:01:02 ",
        "ollama  | ",
        "ollama-1  | ",
        "0123456789ab_stack-ollama-1  | ",
        "ollama-1  | 2025-03-10T08:01:02.123456789Z ",
        "2025-03-10T08:01:02.123456789Z ",
        "2025-03-10T08:01:02.123456789Z stderr F ",
        "2025-03-10 08:01:02.123\t",
        "[2025-03-10 08:01:02] ",
        "[pod/ollama-0/ollama] ",
        "[40001] ",
        "> ",
        "< ",
        ">> ",
        "+ ",
        "> > ",
        "⠹ ",
        "⠙ ⠹ ",
        "0.00.800.123 I ",
        "[40001] 0.00.800.123 I ",
        "Mar 10 08:01:02 host ollama[2001]: [40001] 0.00.800.123 I ",
        "ollama.exe : ",
        "2023/10/11 07:10:02 ",
    ];
    for prefix in prefixes {
        assert_eq!(open(&format!("{prefix}{LINE}")).0, LINE, "{prefix:?}");
    }
}

#[test]
fn what_the_envelope_told_is_kept() {
    let told = open(&format!("Mar 10 08:01:02 host ollama[2001]: {LINE}")).1;
    assert_eq!((told.process, told.at), (Some(2001), None));
    let told = open(&format!("2025-02-15T17:25:02.007+01:00 host ollama[7]: {LINE}")).1;
    assert_eq!((told.process, told.at), (Some(7), Some(At::utc(1_739_636_702_007_000_000))));
    let told = open(&format!("[40001] 0.00.800.123 I {LINE}")).1;
    assert_eq!((told.process, told.elapsed_ns), (Some(40001), Some(800_123_000)));
    let told = open(&format!("2025-02-15T16:25:02.007Z stderr P {LINE}")).1;
    assert!(told.partial);
    let (line, told) =
        open(&format!("Mar 10 08:01:02 host ollama[2001]: message repeated 3 times: [ {LINE}]"));
    assert_eq!((line.as_str(), told.count), (LINE, 3));
}

#[test]
fn objects_are_opened() {
    let docker =
        r#"{"log":"load_tensors: a \"b\"\n","stream":"stderr","time":"2025-02-15T16:25:02.007Z"}"#;
    let (line, told) = open(docker);
    assert_eq!(line, r#"load_tensors: a "b""#);
    assert_eq!(told.at, Some(At::utc(1_739_636_702_007_000_000)));
    let journal =
        r#"{"MESSAGE":[108,58,32,255],"_PID":"12","__REALTIME_TIMESTAMP":"1739636702007000"}"#;
    let (line, told) = open(journal);
    assert_eq!(line, "l: \u{fffd}");
    assert_eq!((told.process, told.at), (Some(12), Some(At::utc(1_739_636_702_007_000_000))));
    let (line, told) = open(r#"{"type":"log","time":800123,"level":"info","msg":"load: x\n"}"#);
    assert_eq!(
        (line.as_str(), told.elapsed_ns, told.partial),
        ("load: x", Some(800_123_000), false)
    );
    let old = r#"{"timestamp":1696000000,"level":"INFO","function":"main","line":1190,"message":"system info","n_threads":8,"a b":"c d"}"#;
    let (line, _) = open(old);
    assert_eq!(line, r#"level=INFO source="main" msg="system info" "n_threads"=8 "a b"="c d""#);
    let (line, _) = open(r#"{"type":"fit","data":{"unit":"MiB","rows":[{"n":1}]}}"#);
    assert_eq!(line, r#"level=INFO msg="fit" "unit"="MiB" "rows"="[{\"n\":1}]""#);
    let inner = format!("{{\"message\":{docker:?}}}");
    assert_eq!(open(&inner).0, r#"load_tensors: a "b""#);
}

#[test]
fn lines_without_an_envelope_stay() {
    for line in [
        "slot print_timing: id  0 | task 0 | prompt processing, n_tokens = 512",
        "[GIN] 2025/02/14 - 10:20:30 | 200 |    4.5012345s |       127.0.0.1 | POST     \"/api/generate\"",
        "CUDA : ARCHS = 520 | USE_GRAPHS = 1 | CPU : SSE3 = 1 |",
        "|   - CUDA0 (RTX 3060)   | 12000 = 11000 + (9000 =  7500 + 1000 + 500) + -8000 |",
        "llama_model_loader: - kv  25: tokenizer.ggml.tokens arr[str,100000] = [\"<s>\", \"08:01:02 x y[3]: \"",
        "  Device 0: NVIDIA, compute capability 8.6",
        "time=2025-02-15T16:25:02.007Z level=INFO msg=x",
        "- kv   0: x",
        "{ not json",
        "",
        "llama.go:239: 8192 MiB VRAM",
    ] {
        let expected = line.strip_prefix("- ").filter(|_| line.starts_with("- kv")).unwrap_or(line);
        assert_eq!(open(line).0, expected, "{line:?}");
    }
}

#[test]
fn a_time_of_its_own_is_for_the_next_line() {
    let mut envelope = Envelope::default();
    assert_eq!(envelope.open("2025-02-15T16:25:02.007Z").0, "");
    assert_eq!(envelope.open("info").0, "");
    let (line, told) = envelope.open(LINE);
    assert_eq!((&*line, told.at), (LINE, Some(At::utc(1_739_636_702_007_000_000))));
    assert_eq!(envelope.open(LINE).1.at, None);
}

#[test]
fn a_time_without_a_zone_takes_the_last_one() {
    let mut envelope = Envelope::default();
    let zoned = envelope.time_within("time=2025-02-15T17:25:02.007+01:00 level=INFO");
    let access = envelope.time_within("[GIN] 2025/02/15 - 17:25:02.007 | 200 |");
    assert_eq!(zoned, Some(1_739_636_702_007_000_000));
    assert_eq!(access, zoned);
    let (line, told) = envelope.open("2025/02/15 17:25:02.007 llama.go:1: x");
    assert_eq!(envelope.at_ns(&line, &told), zoned);
}
