//! `gpuwhy attach` as people call it, against scripted servers.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/http/mod.rs"]
mod http;

use std::process::{Command, Output, Stdio};

use http::{Reply, Server, engines};
use serde_json::Value;

fn gpuwhy(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuwhy"));
    command.args(args).stdin(Stdio::null());
    for variable in ["OLLAMA_HOST", "OPENAI_API_KEY", "GPUWHY_API_KEY"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn attach(server: &Server, more: &[&str]) -> Output {
    let url = server.url();
    let mut args = vec!["attach", &url, "--no-log", "--for", "1", "--every", "50"];
    args.extend(more);
    gpuwhy(&args)
}

fn at_work() -> Server {
    engines::llama_server_at_work("127.0.0.1:0", true, true)
}

#[test]
fn a_server_is_reported_as_json() {
    let server = at_work();
    let output = attach(&server, &["--format", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "gpuwhy.report/1");
    assert_eq!(report["source"]["kind"], "attach");
    assert_eq!(report["source"]["engine"], "llama.cpp");
    let facts = &report["facts"];
    assert_eq!(facts["server"]["url"], server.url());
    assert_eq!(facts["server"]["state"], "up");
    assert_eq!(facts["models"][0]["name"], "tiny");
    assert_eq!(facts["slots"].as_array().unwrap().len(), 2);
    assert_eq!(report["timings"]["decode_tokens_per_s"]["last"], 25.0);
    assert_eq!(report["timings"].get("probe"), None);
    // It is this test's own process that listens there, so it is seen to work.
    let process = &facts["processes"][0];
    assert_eq!(process["pid"], std::process::id());
    assert!(process["threads_count"].as_u64().unwrap() >= 1);
    assert!(server.seen().iter().all(|request| request.method == "GET"));
}

#[test]
fn a_server_is_reported_as_text_and_markdown() {
    let server = at_work();
    let output = attach(&server, &[]);
    let report = text(&output.stdout);
    assert!(report.starts_with("verdict "), "{report}");
    for part in ["b11434-abcdef", "generation 25.0 tokens/s", "Q4_K - Medium", "slots at the end"] {
        assert!(report.contains(part), "no {part:?} in\n{report}");
    }
    let output = attach(&server, &["--format", "markdown"]);
    let report = text(&output.stdout);
    assert!(report.contains("| tiny ") && !report.contains('\u{1b}'), "{report}");
}

#[test]
fn a_probe_is_announced_and_only_sent_when_asked_for() {
    let server = engines::llama_server();
    let output = attach(&server, &["--probe", "--format", "json"]);
    let told = text(&output.stderr);
    assert!(told.contains("probe: sending one request of 32 tokens to http://127.0.0.1"), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let probe = &report["timings"]["probe"];
    assert_eq!(probe["generated_tokens"], 32, "{probe}");
    assert_eq!(probe["decode_tokens_per_s"], 1000.0 / engines::DECODE_MS);
    let sent: Vec<_> = server.seen().into_iter().filter(|r| r.method == "POST").collect();
    assert_eq!((sent.len(), sent[0].path.as_str()), (1, "/completion"));

    // An Ollama without a loaded model is not made to load one.
    let server = engines::ollama(1, 99);
    let output = attach(&server, &["--probe", "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["timings"]["probe"]["failed"], "it has loaded no model");
    assert!(server.seen().iter().all(|request| request.path != "/api/generate"));
}

#[test]
fn a_recording_of_it_can_be_exported_and_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("attach.gpuwhy");
    let path = path.to_str().unwrap();
    let output = attach(&at_work(), &["--record", path]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let exported = gpuwhy(&["export", path, "--to", "prometheus"]);
    let metrics = text(&exported.stdout);
    assert!(metrics.contains("slots_busy") && metrics.contains("decode_tokens_per_s"), "{metrics}");
    let replayed = gpuwhy(&["replay", path, "--format", "json"]);
    let report: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(report["source"]["kind"], "replay");
    assert_eq!(report["facts"]["models"][0]["name"], "tiny");
    assert_eq!(report["timings"]["decode_tokens_per_s"]["last"], 25.0);
}

#[test]
fn what_cannot_be_attached_to_is_an_error_with_a_hint() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = gpuwhy(&["attach", &free.to_string(), "--for", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("hint: start the server"), "{}", text(&output.stderr));

    let page = Server::start(|_| Reply::text(200, "<html>"));
    let output = gpuwhy(&["attach", &page.url(), "--for", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no server known here"), "{}", text(&output.stderr));

    // A number is a process, and no process has this one.
    let output = gpuwhy(&["attach", "4194999", "--for", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("gpuwhy attach :4194999"), "{}", text(&output.stderr));
}

#[cfg(target_os = "linux")]
#[test]
fn the_log_of_a_server_is_read_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let log = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/rules/context-kv-too-large");
    let mut logs: Vec<_> = std::fs::read_dir(log).unwrap().map(|e| e.unwrap().path()).collect();
    logs.sort();
    let name = |p: &std::path::PathBuf| p.file_name().unwrap().to_string_lossy().into_owned();
    let log = logs.into_iter().find(|p| name(p).starts_with("found-")).unwrap();
    let copy = folder.path().join("server.log");
    std::fs::copy(log, &copy).unwrap();
    let server = engines::ollama(1, 99);
    let url = server.url();
    let args = ["attach", &url, "--for", "1", "--format", "json", "--log", copy.to_str().unwrap()];
    let output = gpuwhy(&args);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "problem");
    assert_eq!(report["findings"][0]["rule"], "context-kv-too-large");
    assert!(report["facts"]["server"]["log_lines"].as_u64().unwrap() > 10);
}
