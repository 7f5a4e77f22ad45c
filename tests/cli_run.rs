//! The commands on a real model: the small one that this project trained.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/builtin/builtin.gguf");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/builtin/heldout.txt");

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuwhy"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn checked(output: Output) -> (String, String) {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

/// Runs what must succeed: stdout and stderr.
fn gpuwhy(args: &[&str]) -> (String, String) {
    checked(command(args).output().unwrap())
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&gpuwhy(args).0).unwrap()
}

fn with_stdin(args: &[&str], text: &str) -> (String, String) {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    checked(child.wait_with_output().unwrap())
}

const GREEDY: [&str; 6] = ["run", MODEL, "--temp", "0", "-n", "12"];

fn greedy<'a>(more: &[&'a str]) -> Vec<&'a str> {
    GREEDY.iter().chain(more).copied().collect()
}

#[test]
fn text_goes_to_stdout_and_the_report_to_stderr() {
    let (stdout, stderr) = gpuwhy(&greedy(&["-p", "Once upon a time"]));
    assert!(stdout.len() > 20 && !stdout.contains("what ran"), "{stdout}");
    for label in ["what ran", "where", "why", "how long", "Where the time went", "Memory"] {
        assert!(stderr.contains(label), "{label}: {stderr}");
    }
    assert!(!stderr.contains('\x1b'), "no colour where nobody sees it");
    let (_, quiet) = gpuwhy(&greedy(&["-q"]));
    assert_eq!(quiet, "");
}

#[test]
fn an_instruction_set_that_cannot_be_had_is_told_and_the_run_goes_on() {
    let run = |set: &str| -> (Value, String) {
        let args = ["run", MODEL, "-p", "Once", "--temp", "0", "-n", "2", "--format", "json"];
        let (stdout, _) = checked(command(&args).env("GPUWHY_CPU_ISA", set).output().unwrap());
        let report: Value = serde_json::from_str(&stdout).unwrap();
        let warnings = report["warnings"].to_string();
        (report, warnings)
    };
    let (report, warnings) = run("sse9");
    assert!(warnings.contains("GPUWHY_CPU_ISA=sse9 is no instruction set"), "{warnings}");
    assert!(warnings.contains("here it can be scalar"), "{warnings}");
    assert!(report["facts"]["isa"].is_string());
    let (report, warnings) = run("scalar");
    assert!(!warnings.contains("GPUWHY_CPU_ISA"), "{warnings}");
    assert_eq!(report["facts"]["isa"], "scalar");

    let args = ["perplexity", MODEL, "-f", TEXT, "-c", "64", "--chunks", "1"];
    let (_, stderr) = checked(command(&args).env("GPUWHY_CPU_ISA", "sse9").output().unwrap());
    assert!(stderr.contains("GPUWHY_CPU_ISA=sse9"), "{stderr}");
}

#[test]
fn the_report_tells_splits_with_causes_copies_and_times_that_add_up() {
    let device = ["-dev", "virtual:256MiB", "-ngl", "4", "-q", "--format", "json"];
    let report = json(&greedy(&device));
    assert_eq!(report["schema"], "gpuwhy.report/1");
    assert_eq!(report["source"]["kind"], "run");
    // As many layers as were asked for is no want of memory.
    assert_eq!(report["findings"], Value::Array(vec![]));
    assert_eq!(report["verdict"], "benign");
    let splits = report["splits"].as_array().unwrap();
    let decode: Vec<&Value> = splits.iter().filter(|s| s["phase"] == "decode").collect();
    let devices: Vec<&str> = decode.iter().map(|s| s["device"].as_str().unwrap()).collect();
    assert_eq!(devices, ["CPU", "Virtual0"]);
    assert_eq!((&decode[0]["virtual"], &decode[1]["virtual"]), (&false.into(), &true.into()));
    assert!(decode[1]["copy_bytes"].as_u64().unwrap() > 0);
    for split in &decode {
        // The first of 12 tokens comes from the prompt.
        assert_eq!(split["count"], 11, "{split}");
        assert!(!split["cause"].as_str().unwrap().is_empty());
        let nodes = split["node_list"].as_array().unwrap();
        assert_eq!(split["nodes"].as_u64().unwrap(), nodes.len() as u64);
        assert!(nodes.iter().all(|n| !n["cause"].as_str().unwrap().is_empty()));
    }
    let stalls = report["stalls"].as_array().unwrap();
    let stall = stalls.iter().find(|s| s["phase"] == "decode" && s["device"] == "Virtual0");
    let on = stall.unwrap()["on"].as_array().unwrap();
    assert!(on.iter().any(|c| c["on"] == "device" && c["device"] == "CPU"), "{on:?}");
    assert!(on.iter().any(|c| c["on"] == "copy" && c["tensor"].is_string()), "{on:?}");
    let timings = &report["timings"]["decode"];
    let parts = timings["parts"].as_object().unwrap();
    let sum: u64 = parts.values().map(|v| v.as_u64().unwrap()).sum();
    assert_eq!(sum, timings["total_ns"].as_u64().unwrap());
    let of_splits =
        |field: &str| -> u64 { decode.iter().map(|s| s[field].as_u64().unwrap()).sum() };
    for part in ["wait_ns", "copy_ns", "compute_ns"] {
        assert_eq!(of_splits(part), parts[part].as_u64().unwrap(), "{part}");
    }
    let first = report["timings"]["first_token"].as_object().unwrap();
    let total = first["total_ns"].as_u64().unwrap();
    let sum: u64 = first.iter().map(|(_, ns)| ns.as_u64().unwrap()).sum();
    assert_eq!(sum, 2 * total + first["beyond_prompt_ns"].as_u64().unwrap());
    assert!(first["open_ns"].as_u64().unwrap() > 0 && first["prompt_ns"].as_u64().unwrap() > 0);
    assert_eq!(report["facts"]["placement"]["layers_offloaded"], 4);
    assert_eq!(report["output"][0]["finish"], "length");
}

#[test]
fn a_device_changes_where_and_not_what() {
    let prompt = ["-p", "The GPU was idle because", "-q"];
    let (on_cpu, _) = gpuwhy(&greedy(&prompt));
    let device = ["-dev", "virtual:256MiB", "-ngl", "all"];
    let (on_device, _) = gpuwhy(&greedy(&[&prompt[..], &device].concat()));
    assert_eq!(on_cpu, on_device);
    let report = json(&greedy(&[&prompt[..], &["--format", "json"]].concat()));
    assert_eq!(report["output"][0]["text"].as_str().unwrap(), on_cpu.trim_end_matches('\n'));
}

#[test]
fn a_prompt_comes_from_an_option_a_file_or_a_pipe() {
    let (expected, _) = gpuwhy(&greedy(&["-p", "Bruno said", "-q"]));
    let (piped, _) = with_stdin(&greedy(&["-q"]), "Bruno said\n");
    assert_eq!(piped, expected);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prompt.txt");
    std::fs::write(&path, "Bruno said\n").unwrap();
    let (from_file, _) = gpuwhy(&greedy(&["-f", path.to_str().unwrap(), "-q"]));
    assert_eq!(from_file, expected);
    let (dash, _) = gpuwhy(&greedy(&["-p", "-ngl", "-q"]));
    assert_ne!(dash, expected);
}

#[test]
fn several_prompts_run_side_by_side() {
    let (one, _) = gpuwhy(&greedy(&["-p", "Once upon a time", "-q"]));
    let many = ["-p", "Once upon a time", "-p", "The GPU", "-p", "Bruno", "-np", "2"];
    let report = json(&greedy(&[&many[..], &["-q", "--format", "json"]].concat()));
    let outputs = report["output"].as_array().unwrap();
    assert_eq!(outputs.len(), 3);
    assert_eq!(outputs[0]["text"].as_str().unwrap(), one.trim_end_matches('\n'));
    assert!(report["timings"]["decode"]["sequences"].as_f64().unwrap() > 1.0);
    let (text, _) = gpuwhy(&greedy(&[&many[..], &["-q"]].concat()));
    assert!(
        text.starts_with("[0] ") && text.contains("\n[1] ") && text.contains("\n[2] "),
        "{text}"
    );
}

#[test]
fn a_full_context_ends_generation_and_says_so() {
    let report = json(&greedy(&["-c", "16", "-n", "-1", "--ignore-eos", "--format", "json", "-q"]));
    assert_eq!(report["output"][0]["finish"], "context-full");
    let args = ["run", MODEL, "-c", "4", "-p", "Once upon a time there was a GPU"];
    let output = command(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: ") && stderr.contains("hint: "), "{stderr}");
}

#[test]
fn nodes_are_timed_and_splits_dumped_on_request() {
    let args = greedy(&["--per-node", "--splits-dump", "-q", "--format", "json"]);
    let (stdout, stderr) = gpuwhy(&args);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["timings"]["per_node"], true);
    let node = &report["splits"][0]["node_list"][0];
    assert!(node["compute_ns"].is_u64(), "{node}");
    assert!(stderr.contains("## SPLIT #0: CPU # 0 inputs:"), "{stderr}");
    assert!(stderr.contains("node #  0 (  GET_ROWS):"), "{stderr}");
}

/// More threads than any machine has processors, on a model that is small enough for it.
#[test]
fn too_many_threads_are_told() {
    let report = json(&greedy(&["-t", "1", "-q", "--format", "json"]));
    let allowed = report["facts"]["processors_allowed"].as_u64().unwrap();
    let told =
        |r: &Value| r["warnings"].to_string().contains("processors that this process may use");
    assert!(!told(&report), "{}", report["warnings"]);
    assert!(report["facts"]["weight_layout"].as_str().unwrap().contains("not repacked"));
    let threads = (allowed + 1).to_string();
    let many = ["run", MODEL, "-n", "1", "-p", "a", "-t", &threads, "-q", "--format", "json"];
    assert!(told(&json(&many)));
}

#[test]
fn markdown_has_tables_and_the_text() {
    let (stdout, _) = gpuwhy(&greedy(&["--format", "markdown", "-q"]));
    assert!(stdout.starts_with("## gpuwhy "), "{stdout}");
    assert!(stdout.contains("\n| part ") && stdout.contains("<details>"), "{stdout}");
}

#[test]
fn what_does_not_fit_says_where_and_what_would() {
    let output = command(&["run", MODEL, "-dev", "virtual:1MiB", "-ngl", "all"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("Virtual0") && stderr.contains("hint: "), "{stderr}");
}

#[test]
fn a_bench_prints_the_same_tests_in_every_form() {
    let bench = |form: &str| {
        let args = ["bench", MODEL, "-p", "8", "-n", "2", "-d", "0,16", "-r", "2", "-o", form];
        gpuwhy(&args).0
    };
    let records: Vec<Value> = serde_json::from_str(&bench("json")).unwrap();
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!(record["schema"], "gpuwhy.bench/1");
        assert_eq!(record["samples_ns"].as_array().unwrap().len(), 2);
        assert!(record["avg_ts"].as_f64().unwrap() > 0.0);
    }
    assert_eq!((&records[2]["n_prompt"], &records[2]["n_depth"]), (&8.into(), &16.into()));
    let lines = bench("jsonl");
    assert_eq!(lines.lines().filter(|l| serde_json::from_str::<Value>(l).is_ok()).count(), 4);
    assert_eq!(bench("csv").lines().count(), 5);
    let table = bench("md");
    for name in [" pp8 |", " tg2 |", " pp8 @ d16 |", " tg2 @ d16 |"] {
        assert!(table.contains(name), "{name}: {table}");
    }
}

/// The figures are the machine's; that they are there, and belong together, is not.
#[test]
fn limits_are_measured_around_the_tests() {
    let args = ["bench", MODEL, "-p", "8", "-n", "2", "-r", "1", "-t", "1", "--limits"];
    let records: Vec<Value> =
        serde_json::from_str(&gpuwhy(&[&args[..], &["-o", "json"]].concat()).0).unwrap();
    assert_eq!(records.len(), 2);
    for record in &records {
        let number = |name: &str| record[name].as_f64().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(record["limit_read_ends_gb_s"].as_array().unwrap().len(), 2);
        let seconds = number("avg_ns") / 1e9 / (number("n_prompt") + number("n_gen"));
        let bytes = number("weight_bytes_per_token") + number("kv_bytes_per_token");
        let expected = bytes / (number("limit_read_gb_s") * 1e9) / seconds;
        assert!((number("read_share") / expected - 1.0).abs() < 1e-3, "{record}");
        assert!(number("compute_share") > 0.0, "{record}");
    }
    let args = ["bench", MODEL, "--limits", "-dev", "virtual:64MiB"];
    let output = command(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--limits"));
}

#[test]
fn model_info_tells_shape_types_tokenizer_and_memory() {
    let info = json(&["model", "info", MODEL, "-c", "256", "--format", "json"]);
    assert_eq!(info["schema"], "gpuwhy.model/1");
    assert_eq!(
        (&info["model"]["architecture"], &info["model"]["layers"]),
        (&"llama".into(), &6.into())
    );
    assert_eq!(info["tokenizer"]["tokens"], 1280);
    // 6 layers of 2 heads of 64, keys and values, two bytes each, 256 cells.
    assert_eq!(info["memory"]["kv_bytes"]["F16"], 6 * 2 * 64 * 2 * 2 * 256);
    let types = info["types"].as_array().unwrap();
    let bytes: u64 = types.iter().map(|t| t["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes, info["memory"]["weight_bytes"].as_u64().unwrap());
    let (text, _) = gpuwhy(&["model", "info", MODEL]);
    assert!(text.contains("Purposes") && text.contains("chat template"), "{text}");
}

/// The figure is that of llama.cpp on the same file and chunks (llama-cpp-python 0.3.36 on a CPU,
/// counted as `llama-perplexity` counts), to four digits.
#[test]
fn perplexity_is_counted_as_llama_cpp_counts_it() {
    let args = ["perplexity", MODEL, "-f", TEXT, "-c", "256", "--chunks", "8", "-q"];
    let report = json(&[&args[..], &["--format", "json"]].concat());
    assert_eq!((&report["chunks"], &report["tokens_scored"]), (&8.into(), &1016.into()));
    let perplexity = report["perplexity"].as_f64().unwrap();
    assert!((perplexity / 2.163_08 - 1.0).abs() < 0.002, "{perplexity}");
    let output = command(&["perplexity", MODEL, "-f", TEXT, "-c", "200000"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("too few"));
}

#[test]
fn without_arguments_the_built_in_model_runs() {
    let (stdout, stderr) = gpuwhy(&["--temp", "0", "-n", "12", "-q"]);
    let (named, _) = gpuwhy(&greedy(&["-q"]));
    assert_eq!((stdout, stderr), (named, String::new()));
    let (text, report) = gpuwhy(&[]);
    assert!(text.len() > 20 && report.contains("what ran"), "{report}");
}

#[test]
fn a_model_with_random_weights_is_made_once_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let with_cache =
        |args: &[&str]| checked(command(args).env("GPUWHY_CACHE", &cache).output().unwrap());
    let (path, _) = with_cache(&["model", "synth", "stories15m:Q4_0"]);
    assert!(path.starts_with(cache.to_str().unwrap()), "{path}");
    let made = std::fs::metadata(path.trim_end()).unwrap().modified().unwrap();
    let run = ["run", "synth:stories15m:Q4_0", "-n", "3", "--ignore-eos", "--format", "json", "-q"];
    let report: Value = serde_json::from_str(&with_cache(&run).0).unwrap();
    assert_eq!(report["output"][0]["tokens_generated"], 3);
    assert_eq!(report["facts"]["model"]["file_type"], "Q4_0");
    assert_eq!(std::fs::metadata(path.trim_end()).unwrap().modified().unwrap(), made);
    let file = dir.path().join("own.gguf");
    with_cache(&["model", "synth", "synth:stories15m:Q8_0", "-o", file.to_str().unwrap()]);
    let (info, _) = gpuwhy(&["model", "info", file.to_str().unwrap()]);
    assert!(info.contains("Q8_0"), "{info}");
}

#[test]
fn the_list_has_shapes_local_models_and_the_built_in_one() {
    let list = json(&["model", "list", "--format", "json"]);
    assert_eq!(list["schema"], "gpuwhy.models/1");
    let shapes = list["shapes"].as_array().unwrap();
    assert!(shapes.iter().any(|s| s["argument"] == "synth:qwen2.5-0.5b:Q4_K_M"), "{list}");
    assert!(list["built_in"]["parameters"].as_u64().unwrap() > 0);
    let (text, _) = gpuwhy(&["model", "list"]);
    assert!(text.contains("qwen2.5-0.5b") && text.contains("Ollama"), "{text}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_generation_and_still_reports() {
    use std::io::Read;
    let endless = ["-c", "100000", "-n", "-1", "--ignore-eos", "--format", "json"];
    let mut child = command(&greedy(&endless)).spawn().unwrap();
    // The text streams to stderr, so a first piece of it means that generation runs.
    let mut stderr = child.stderr.take().unwrap();
    let mut first = [0];
    stderr.read_exact(&mut first).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    // The rest is read so that the program never waits for a full pipe.
    let rest = std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
    let (stdout, _) = checked(child.wait_with_output().unwrap());
    rest.join().unwrap().unwrap();
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["output"][0]["finish"], "cancelled");
}

#[test]
fn our_own_log_says_what_the_report_says() {
    use gpuwhy::observe::logs::{BufferKind, Engine, parse_bytes};
    let device = ["-dev", "virtual:256MiB", "-ngl", "4", "-ctk", "q8_0", "-v", "-q"];
    let (stdout, log) = gpuwhy(&greedy(&[&device[..], &["--format", "json"]].concat()));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let session = parse_bytes(log.as_bytes());
    assert_eq!(session.engine, Engine::Gpuwhy, "{log}");
    assert_eq!(session.version.unwrap().value, env!("CARGO_PKG_VERSION"));
    assert_eq!((session.counts.unknown, session.loads.len()), (0, 1), "{log}");
    let (load, facts) = (&session.loads[0], &report["facts"]);
    let layers = load.layers.unwrap();
    assert_eq!(facts["placement"]["layers_offloaded"], layers.offloaded);
    assert_eq!(facts["placement"]["layers_total"], layers.total);
    assert_eq!(facts["context"]["n_ctx"], load.n_ctx.unwrap().value);
    assert_eq!(facts["model"]["architecture"], load.model.arch.as_ref().unwrap().value);
    assert_eq!(facts["model"]["layers"], load.model.n_layer.unwrap());
    let graph = load.graph.unwrap();
    assert_eq!(facts["graph"]["splits_prompt"], graph.splits_prompt.unwrap());
    assert_eq!(facts["graph"]["nodes"], graph.nodes_decode.unwrap());
    assert_eq!(load.kv.as_ref().unwrap().type_k.as_deref(), Some("q8_0"));
    for memory in facts["memory"]["devices"].as_array().unwrap() {
        let kinds = [
            ("weight_bytes", BufferKind::Model),
            ("kv_bytes", BufferKind::Kv),
            ("compute_bytes", BufferKind::Compute),
        ];
        for (name, kind) in kinds {
            let told = load.buffer_bytes(kind, |b| memory["device"] == b.device.as_str());
            let exact = memory[name].as_u64().unwrap();
            assert!(told.abs_diff(exact) <= 6000, "{name}: {told} {exact}");
        }
    }
    let decode = session.requests.first[0].decode_tokens_per_s.unwrap();
    assert!((decode - report["timings"]["decode"]["tokens_per_s"].as_f64().unwrap()).abs() < 0.01);
}

#[test]
fn a_recorded_run_is_exported_with_its_splits_copies_and_counters() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.gpuwhy");
    let path = file.to_str().unwrap();
    gpuwhy(&greedy(&["-dev", "virtual:256MiB", "-ngl", "4", "-q", "--record", path]));
    let exported = |to: &str| {
        let (out, err) = gpuwhy(&["export", path, "--to", to]);
        assert_eq!(err, "");
        out
    };
    let trace: Value = serde_json::from_str(&exported("chrome")).unwrap();
    let slices = trace["traceEvents"].as_array().unwrap();
    let named = |text: &str| slices.iter().any(|e| e["name"].to_string().contains(text));
    assert!(named("ffn_out-2") || named("l_out-2"), "the copy of a layer's result is not told");
    let native = folder.path().join("run.pftrace");
    gpuwhy(&["export", path, "--to", "perfetto", "-o", native.to_str().unwrap()]);
    let native = std::fs::read(native).unwrap();
    let has = |text: &str| native.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has("Virtual0 copies") && has("decode ubatch") && has("reading_ns"));
    assert!(exported("csv").lines().count() > 20);
    // A second recording does not write over the first.
    let refused = |args: &[&str]| {
        let output = command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let twice = refused(&["run", "-n", "1", "-q", "--record", path]);
    assert!(twice.contains("not overwritten"), "{twice}");
    std::fs::write(&file, "something else").unwrap();
    let other = refused(&["export", path]);
    assert!(other.contains("no recording"), "{other}");
}
