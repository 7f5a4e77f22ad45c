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

/// `gpuwhy logs --follow --format json`, which gives one line per report.
#[cfg(unix)]
struct Follower {
    child: std::process::Child,
    reports: std::sync::mpsc::Receiver<Value>,
}

#[cfg(unix)]
impl Follower {
    fn start(source: &str, input: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gpuwhy"))
            .args(["logs", "--follow", "--format", "json", source])
            .stdin(input)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let (sender, reports) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, reports }
    }

    /// The first report from now on for which `is` holds.
    fn report(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let limit = std::time::Instant::now() + LIMIT;
        loop {
            let left = limit.saturating_duration_since(std::time::Instant::now());
            let report = self.reports.recv_timeout(left);
            let report = report.unwrap_or_else(|e| panic!("no report with {what}: {e}"));
            if is(&report) {
                return report;
            }
        }
    }

    fn finding(&self, rule: &str) -> Value {
        let is = |report: &Value| rules_of(report).contains(&rule.to_string());
        self.report(rule, is)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// The last report and the exit code.
    fn end(mut self) -> (Value, Option<i32>) {
        let mut last = None;
        while let Ok(report) = self.reports.recv_timeout(LIMIT) {
            last = Some(report);
        }
        (last.expect("a report at the end"), self.child.wait().unwrap().code())
    }
}

/// Whatever the machine does besides, a report comes in less.
#[cfg(unix)]
const LIMIT: std::time::Duration = std::time::Duration::from_mins(2);

#[cfg(unix)]
fn rules_of(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|f| f["rule"].as_str().unwrap().to_string()).collect()
}

/// A file grows, is put away while its writer still has it open, and is cut: every finding comes
/// while the log goes on, and the report at the end is that of all that was written.
#[cfg(unix)]
#[test]
fn a_followed_log_is_read_through_growth_rotation_and_cut() {
    use std::fs::{self, File, OpenOptions};

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let live = path("server.log");
    let text = |rule: &str| fs::read_to_string(bad_log(rule)).unwrap();
    let append = |file: &Path| OpenOptions::new().append(true).create(true).open(file).unwrap();

    let long_context = text("context-kv-too-large");
    let half = long_context.len() / 2;
    let mut writer = File::create(&live).unwrap();
    writer.write_all(&long_context.as_bytes()[..half]).unwrap();
    let follower = Follower::start(live.to_str().unwrap(), Stdio::null());
    follower.report("anything", |_| true);
    writer.write_all(&long_context.as_bytes()[half..]).unwrap();
    let found = follower.finding("context-kv-too-large");
    assert!(!rules_of(&found).contains(&"queue-full".to_string()));

    // Put away: a new file stands there, but the server still writes to the old one.
    fs::rename(&live, path("server-1.log")).unwrap();
    File::create(&live).unwrap();
    writer.write_all(text("queue-full").as_bytes()).unwrap();
    follower.finding("queue-full");
    append(&live).write_all(text("mlock-failed").as_bytes()).unwrap();
    follower.finding("mlock-failed");

    // Copied and cut; then longer than before at once.
    fs::copy(&live, path("server-2.log")).unwrap();
    File::create(&live).unwrap();
    let rest = format!("{0}{1}{1}", text("numa-placement"), text("mlock-failed"));
    append(&live).write_all(rest.as_bytes()).unwrap();
    follower.finding("numa-placement");

    // Nobody looks again between the last lines and the end.
    append(&live).write_all(text("gpu-hardware-error").as_bytes()).unwrap();
    follower.signal("-TERM");
    let (last, code) = follower.end();
    assert_eq!(code, Some(1));
    let all = ["server-1.log", "server-2.log", "server.log"].map(path);
    let mut args = vec!["logs", "--format", "json"];
    args.extend(all.iter().map(|p| p.to_str().unwrap()));
    let whole: Value = serde_json::from_slice(&gpuwhy(&args).stdout).unwrap();
    assert_eq!(last, whole);
}

/// A server that is busy leaves no pause in which to look.
#[cfg(unix)]
#[test]
fn a_followed_log_that_never_pauses_is_looked_at_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("server.log");
    let mut writer = std::fs::File::create(&live).unwrap();
    let follower = Follower::start(live.to_str().unwrap(), Stdio::null());
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let text = std::fs::read(bad_log("model-exceeds-vram")).unwrap();
    let busy = {
        let done = std::sync::Arc::clone(&done);
        std::thread::spawn(move || {
            writer.write_all(&text).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let line =
                    "[GIN] 2025/03/04 - 09:10:11 | 200 | 20.1µs | 127.0.0.1 | GET \"/api/tags\"";
                writeln!(writer, "{line}").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        })
    };
    follower.finding("model-exceeds-vram");
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    busy.join().unwrap();
    follower.signal("-INT");
    assert_eq!(follower.end().1, Some(1));
}

/// `docker logs -f … | gpuwhy logs --follow -`: findings come while the pipe is open, and the last
/// report when it closes, or when somebody ends it.
#[cfg(unix)]
#[test]
fn a_followed_pipe_reports_as_it_comes_and_at_its_end() {
    let text = std::fs::read(bad_log("model-exceeds-vram")).unwrap();
    for by_hand in [false, true] {
        let mut follower = Follower::start("-", Stdio::piped());
        let mut input = follower.child.stdin.take().unwrap();
        input.write_all(&text).unwrap();
        follower.finding("model-exceeds-vram");
        if by_hand {
            follower.signal("-INT");
        } else {
            drop(input);
        }
        let (last, code) = follower.end();
        assert!(rules_of(&last).contains(&"model-exceeds-vram".to_string()));
        assert_eq!(code, Some(1));
    }
}

#[cfg(unix)]
#[test]
fn reports_of_a_followed_log_are_told_apart() {
    let log = bad_log("model-exceeds-vram");
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpuwhy"))
        .args(["logs", "--follow", log.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("== ") && first.ends_with(" lines"), "{first}");
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest.iter().filter(|l| l.starts_with("verdict ")).count(), 2, "{rest:#?}");
    assert_eq!(rest.iter().filter(|l| l.contains("at the end, after")).count(), 1, "{rest:#?}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
