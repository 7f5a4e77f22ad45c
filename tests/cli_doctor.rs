//! `gpuwhy doctor` as a user meets it: on this machine, and on made-up systems in a folder.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn doctor(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpuwhy"))
        .arg("doctor")
        .args(args)
        .env("GPUWHY_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1")
        .output()
        .unwrap()
}

/// The report of a made-up system, and the exit code.
fn report(folder: &Path) -> (Value, i32) {
    let out = doctor(&["--format", "json", "--root", folder.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&out.stderr);
    let report = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    (report, out.status.code().unwrap())
}

fn rules(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|f| f["rule"].as_str().unwrap()).collect()
}

fn path(folder: &Path, path: &str) -> PathBuf {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

fn file(folder: &Path, name: &str, text: &str) {
    fs::write(path(folder, name), text).unwrap();
}

/// A system with a GPU on the bus, and the kernel's driver for it, if any.
fn with_gpu(folder: &Path, vendor: &str, driver: Option<&str>, modules: &str) {
    let device = "sys/bus/pci/devices/0000:01:00.0";
    file(folder, &format!("{device}/class"), "0x030200\n");
    file(folder, &format!("{device}/vendor"), &format!("{vendor}\n"));
    file(folder, "proc/modules", modules);
    if let Some(driver) = driver {
        let target = format!("../../../bus/pci/drivers/{driver}");
        symlink(target, path(folder, &format!("{device}/driver"))).unwrap();
    }
}

#[test]
fn a_container_without_the_gpus_devices_is_found() {
    let made = tempfile::tempdir().unwrap();
    with_gpu(made.path(), "0x10de", Some("nvidia"), "nvidia 1 0 - Live 0x0\n");
    file(made.path(), ".dockerenv", "");
    let (report, code) = report(made.path());
    assert_eq!((rules(&report)[0], code), ("container-no-gpu-access", 1), "{report}");
    assert_eq!(report["source"]["kind"], "doctor");
    let evidence = &report["findings"][0]["evidence"][0];
    assert_eq!(evidence["source"], "machine");
    assert!(evidence["text"].as_str().unwrap().contains("/dev/nvidiactl"), "{evidence}");
    // With its device files there is nothing to say.
    file(made.path(), "dev/nvidiactl", "");
    let (report, code) = again(made.path());
    assert_eq!((rules(&report).len(), code), (0, 0), "{report}");
}

/// The report once more: where `report` is already the name of the first one.
fn again(folder: &Path) -> (Value, i32) {
    report(folder)
}

#[test]
fn a_module_that_is_not_loaded_is_found() {
    let made = tempfile::tempdir().unwrap();
    with_gpu(made.path(), "0x10de", None, "ext4 1 0 - Live 0x0\n");
    let (report, code) = report(made.path());
    assert_eq!((rules(&report)[0], code), ("driver-not-loaded", 1), "{report}");
}

#[test]
fn an_override_that_does_nothing_or_harm_is_found() {
    let made = tempfile::tempdir().unwrap();
    file(made.path(), "etc/systemd/system/ollama.service", "[Service]\nExecStart=ollama serve\n");
    let drop_in = "etc/systemd/system/ollama.service.d/override.conf";
    file(made.path(), drop_in, "[Service]\nEnvironment=\"OLLAMA_NUM_PARALEL=2\"\n");
    let (report, _) = report(made.path());
    assert_eq!(rules(&report), ["unknown-setting"], "{report}");
    let text = report["findings"][0].to_string();
    assert!(text.contains("OLLAMA_NUM_PARALLEL") && text.contains("override.conf"), "{text}");

    file(made.path(), drop_in, "[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=-1\n");
    let (report, code) = again(made.path());
    assert_eq!((rules(&report), code), (vec!["setting-disables-gpu"], 1), "{report}");
}

#[test]
fn the_running_servers_environment_counts() {
    let made = tempfile::tempdir().unwrap();
    file(made.path(), "proc/77/cmdline", "/usr/local/bin/ollama\0serve\0");
    file(made.path(), "proc/77/environ", "OLLAMA_KV_CACHE_TYPE=q8\0HOME=/root\0");
    let (report, _) = report(made.path());
    assert_eq!(rules(&report), ["unknown-setting"], "{report}");
    assert!(report["findings"][0].to_string().contains("the running process 77"), "{report}");
}

#[test]
fn an_empty_system_is_no_failure() {
    let made = tempfile::tempdir().unwrap();
    let (report, code) = report(made.path());
    assert_eq!((report["verdict"].as_str(), code), (Some("benign"), 0), "{report}");
    let facts = report["facts"]["machine"].as_array().unwrap();
    let hinted = facts.iter().filter(|f| f["hint"].as_str().is_some_and(|h| !h.is_empty()));
    assert!(hinted.count() >= 2, "{report}");
    let out = doctor(&["--root", "/nowhere/at/all"]);
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn markdown_is_redacted_and_text_is_not() {
    let made = tempfile::tempdir().unwrap();
    file(made.path(), "etc/systemd/system/ollama.service", "[Service]\n");
    let drop_in = "etc/systemd/system/ollama.service.d/a.conf";
    file(made.path(), drop_in, "Environment=OLLAMA_MODELS=/home/anna/models\n");
    let root = made.path().to_str().unwrap();
    let told = |args: &[&str]| String::from_utf8(doctor(args).stdout).unwrap();
    assert!(told(&["--root", root]).contains("/home/anna/models"));
    let markdown = told(&["--root", root, "--format", "markdown"]);
    assert!(markdown.contains("/home/<user>/models") && !markdown.contains("anna"), "{markdown}");
    assert!(told(&["--root", root, "--format", "markdown", "--no-redact"]).contains("anna"));
}

#[test]
fn this_machine_can_be_looked_at() {
    let out = doctor(&["--format", "json", "--no-log"]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["schema"], "gpuwhy.report/1");
    assert!(matches!(out.status.code(), Some(0 | 1)), "{report}");
    let facts = report["facts"]["machine"].as_array().unwrap();
    let has = |part: &str, name: &str| facts.iter().any(|f| f["part"] == part && f["name"] == name);
    assert!(has("a run here", "threads") && has("memory", "swap"), "{report}");
    assert!(has("devices", "NVML"), "a library that is missing is a fact: {report}");
}
