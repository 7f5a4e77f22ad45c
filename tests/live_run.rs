//! A run over several devices, recorded, folded into a session and judged: the serial split is named.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its own part")]
#[path = "support/cuda.rs"]
mod cuda;
#[path = "support/nvml.rs"]
mod nvml;

use std::path::Path;
use std::process::{Command, Stdio};

use gpuwhy::advise::diagnose::{Diagnosis, Facts, Kind, Place, diagnose};
use gpuwhy::base::event::Phase;
use gpuwhy::observe::record::Recording;
use gpuwhy::observe::session::Session;

/// What the rules say of a run with these arguments.
fn recorded(arguments: &[&str]) -> Diagnosis {
    recorded_by(Command::new(env!("CARGO_BIN_EXE_gpuwhy")), arguments)
}

/// The same, by a program that is prepared already.
fn recorded_by(mut program: Command, arguments: &[&str]) -> Diagnosis {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.gpuwhy");
    let out = program
        .arg("run")
        .args(arguments)
        .args(["-q", "--record", file.to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    judged(&file)
}

fn judged(file: &Path) -> Diagnosis {
    let mut session = Session::new();
    for event in Recording::open(file).unwrap() {
        session.take(&event);
    }
    session.log.settle();
    diagnose(&Facts::of_session(&session))
}

const RULE: &str = "devices-take-turns";

/// The title with which the rule names the split, its evidence being that split.
fn names_the_split(said: &Diagnosis) -> String {
    let found = said.findings.iter().find(|f| f.rule == RULE);
    let found = found.unwrap_or_else(|| panic!("{said:?}"));
    let split = |place: &Option<Place>| {
        matches!(place, Some(Place::Split { phase: Phase::Decode, index: 0 }))
    };
    assert!(found.evidence.iter().any(|e| split(&e.place)), "{found:?}");
    assert!(!found.fixes.is_empty(), "{found:?}");
    found.title.clone()
}

#[test]
fn layers_that_stay_on_the_cpu_are_named() {
    let devices = "virtual:1GiB,virtual:1GiB";
    let said = recorded(&["-dev", devices, "-ngl", "3", "-n", "24", "-c", "256"]);
    let title = names_the_split(&said);
    assert!(title.starts_with("split 0 on CPU (layers 0..3, "), "{title}");
    assert!(title.ends_with(" of each token while Virtual0 and Virtual1 wait"), "{title}");
}

#[test]
fn devices_that_share_all_layers_are_no_problem() {
    let said = recorded(&["-dev", "virtual:1GiB,virtual:1GiB", "-ngl", "99", "-n", "24"]);
    let benign = said.benign.iter().find(|f| f.rule == RULE);
    assert_eq!(benign.map(|f| f.kind), Some(Kind::Benign), "{said:?}");
}

#[test]
fn a_few_tokens_leave_it_open() {
    let said = recorded(&["-dev", "virtual:1GiB,virtual:1GiB", "-ngl", "3", "-n", "4"]);
    assert!(said.open.iter().any(|(rule, _)| *rule == RULE), "{said:?}");
}

/// Spans of the engine and samples of the GPUs are in one session, and all of it is judged together.
#[test]
fn a_run_on_emulated_gpus_and_what_happens_to_them_are_judged_together() {
    let script = "gpu 0 name Example H100\ngpu 0 memory 85899345920 12000000000\n\
        gpu 0 clocks 990 2619\ngpu 0 clocks-max 2100 2619\ngpu 0 throttle 0x40\n\
        gpu 0 utilisation 90 40\ngpu 0 process 4194303 4294967296 35 blender\n";
    let Some(emulator) = nvml::Emulator::new(script) else { return };
    let Some(mut program) = cuda::emulated_program(&[]) else { return };
    program.env("GPUWHY_NVML_LIBRARY", emulator.library());
    let said = recorded_by(program, &["-dev", "CUDA0", "-ngl", "3", "-n", "24", "-c", "256"]);
    let all = said.findings.iter().chain(said.consequences.iter().map(|c| &c.0));
    let title = |rule: &str| {
        let mut found = all.clone().filter(|f| f.rule == rule);
        found.next().map_or_else(|| panic!("{rule}: {said:?}"), |f| f.title.as_str())
    };
    let held = "GPU 0 (Example H100) is held back: hardware slowdown by heat";
    assert_eq!(title("gpu-power-cap"), held);
    let other = title("vram-used-by-other-process");
    assert!(other.contains("process 4194303") && other.contains("4.00 GiB"), "{other}");
    // How long the emulator takes for its part is no matter; that the CPU has layers is.
    let split = said.findings.iter().chain(&said.benign).find(|f| f.rule == RULE);
    let open = said.open.iter().any(|(rule, _)| *rule == RULE);
    assert!(!open, "24 tokens are enough: {said:?}");
    if let Some(split) = split {
        assert!(split.title.contains("on CPU (layers 0..3, "), "{}", split.title);
    }
}

/// Half a gigabyte of random weights is made and cached.
#[test]
#[ignore = "takes long without optimisation"]
fn a_model_that_two_small_devices_do_not_hold_is_named() {
    let devices = "virtual:300MiB,virtual:300MiB";
    let said = recorded(&["synth:qwen2.5-0.5b:Q4_K_M", "-dev", devices, "-n", "24"]);
    let title = names_the_split(&said);
    assert!(title.starts_with("split 0 on CPU (layers 0..1, "), "{title}");
}
