//! `gpuwhy logs` and `gpuwhy explain` as people call them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn gpuwhy(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuwhy"));
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

fn piped(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpuwhy"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Any log in which a rule finds a problem.
fn bad_log(rule: &str) -> PathBuf {
    let folder = fixture(&format!("rules/{rule}"));
    let mut logs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    logs.sort();
    let name = |p: &PathBuf| p.file_name().unwrap().to_str().unwrap().to_string();
    logs.into_iter().find(|p| name(p).starts_with("found-")).unwrap()
}

fn healthy_log() -> PathBuf {
    fixture("logs/healthy-ollama-a-two-gpus.log")
}

#[test]
fn a_problem_is_told_first_and_exits_with_1() {
    let log = bad_log("context-kv-too-large");
    let output = gpuwhy(&["logs", log.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.starts_with("verdict   problem: "), "{text}");
    assert!(text.contains("cause: context-kv-too-large"), "{text}");
    assert!(text.contains("evidence\n    line "), "{text}");
    assert!(text.contains("\n  fix "), "{text}");
}

#[test]
fn a_healthy_log_exits_with_0() {
    let output = gpuwhy(&["logs", healthy_log().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).starts_with("verdict   nothing is wrong"), "{}", stdout(&output));
}

#[test]
fn standard_input_is_read_with_and_without_a_dash() {
    let log = std::fs::read(bad_log("model-exceeds-vram")).unwrap();
    let (dash, bare) = (piped(&["logs", "-"], &log), piped(&["logs"], &log));
    assert_eq!(dash.status.code(), Some(1));
    assert_eq!(stdout(&dash), stdout(&bare));
}

#[test]
fn json_follows_the_contract() {
    let log = bad_log("model-exceeds-vram");
    let output = gpuwhy(&["logs", "--format", "json", log.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "gpuwhy.report/1");
    assert_eq!(report["source"]["kind"], "log");
    assert_eq!(report["verdict"], "problem");
    let first = &report["findings"][0];
    for key in ["rule", "kind", "severity", "confidence", "title", "explanation"] {
        assert!(!first[key].is_null(), "{key}: {first}");
    }
    assert!(first["evidence"][0]["line"].as_u64().unwrap() > 0);
    for key in ["target", "name", "value", "reason", "expected"] {
        assert!(first["fixes"][0][key].is_string(), "{key}: {first}");
    }
}

#[test]
fn markdown_is_redacted_unless_told_otherwise() {
    let mut log = std::fs::read_to_string(bad_log("model-exceeds-vram")).unwrap();
    log = log.replace("/blobs/", "/home/greta/blobs/").replace(" model ", " /home/greta/x ");
    let line = "time=2025-01-01T00:00:00Z level=ERROR source=x.go:1 msg=x path=/home/greta/y\n";
    let log = format!("{line}{log}");
    let safe = stdout(&piped(&["logs", "--format", "markdown"], log.as_bytes()));
    assert!(!safe.contains("greta"), "{safe}");
    let unknown = ["logs", "--list-unknown", "--redact"];
    assert!(!stdout(&piped(&unknown, log.as_bytes())).contains("greta"));
}

#[test]
fn a_comparison_tells_what_changed() {
    let (good, bad) = (healthy_log(), bad_log("context-kv-too-large"));
    let args = ["logs", "--diff", good.to_str().unwrap(), bad.to_str().unwrap()];
    let output = gpuwhy(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).starts_with("new problem context-kv-too-large"), "{}", stdout(&output));
    let same = gpuwhy(&["logs", "--diff", args[2], args[2]]);
    assert_eq!(same.status.code(), Some(0));
    assert_eq!(stdout(&same), "no difference in what these logs tell\n");
}

#[test]
fn a_packed_log_reads_like_the_plain_one() {
    let dir = tempfile::tempdir().unwrap();
    let plain = bad_log("model-exceeds-vram");
    let packed = dir.path().join("server.log.gz");
    let file = std::fs::File::create(&packed).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    encoder.write_all(&std::fs::read(&plain).unwrap()).unwrap();
    encoder.finish().unwrap();
    let of = |p: &Path| stdout(&gpuwhy(&["logs", p.to_str().unwrap()]));
    assert_eq!(of(&packed), of(&plain));
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    for args in
        [vec!["logs", "/no/such.log"], vec!["logs", folder], vec!["logs", "--diff", "a", "b"]]
    {
        let output = gpuwhy(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("error: ") && text.contains("\nhint: "), "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn bytes_that_are_no_log_tell_nothing() {
    for bytes in [&b""[..], b"\xff\xfe\x00\x01\n\x1b[", b"hello\nworld\n"] {
        let output = piped(&["logs", "-"], bytes);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).starts_with("verdict   this log does not tell"));
    }
}

#[test]
fn rules_are_explained() {
    let all = stdout(&gpuwhy(&["explain"]));
    assert!(all.lines().count() > 40, "{all}");
    let page = gpuwhy(&["explain", "context_kv_too_large"]);
    assert!(page.status.success());
    for part in ["# context-kv-too-large", "## Why it costs", "## Evidence", "## Fix", "## Example"]
    {
        assert!(stdout(&page).contains(part), "{part}");
    }
    let typo = gpuwhy(&["explain", "contxt-kv-too-large"]);
    assert_eq!(typo.status.code(), Some(2));
    let text = String::from_utf8(typo.stderr).unwrap();
    assert!(text.contains("hint: did you mean context-kv-too-large?"), "{text}");
}
