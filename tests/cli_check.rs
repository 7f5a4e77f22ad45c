//! `gpuwhy check` from the command line: exactly, on scripted targets with a virtual clock, and on the
//! model that is built into the program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn gpuwhy(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuwhy"));
    command.args(args).current_dir(folder).env_remove("GITHUB_STEP_SUMMARY");
    command.env("GPUWHY_CACHE", folder.join("cache")).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} {}", text(&output.stdout), text(&output.stderr)))
}

/// A side that decodes 50 tokens a second, 20 ms each, with its structure.
fn side(layers: u64, splits: u64) -> Value {
    json!({
        "metrics": { "prompt_tokens_per_s": 1000.0, "decode_tokens_per_s": 50.0 },
        "structure": {
            "placement.layers_offloaded": layers,
            "placement.layers.CPU": 25 - layers,
            "decode.splits": splits
        },
        "parts": [
            { "phase": "decode", "what": "split 0 on CPU: MUL_MAT", "ns_per_token": 12e6 },
            { "phase": "decode", "what": "split 0 on CPU: ROPE", "ns_per_token": 8e6 }
        ],
        "facts": { "engine": "mock", "engine_version": "1", "model": "m", "settings": {},
                   "machine": { "cpu": "Fast" } }
    })
}

/// Writes a script with both sides, or the candidate alone, and 1 % of noise.
fn script(folder: &Path, baseline: Option<&Value>, candidate: &Value) {
    let mut file = json!({ "seed": 7, "noise_percent": 1.0, "candidate": candidate });
    if let Some(baseline) = baseline {
        file["baseline"] = baseline.clone();
    }
    fs::write(folder.join("mock.json"), file.to_string()).unwrap();
}

fn slower(mut side: Value, factor: f64) -> Value {
    side["slower"] = json!({ "decode_tokens_per_s": factor });
    side["parts"][0]["ns_per_token"] = json!(12e6 + 20e6 * (factor - 1.0));
    side
}

const MOCK: [&str; 5] = ["check", "-q", "--mock", "mock.json", "--format"];

fn mock(folder: &Path, more: &[&str]) -> Output {
    let args: Vec<&str> = MOCK.iter().copied().chain(more.iter().copied()).collect();
    gpuwhy(folder, &args)
}

#[test]
fn the_same_passes_and_slower_regresses_with_the_operation_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    script(folder, Some(&side(13, 2)), &side(13, 2));
    let same = mock(folder, &["json"]);
    assert_eq!(code(&same), 0, "{}", text(&same.stdout));
    let report = json_of(&same);
    assert_eq!((&report["verdict"], &report["mode"]), (&json!("unchanged"), &json!("interleaved")));
    assert_eq!(report["structure"], json!([]));

    script(folder, Some(&side(13, 2)), &slower(side(13, 2), 1.1));
    let worse = mock(folder, &["json"]);
    assert_eq!(code(&worse), 1, "{}", text(&worse.stdout));
    let report = json_of(&worse);
    assert_eq!(report["schema"], "gpuwhy.check/1");
    let tests = report["timing"]["tests"].as_array().unwrap();
    let decode = tests.iter().find(|t| t["test"] == "tg32").unwrap();
    let ratio = decode["metrics"][0]["ratio"].as_f64().unwrap();
    assert!((0.88..0.94).contains(&ratio), "{ratio}");
    let phase = &report["attribution"][0]["phases"][0];
    assert_eq!(phase["parts"][0]["what"], "split 0 on CPU: MUL_MAT");
    assert_eq!(phase["parts"].as_array().unwrap().len(), 1, "ROPE did not change");
    let text = text(&mock(folder, &["text"]).stdout);
    assert!(text.contains("REGRESSED") && text.contains("split 0 on CPU: MUL_MAT"), "{text}");
}

#[test]
fn structure_alone_holds_the_gate_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    script(folder, Some(&side(13, 2)), &side(12, 2));
    let args = ["json", "--structure-only"];
    let output = mock(folder, &args);
    assert_eq!(code(&output), 1);
    let report = json_of(&output);
    let first = &report["structure"][0];
    assert_eq!(first["fact"], "placement.layers_offloaded");
    assert_eq!((&first["baseline"], &first["candidate"]), (&json!(13), &json!(12)));
    assert_eq!((&first["effect"], &report["timing"]), (&json!("worse"), &Value::Null));
    // More on the device is no reason to fail.
    script(folder, Some(&side(12, 2)), &side(13, 2));
    let output = mock(folder, &args);
    assert_eq!((code(&output), &json_of(&output)["verdict"]), (0, &json!("improved")));
}

#[test]
fn a_stored_baseline_is_compared_with_on_its_own_machine_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    script(folder, None, &side(13, 2));
    let missing = mock(folder, &["json"]);
    assert_eq!(code(&missing), 2);
    assert!(text(&missing.stderr).contains("--update"), "{}", text(&missing.stderr));
    for _ in 0..4 {
        let update = mock(folder, &["text", "--update"]);
        assert_eq!(code(&update), 0, "{}", text(&update.stderr));
    }
    let path = folder.join(".gpuwhy/built-in.quick.json");
    let baseline: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(baseline["sessions"].as_object().unwrap().len(), 4);
    let same = mock(folder, &["json"]);
    assert_eq!(json_of(&same)["mode"], "stored");
    assert_eq!(code(&same), 0, "{}", text(&same.stdout));

    script(folder, None, &slower(side(13, 2), 1.25));
    let worse = mock(folder, &["json"]);
    assert_eq!(code(&worse), 1, "{}", text(&worse.stdout));
    let parts = &json_of(&worse)["attribution"][0]["phases"][0]["parts"];
    assert_eq!(parts[0]["what"], "split 0 on CPU: MUL_MAT");

    let mut elsewhere = slower(side(13, 2), 1.25);
    elsewhere["facts"]["machine"]["cpu"] = json!("Slow");
    script(folder, None, &elsewhere);
    let other = mock(folder, &["json"]);
    assert_eq!(code(&other), 3, "{}", text(&other.stdout));
    let report = json_of(&other);
    assert_eq!(report["timing"], Value::Null);
    assert!(report["notes"].to_string().contains("cpu: Fast then, Slow now"), "{report}");
    // Structure still counts there.
    elsewhere["structure"]["decode.splits"] = json!(4);
    script(folder, None, &elsewhere);
    assert_eq!(code(&mock(folder, &["json"])), 1);
}

#[test]
fn a_baseline_of_structure_alone_is_made_without_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    script(folder, None, &side(13, 2));
    let update = mock(folder, &["text", "--update", "--structure-only"]);
    assert_eq!(code(&update), 0, "{}", text(&update.stderr));
    assert_eq!(code(&mock(folder, &["json", "--structure-only"])), 0);
    // Of times it knows nothing.
    let timed = mock(folder, &["json"]);
    assert_eq!(code(&timed), 3, "{}", text(&timed.stdout));
    assert!(json_of(&timed)["notes"].to_string().contains("no session"));
    script(folder, None, &side(12, 2));
    assert_eq!(code(&mock(folder, &["json", "--structure-only"])), 1);
}

#[test]
fn a_damaged_baseline_stays_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    script(folder, None, &side(13, 2));
    fs::create_dir(folder.join(".gpuwhy")).unwrap();
    let path = folder.join(".gpuwhy/built-in.quick.json");
    fs::write(&path, "{ \"schema\": ").unwrap();
    for more in [&["json"][..], &["json", "--update"]] {
        let output = mock(folder, more);
        assert_eq!(code(&output), 2);
        let told = text(&output.stderr);
        assert!(told.contains("built-in.quick.json") && told.contains("version control"), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{ \"schema\": ");
    }
}

/// A file may not grow beyond half a KiB: the program is killed in the middle of writing, or, where it
/// does not listen to that signal, is told that there is no room.
#[cfg(unix)]
#[test]
fn killed_while_writing_or_without_room_the_old_baseline_stays() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    script(folder, None, &side(13, 2));
    assert_eq!(code(&mock(folder, &["text", "--update"])), 0);
    let path = folder.join(".gpuwhy/built-in.quick.json");
    let before = fs::read(&path).unwrap();
    assert!(before.len() > 1024);
    let limited = |prelude: &str| {
        let line = format!("{prelude} ulimit -f 1; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_gpuwhy")]).current_dir(folder);
        command.args(MOCK).args(["text", "--update"]).output().unwrap()
    };
    let killed = limited("");
    assert_eq!(killed.status.code(), None, "it was killed: {}", text(&killed.stderr));
    assert_eq!(fs::read(&path).unwrap(), before);
    let full = limited("trap '' XFSZ;");
    assert_eq!(code(&full), 2);
    let told = text(&full.stderr);
    assert!(told.contains("cannot write") && told.contains("is as it was"), "{told}");
    assert_eq!(fs::read(&path).unwrap(), before);
    let names: Vec<_> = fs::read_dir(folder.join(".gpuwhy")).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    // What a kill left behind is in nobody's way.
    assert_eq!(code(&mock(folder, &["text", "--update"])), 0);
    let after: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(after["sessions"].as_object().unwrap().len(), 2);
}

#[test]
fn every_form_is_what_its_reader_expects() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    script(folder, Some(&side(13, 2)), &slower(side(12, 2), 1.1));
    let mut args = vec!["text".to_string()];
    let forms = [
        "json",
        "markdown",
        "junit",
        "github",
        "benchstat",
        "benchstat-baseline",
        "benchmark-bigger",
        "benchmark-smaller",
        "bencher",
    ];
    args.extend(forms.iter().flat_map(|f| ["--write".to_string(), format!("{f}={f}.out")]));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(code(&mock(folder, &args)), 1);
    let read = |form: &str| fs::read_to_string(folder.join(format!("{form}.out"))).unwrap();
    let value = |form: &str| serde_json::from_str::<Value>(&read(form)).unwrap();

    assert_eq!(value("json")["verdict"], "regressed");
    let markdown = read("markdown");
    assert!(markdown.starts_with("### gpuwhy check REGRESSED"), "{markdown}");
    assert!(markdown.contains("| placement.layers_offloaded | 13"), "{markdown}");

    let junit = read("junit");
    assert!(junit.contains("tests=\"4\" failures=\"3\" errors=\"0\""), "{junit}");
    assert!(junit.contains("classname=\"gpuwhy.quick.tg32\" name=\"decode speed\"><failure"));

    let github = read("github");
    assert!(github.contains("::error title=tg32%3A decode speed::regressed: "), "{github}");
    assert!(github.lines().all(|l| l.starts_with("::")), "{github}");

    let benchstat = read("benchstat");
    assert!(benchstat.contains("\nUnit decode_tokens/s better=higher\n"), "{benchstat}");
    let lines = benchstat.lines().filter(|l| l.starts_with("BenchmarkGpuwhy/tg32 1 ")).count();
    assert!(lines >= 6, "{benchstat}");
    assert_ne!(read("benchstat-baseline"), benchstat);

    let bigger = value("benchmark-bigger");
    let names: Vec<&str> =
        bigger.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp256 prompt speed", "tg32 decode speed"]);
    assert_eq!(value("benchmark-smaller"), json!([]));
    let measure = &value("bencher")["tg32"]["decode-tokens-per-s"];
    assert!(measure["lower_value"].as_f64() <= measure["value"].as_f64(), "{measure}");
}

#[test]
fn a_job_summary_is_added_to() {
    let folder = tempfile::tempdir().unwrap();
    script(folder.path(), Some(&side(13, 2)), &side(13, 2));
    let summary = folder.path().join("summary.md");
    fs::write(&summary, "before\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuwhy"));
    command.args(MOCK).arg("github").current_dir(folder.path());
    let output = command.env("GITHUB_STEP_SUMMARY", &summary).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let summary = fs::read_to_string(&summary).unwrap();
    assert!(summary.starts_with("before\n### gpuwhy check passed"), "{summary}");
}

#[test]
fn bad_arguments_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let told = |args: &[&str]| {
        let output = gpuwhy(folder.path(), args);
        assert_eq!(code(&output), 2, "{args:?}");
        text(&output.stderr)
    };
    let workload = told(&["check", "--workload", "fast"]);
    assert!(workload.contains("quick, standard, depth, server"), "{workload}");
    assert!(told(&["check", "--write", "html=x"]).contains("junit"));
    assert!(told(&["check", "--update", "--against", "x"]).contains("cannot be used with"));
    let effect = told(&["check", "--effect-min", "-3"]);
    assert!(effect.contains("effect"), "{effect}");
    let flags = told(&["check", "-q", "--against-flags", "-ot 'x"]);
    assert!(flags.contains("a quote is not closed"), "{flags}");
    let program = told(&["check", "-q", "--against", "/no/such/program"]);
    assert!(program.contains("cannot start /no/such/program"), "{program}");
    let url = told(&["check", "-q", "--url", "http://127.0.0.1:1"]);
    assert!(url.contains("127.0.0.1:1") && url.contains("hint:"), "{url}");
}

/// Structure of the built-in model on a virtual device, from its header.
#[test]
fn one_layer_less_fails_on_structure_without_running() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let check = |layers: &str, against: &str| {
        let args = [
            "check",
            "-q",
            "--structure-only",
            "-dev",
            "virtual:64MiB",
            "-ngl",
            layers,
            "--against-flags",
            against,
            "--format",
            "json",
        ];
        gpuwhy(folder, &args)
    };
    let flags = "-dev virtual:64MiB -ngl 4";
    let same = check("4", flags);
    assert_eq!(code(&same), 0, "{} {}", text(&same.stdout), text(&same.stderr));
    let less = check("3", flags);
    assert_eq!(code(&less), 1, "{}", text(&less.stdout));
    let report = json_of(&less);
    assert_eq!(report["structure"][0]["fact"], "placement.layers_offloaded");
    let facts: Vec<&str> = report["structure"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["fact"].as_str().unwrap())
        .collect();
    for fact in ["placement.layers.CPU", "decode.nodes.CPU", "memory.CPU.weight_bytes"] {
        assert!(facts.contains(&fact), "{fact} is not among {facts:?}");
    }
    assert!(check("5", flags).status.success(), "more on the device is no regression");
}

#[test]
fn a_sample_is_a_report_with_times_and_a_plan_has_the_same_structure() {
    let folder = tempfile::tempdir().unwrap();
    let sample = |more: &[&str]| {
        let common = ["sample", "-p", "24", "-n", "6", "-dev", "virtual:64MiB", "-ngl", "4"];
        let args: Vec<&str> = common.iter().chain(more).copied().collect();
        let output = gpuwhy(folder.path(), &args);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        json_of(&output)
    };
    let (run, plan) = (sample(&["-np", "2"]), sample(&["-np", "2", "--plan"]));
    // The prompt's last logits are the first of the six tokens of each sequence.
    assert_eq!(run["timings"]["prompt"]["tokens"], 48);
    assert_eq!(
        (&run["timings"]["decode"]["tokens"], &run["timings"]["decode"]["ubatches"]),
        (&json!(10), &json!(5))
    );
    assert!(run["timings"]["first_token_ns"].as_f64().unwrap() > 0.0);
    assert!(run["timings"]["inter_token_median_ns"].as_f64().unwrap() > 0.0);
    assert_eq!(plan["timings"]["decode"]["tokens"], 0);
    for key in ["model", "placement", "context", "graph"] {
        assert_eq!(run["facts"][key], plan["facts"][key], "{key}");
    }
    let needed = |report: &Value| {
        let devices = report["facts"]["memory"]["devices"].as_array().unwrap();
        devices.iter().map(|d| d["compute_bytes"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(needed(&run), needed(&plan));
    let decode = |report: &Value| {
        let splits = report["splits"].as_array().unwrap().iter();
        let of = splits.filter(|s| s["phase"] == "decode" && s["cut"] == 0);
        of.map(|s| json!([s["device"], s["cause"], s["range"][0]])).collect::<Vec<_>>()
    };
    assert_eq!(decode(&run), decode(&plan));
}
