//! The program as people call it: help, bad flags, bad files, exit codes, and where output goes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn gpuwhy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpuwhy"))
        .args(args)
        .env_remove("GPUWHY_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs what must fail: exit code 2, nothing on stdout, one `error:` line on stderr.
fn fails(args: &[&str]) -> String {
    let output = gpuwhy(args);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", stdout(&output));
    assert!(text.starts_with("error: "), "{args:?}: {text}");
    assert!(!text.contains("panicked"), "{args:?}: {text}");
    text
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn help_names_every_command_and_llama_cpps_spelling() {
    let output = gpuwhy(&["--help"]);
    assert!(output.status.success());
    for command in ["run", "bench", "model", "perplexity", "completions", "man"] {
        assert!(stdout(&output).contains(&format!("\n  {command} ")), "{command}");
    }
    let output = gpuwhy(&["run", "--help"]);
    assert!(output.status.success());
    for spelling in ["[-ngl]", "[-ub]", "[-ctk]", "[-ncmoe]", "[-nkvo]", "[-dev]", "-c, --ctx-size"]
    {
        assert!(stdout(&output).contains(spelling), "{spelling}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let output = gpuwhy(&["--version"]);
    assert_eq!(stdout(&output), format!("gpuwhy {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    for (args, part) in [
        (&["run", "--no-such-flag"][..], "--no-such-flag"),
        (&["run", "m", "-ngl", "many"], "a number, auto or all"),
        (&["run", "m", "-fa", "off"], "cannot be turned off"),
        (&["run", "m", "-sm", "tensor"], "row is the nearest"),
        (&["run", "m", "-ctk", "q6_k"], "f32, f16, q8_0 or q4_0"),
        (&["run", "m", "-p", "a", "-f", "b"], "cannot be used with"),
        (&["bench", "m", "-p", "512-"], "is no number and no range"),
        (&["bench", "m", "-r", "0"], "at least one repetition"),
        (&["perplexity", "m"], "--file"),
        (&["man", "nothing"], "no command 'nothing'"),
        (&["run", "synth:no-such-shape:Q4_0"], "no-such-shape"),
        (&["model", "synth", "stories15m:Q99"], "Q99"),
    ] {
        let text = fails(args);
        assert!(text.contains(part), "{args:?}: {text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for command in [&["run"][..], &["bench"], &["model", "info"]] {
        let text = fails(&[command, &["/no/such/dir/model.gguf"]].concat());
        assert!(text.contains("/no/such/dir/model.gguf"), "{command:?}: {text}");
    }
    let text = fails(&["run", "m.gguf", "-f", "/no/such/prompt.txt"]);
    assert!(text.contains("/no/such/prompt.txt"), "{text}");
}

#[test]
fn a_file_that_is_no_model_is_named_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let text_file = write(dir.path(), "story.gguf", b"once upon a time there was no model");
    let short = write(dir.path(), "short.gguf", b"GGUF\x03\0\0\0");
    let empty = write(dir.path(), "empty.gguf", b"");
    for path in [&text_file, &short, &empty] {
        let name = path.to_str().unwrap();
        for command in [&["run"][..], &["bench"], &["model", "info"]] {
            let text = fails(&[command, &[name]].concat());
            assert!(text.contains(name), "{text}");
        }
    }
    let text = fails(&["run", text_file.to_str().unwrap()]);
    assert!(text.lines().count() <= 2, "one line and a hint: {text}");
}

#[test]
fn a_bad_device_comes_with_a_hint() {
    let text = fails(&["bench", "m.gguf", "-dev", "virtual:lots"]);
    assert!(text.contains("virtual:lots"), "{text}");
    assert!(text.contains("\nhint: "), "{text}");
}

#[test]
fn completions_and_manual_cover_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = gpuwhy(&["completions", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("n-gpu-layers"), "{shell}");
    }
    assert!(stdout(&gpuwhy(&["man"])).contains(".TH gpuwhy 1"));
    let page = stdout(&gpuwhy(&["man", "run"]));
    assert!(page.contains("gpuwhy") && page.contains("n\\-gpu\\-layers"), "{page}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    use std::io::Read;
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpuwhy"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Dropping the pipe before anything is read makes the program's next write fail.
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((status.code(), text.as_str()), (Some(0), ""));
}
