//! What a `gpuwhy.report/1` says about a test: metrics, parts, structure, conditions.
//!
//! Reads JSON and not the report's types, because the program that printed it may be of another
//! version. What is missing is left out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::sample::{Conditions, Metric, Part};
use super::target::{Structure, TargetFacts};
use super::workload::Test;

const MS: f64 = 1e-6;

/// The metrics of a test.
pub(super) fn metrics_of(report: &Value, test: &Test) -> BTreeMap<Metric, f64> {
    let t = &report["timings"];
    let number = |v: &Value| v.as_f64().filter(|x| x.is_finite() && *x > 0.0);
    let one = test.concurrency == 1;
    let mut metrics = BTreeMap::new();
    let mut set = |metric, value: Option<f64>| {
        if let Some(value) = value {
            metrics.insert(metric, value);
        }
    };
    if test.prompt_tokens > 0 && one {
        set(Metric::PromptTokensPerS, number(&t["prompt"]["tokens_per_s"]));
    }
    if test.generate_tokens > 1 {
        let decode = number(&t["decode"]["tokens_per_s"]);
        let whole = number(&t["decode"]["total_ns"]).zip(t["prompt"]["total_ns"].as_f64());
        let generated = f64::from(test.generate_tokens) * f64::from(test.concurrency);
        if one {
            set(Metric::DecodeTokensPerS, decode);
        } else {
            let rate = whole.map(|(decode, prompt)| generated * 1e9 / (decode + prompt));
            set(Metric::ThroughputTokensPerS, rate);
        }
        set(Metric::InterTokenMs, number(&t["inter_token_median_ns"]).map(|ns| ns * MS));
        // Of few tokens the 99th percentile is the largest, and tells nothing.
        if test.generate_tokens >= 100 {
            set(Metric::InterTokenP99Ms, number(&t["inter_token_p99_ns"]).map(|ns| ns * MS));
        }
    }
    if test.prompt_tokens > 0 && test.generate_tokens > 0 {
        set(Metric::FirstTokenMs, number(&t["first_token_ns"]).map(|ns| ns * MS));
    }
    if test.reload {
        set(Metric::LoadMs, number(&t["load"]["total_ns"]).map(|ns| ns * MS));
    }
    metrics
}

/// Where the time of a token went: splits and copies, or operations where nodes were timed, and what
/// the host did between them.
pub(super) fn parts_of(report: &Value) -> Vec<Part> {
    let mut sums: Vec<Part> = Vec::new();
    let mut add = |phase: &str, what: String, ns: f64| {
        let known = sums.iter_mut().find(|p| p.phase == phase && p.what == what);
        match known {
            Some(known) => known.ns_per_token += ns,
            None if ns > 0.0 => {
                sums.push(Part { phase: phase.to_string(), what, ns_per_token: ns });
            }
            None => {}
        }
    };
    for phase in ["decode", "prompt"] {
        let timings = &report["timings"][phase];
        let Some(tokens) = timings["tokens"].as_f64().filter(|n| *n > 0.0) else { continue };
        let each = |v: &Value| v.as_f64().unwrap_or(0.0) / tokens;
        for split in list(&report["splits"]).iter().filter(|s| s["phase"] == phase) {
            let place = format!("split {} on {}", split["index"], text(&split["device"]));
            add(phase, format!("{place}: wait"), each(&split["wait_ns"]));
            for input in list(&split["inputs"]) {
                let (tensor, from) = (text(&input["tensor"]), text(&input["from"]));
                let what = format!("{place}: copy of {tensor} from {from}");
                add(phase, what, each(&input["copy_ns"]));
            }
            let nodes = list(&split["node_list"]);
            let timed: f64 = nodes.iter().map(|n| each(&n["compute_ns"])).sum();
            if timed > 0.0 {
                for node in nodes {
                    add(
                        phase,
                        format!("{place}: {}", text(&node["op"])),
                        each(&node["compute_ns"]),
                    );
                }
                let between = (each(&split["compute_ns"]) - timed).max(0.0);
                add(phase, format!("{place}: between nodes"), between);
            } else {
                add(phase, format!("{place}: compute"), each(&split["compute_ns"]));
            }
        }
        for (key, what) in [
            ("graph_ns", "host: building graphs"),
            ("inputs_ns", "host: writing inputs"),
            ("logits_ns", "host: reading results"),
            ("sampling_ns", "host: sampling"),
            ("detokenise_ns", "host: tokens to text"),
            ("unaccounted_ns", "host: not accounted for"),
        ] {
            add(phase, what.to_string(), each(&timings["parts"][key]));
        }
    }
    sums
}

/// What else ran, as the program itself saw it.
pub(super) fn conditions_of(report: &Value) -> Conditions {
    let used = &report["facts"]["processor_use"];
    Conditions {
        stolen_share: used["stolen_share"].as_f64(),
        others_share: used["others_share"].as_f64(),
        ..Conditions::default()
    }
}

/// What the target is. Settings come from who knows the flags.
pub(super) fn facts_of(report: &Value) -> TargetFacts {
    let (source, facts) = (&report["source"], &report["facts"]);
    let model = &facts["model"];
    let mut machine = BTreeMap::new();
    let mut gpus = Vec::new();
    for device in list(&facts["devices"]) {
        let is_virtual = device["virtual"] == true;
        if text(&device["name"]) == "CPU" {
            // The description goes on with the threads, which are a setting.
            let name = text(&device["description"]);
            machine.insert("cpu".to_string(), name.split(',').next().unwrap_or(name).to_string());
            let gib = device["memory_bytes_total"].as_f64().unwrap_or(0.0) / (1u64 << 30) as f64;
            machine.insert("memory".to_string(), format!("{gib:.0} GiB"));
        } else if !is_virtual {
            gpus.push(text(&device["description"]).to_string());
        }
    }
    machine.insert("processors".to_string(), facts["processors_allowed"].to_string());
    machine.insert("isa".to_string(), text(&facts["isa"]).to_string());
    machine.insert("os".to_string(), std::env::consts::OS.to_string());
    machine
        .insert("gpu".to_string(), if gpus.is_empty() { "none".into() } else { gpus.join(", ") });
    let mut settings = BTreeMap::new();
    let context = &facts["context"];
    for key in ["type_k", "type_v", "n_batch", "n_ubatch"] {
        let value = &context[key];
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        settings.insert(key.to_string(), value);
    }
    settings.insert("threads".to_string(), text(&facts["threads"]).to_string());
    TargetFacts {
        engine: text(&source["engine"]).to_string(),
        engine_version: text(&source["engine_version"]).to_string(),
        model: format!("{} {}", text(&model["name"]), text(&model["file_type"])),
        settings,
        machine,
    }
}

/// The facts that do not vary from run to run. Those under `machine.` depend on the processor that
/// the program runs on, the others do not.
pub(super) fn structure_of(report: &Value) -> Structure {
    let facts = &report["facts"];
    let mut s = Structure::new();
    for key in ["file_type", "parameters", "weight_bytes"] {
        s.insert(format!("model.{key}"), facts["model"][key].clone());
    }
    for key in ["layers_offloaded", "layers_total"] {
        s.insert(format!("placement.{key}"), facts["placement"][key].clone());
    }
    for device in list(&facts["devices"]) {
        s.insert(format!("placement.layers.{}", text(&device["name"])), device["layers"].clone());
    }
    for e in list(&facts["placement"]["exceptions"]) {
        let value = format!("{} on {}", e["count"], text(&e["device"]));
        s.insert(format!("placement.elsewhere.{}", text(&e["weight"])), json!(value));
    }
    for key in ["n_ctx", "n_batch", "n_ubatch", "n_seq_max", "type_k", "type_v"] {
        s.insert(format!("context.{key}"), facts["context"][key].clone());
    }
    for device in list(&facts["memory"]["devices"]) {
        let name = text(&device["device"]);
        for key in ["weight_bytes", "kv_bytes", "compute_bytes"] {
            s.insert(format!("memory.{name}.{key}"), device[key].clone());
        }
        // The CPU's depends on how many threads there are.
        let scratch = if name == "CPU" { "machine.memory" } else { "memory" };
        s.insert(format!("{scratch}.{name}.scratch_bytes"), device["scratch_bytes"].clone());
    }
    s.insert("machine.kernels".to_string(), facts["isa"].clone());
    s.insert("machine.threads".to_string(), facts["threads"].clone());
    s.insert("weights.layout".to_string(), facts["weight_layout"].clone());
    for phase in ["decode", "prompt"] {
        phase_structure(&mut s, report, phase);
    }
    s
}

fn phase_structure(s: &mut Structure, report: &Value, phase: &str) {
    let splits: Vec<&Value> =
        list(&report["splits"]).iter().filter(|p| p["phase"] == phase && p["cut"] == 0).collect();
    let (mut nodes, mut ops) = (BTreeMap::new(), BTreeMap::new());
    let mut copy_bytes = 0;
    for split in &splits {
        let device = text(&split["device"]);
        *nodes.entry(device).or_insert(0) += split["nodes"].as_u64().unwrap_or(0);
        for op in list(&split["ops"]) {
            let count = op["count"].as_u64().unwrap_or(0);
            *ops.entry((device, text(&op["op"]))).or_insert(0) += count;
        }
        let key = format!("{phase}.split.{:03}", split["index"].as_u64().unwrap_or(0));
        s.insert(format!("{key}.device"), split["device"].clone());
        s.insert(format!("{key}.nodes"), split["nodes"].clone());
        s.insert(format!("{key}.cause"), split["cause"].clone());
        for input in list(&split["inputs"]) {
            let bytes = input["bytes"].as_u64().unwrap_or(0);
            copy_bytes += bytes;
            s.insert(format!("{key}.copies.{}", text(&input["tensor"])), json!(bytes));
        }
    }
    s.insert(format!("{phase}.splits"), json!(splits.len()));
    s.insert(format!("{phase}.copy_bytes"), json!(copy_bytes));
    let attention: u64 =
        ops.iter().filter(|((_, op), _)| *op == "FLASH_ATTN_EXT").map(|(_, n)| n).sum();
    s.insert(format!("{phase}.flash_attention_nodes"), json!(attention));
    for (device, n) in nodes {
        s.insert(format!("{phase}.nodes.{device}"), json!(n));
    }
    for ((device, op), n) in ops {
        s.insert(format!("{phase}.ops.{device}.{op}"), json!(n));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("not told")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Value {
        json!({
            "schema": "gpuwhy.report/1",
            "source": { "engine": "gpuwhy", "engine_version": "0.1.0" },
            "facts": {
                "model": { "name": "m", "file_type": "Q4_0", "weight_bytes": 10, "parameters": 5 },
                "devices": [
                    { "name": "Virtual0", "virtual": true, "layers": 2 },
                    { "name": "CPU", "virtual": false, "layers": 1, "description": "AMD, 2 threads",
                      "memory_bytes_total": 1u64 << 33 }
                ],
                "placement": { "layers_offloaded": 2, "layers_total": 3, "exceptions": [
                    { "weight": "token_embd.weight", "count": 1, "device": "CPU" } ] },
                "memory": { "devices": [
                    { "device": "Virtual0", "weight_bytes": 7, "scratch_bytes": 0 },
                    { "device": "CPU", "weight_bytes": 3, "scratch_bytes": 9 } ] },
                "context": { "n_ctx": 64, "type_k": "F16" },
                "processor_use": { "others_share": 0.25, "stolen_share": 0.01 }
            },
            "splits": [
                { "phase": "decode", "cut": 0, "index": 0, "device": "CPU", "nodes": 1,
                  "cause": "the graph begins", "ops": [ { "op": "GET_ROWS", "count": 1 } ],
                  "inputs": [], "wait_ns": 0, "compute_ns": 40, "node_list": [] },
                { "phase": "decode", "cut": 0, "index": 1, "device": "Virtual0", "nodes": 3,
                  "cause": "a weight", "wait_ns": 2, "compute_ns": 100,
                  "ops": [ { "op": "MUL_MAT", "count": 2 }, { "op": "FLASH_ATTN_EXT", "count": 1 } ],
                  "inputs": [ { "tensor": "inp", "from": "CPU", "bytes": 64, "copy_ns": 6 } ],
                  "node_list": [ { "op": "MUL_MAT", "compute_ns": 50 }, { "op": "MUL_MAT",
                  "compute_ns": 30 }, { "op": "FLASH_ATTN_EXT", "compute_ns": 10 } ] }
            ],
            "timings": {
                "load": { "total_ns": 3_000_000 },
                "prompt": { "total_ns": 100, "tokens_per_s": 50.0 },
                "decode": { "total_ns": 300, "tokens": 2, "tokens_per_s": 20.0,
                    "parts": { "sampling_ns": 8, "graph_ns": 0 } },
                "first_token_ns": 2_000_000.0, "inter_token_median_ns": 1_000_000.0,
                "inter_token_p99_ns": 4_000_000.0
            }
        })
    }

    fn test(prompt_tokens: u32, generate_tokens: u32, concurrency: u32) -> Test {
        let name = "t".to_string();
        Test { name, prompt_tokens, generate_tokens, depth: 0, concurrency, reload: false }
    }

    #[test]
    fn metrics_are_those_that_the_test_asks_for() {
        let of = |test: &Test| metrics_of(&report(), test).into_iter().collect::<Vec<_>>();
        assert_eq!(of(&test(8, 0, 1)), [(Metric::PromptTokensPerS, 50.0)]);
        let both = of(&test(8, 4, 1));
        assert!(both.contains(&(Metric::DecodeTokensPerS, 20.0)));
        assert!(both.contains(&(Metric::FirstTokenMs, 2.0)));
        assert!(both.iter().all(|(m, _)| *m != Metric::InterTokenP99Ms), "4 tokens have none");
        assert!(of(&test(0, 100, 1)).contains(&(Metric::InterTokenP99Ms, 4.0)));
        // 2 requests of 4 tokens in 400 ns.
        assert!(of(&test(8, 4, 2)).contains(&(Metric::ThroughputTokensPerS, 2e7)));
        let load = Test { reload: true, ..test(8, 0, 1) };
        assert!(of(&load).contains(&(Metric::LoadMs, 3.0)));
        assert_eq!(metrics_of(&json!({}), &test(8, 4, 1)), BTreeMap::new());
    }

    #[test]
    fn parts_name_split_device_and_operation() {
        let parts = parts_of(&report());
        let ns = |what: &str| {
            let found: Vec<f64> =
                parts.iter().filter(|p| p.what == what).map(|p| p.ns_per_token).collect();
            found
        };
        assert_eq!(ns("split 0 on CPU: compute"), [20.0]);
        assert_eq!(ns("split 1 on Virtual0: copy of inp from CPU"), [3.0]);
        assert_eq!(ns("split 1 on Virtual0: MUL_MAT"), [40.0]);
        assert_eq!(ns("split 1 on Virtual0: between nodes"), [5.0]);
        assert_eq!(ns("split 1 on Virtual0: compute"), [] as [f64; 0]);
        assert_eq!(ns("host: sampling"), [4.0]);
        assert_eq!(ns("host: building graphs"), [] as [f64; 0]);
    }

    #[test]
    fn structure_keeps_what_depends_on_the_machine_apart() {
        let s = structure_of(&report());
        assert_eq!(s["placement.layers.Virtual0"], 2);
        assert_eq!(s["placement.elsewhere.token_embd.weight"], "1 on CPU");
        assert_eq!(s["decode.splits"], 2);
        assert_eq!(s["decode.nodes.Virtual0"], 3);
        assert_eq!(s["decode.ops.Virtual0.MUL_MAT"], 2);
        assert_eq!(s["decode.split.001.cause"], "a weight");
        assert_eq!(
            (&s["decode.copy_bytes"], &s["decode.flash_attention_nodes"]),
            (&json!(64), &json!(1))
        );
        assert_eq!(s["machine.memory.CPU.scratch_bytes"], 9);
        assert!(!s.contains_key("memory.CPU.scratch_bytes"));
        assert_eq!(s["memory.Virtual0.scratch_bytes"], 0);
    }

    #[test]
    fn threads_are_no_part_of_the_machine() {
        let facts = facts_of(&report());
        assert_eq!(facts.machine["cpu"], "AMD");
        assert_eq!(
            (facts.machine["memory"].as_str(), facts.machine["gpu"].as_str()),
            ("8 GiB", "none")
        );
        assert_eq!(conditions_of(&report()).others_share, Some(0.25));
    }
}
