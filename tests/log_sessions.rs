//! What the parser makes of whole logs: snapshots of sessions, lines that must be known, healthy
//! logs that must be left in peace.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use gpuwhy::advise::diagnose::{Facts, diagnose};
use gpuwhy::observe::logs::{Load, LogSession, Request, Seen, parse_bytes};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn logs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut logs: Vec<PathBuf> = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    logs
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// The folder of the corpus, where it is present.
fn corpus() -> PathBuf {
    let told = std::env::var_os("GPUWHY_CORPUS").map(PathBuf::from);
    told.unwrap_or_else(|| root().join("../shared/corpus"))
}

/// Words of lines that a diagnosis may need: whoever prints one of them prints a fact.
const IMPORTANT: [&str; 22] = [
    "buffer",
    "offload",
    "graph",
    "kv ",
    "KV",
    "n_ctx",
    "n_batch",
    "error",
    "Error",
    "failed",
    "GPU",
    "CUDA",
    "Device",
    "device",
    "VRAM",
    "memory",
    "eval time",
    "lash",
    "split",
    "layers",
    "slot",
    "truncat",
];

/// Every line by itself, so that nothing depends on what the session keeps.
fn unknown_of_importance(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let important = |line: &str| IMPORTANT.iter().any(|word| line.contains(word));
    let lines = text.lines().enumerate().filter(|(_, line)| important(line));
    let unknown = lines.filter(|(_, line)| parse_bytes(line.as_bytes()).counts.unknown > 0);
    unknown.map(|(i, line)| format!("{}:{}: {line}", path.display(), i + 1)).collect()
}

#[test]
fn no_line_of_importance_is_unknown() {
    let mut all = logs(&root().join("fixtures/logs"));
    assert!(all.len() > 12, "the logs are missing");
    all.extend(logs(&corpus().join("genuine")));
    let missed: Vec<String> = all.iter().flat_map(|log| unknown_of_importance(log)).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// A line that no pattern knows has to be seen by the test above.
#[test]
fn an_unknown_line_of_importance_is_noticed() {
    let path = std::env::temp_dir().join(format!("gpuwhy-unknown-{}.log", std::process::id()));
    fs::write(&path, "main: hello\nllama_frobnicate: CUDA0 frob buffer size = 5 MiB\n").unwrap();
    let missed = unknown_of_importance(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(missed.len(), 1, "{missed:?}");
}

#[test]
fn healthy_and_genuine_logs_have_no_problem() {
    let mut wrong = Vec::new();
    for log in logs(&root().join("fixtures/logs")) {
        let session = parse_bytes(&fs::read(&log).unwrap());
        // A build for the CPU is no fault of a log that was made to show one.
        let allowed = if stem(&log).starts_with("genuine") { CPU_BUILD } else { &[] };
        for finding in diagnose(&Facts::of_log(&session)).findings {
            if !allowed.contains(&finding.rule) {
                wrong.push(format!("{}: {}: {}", stem(&log), finding.rule, finding.title));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What may be said of a log of a CPU build.
const CPU_BUILD: &[&str] = &["build-without-gpu-support"];

#[test]
fn sessions_are_as_they_were() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("fixtures/logs/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for log in logs(&root().join("fixtures/logs")) {
            let session = parse_bytes(&fs::read(&log).unwrap());
            insta::assert_snapshot!(stem(&log), summary(&session));
        }
    });
}

/// What others put around lines changes nothing of what they say.
#[test]
fn envelopes_do_not_change_a_session() {
    type Wrap = fn(&str) -> String;
    let wrap: [(&str, Wrap); 6] = [
        ("compose", |line| format!("ollama-1  | {line}")),
        ("quoted", |line| format!("> {line}")),
        ("carriage return", |line| format!("{line}\r")),
        ("journald", |line| format!("Feb 03 10:11:12 box ollama[77]: {line}")),
        ("journald in French", |line| format!("févr. 03 10:11:12 box ollama[77]: {line}")),
        ("docker", |line| format!("2026-02-03T10:11:12.123456789Z {line}")),
    ];
    let mut wrong = String::new();
    for log in logs(&root().join("fixtures/logs")) {
        let text = fs::read_to_string(&log).unwrap();
        // Some are wrapped already.
        if stem(&log).contains("journald") || stem(&log).contains("windows") {
            continue;
        }
        let bare = summary(&parse_bytes(text.as_bytes()));
        for (name, form) in &wrap {
            let wrapped: Vec<String> = text.lines().map(form).collect();
            let read = summary(&parse_bytes(wrapped.join("\n").as_bytes()));
            let difference = bare.lines().zip(read.lines()).find(|(a, b)| a != b);
            if let Some((a, b)) = difference {
                let _ = writeln!(wrong, "{} {name}:\n  {a}\n  {b}", stem(&log));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A session in lines, with the numbers of the lines that told: what is absent is left out.
fn summary(session: &LogSession) -> String {
    let mut out = String::new();
    let version = session.version.as_ref().map_or("-", |v| v.value.as_str());
    let dialect = session.dialect.map_or("-", |d| d.name());
    let os = session.os.as_ref().map_or("-", |o| o.value.as_str());
    let _ = writeln!(out, "{:?} {version} dialect {dialect} on {os}", session.engine);
    for d in &session.devices {
        let gib = |bytes: Option<u64>| bytes.map(mib);
        let _ = writeln!(
            out,
            "device {:?} {:?} {:?} {:?} driver {:?} total {:?} free {:?} integrated {:?} @{}",
            d.name,
            d.id,
            d.description,
            d.compute,
            d.driver,
            gib(d.total_bytes),
            gib(d.free_bytes),
            d.integrated,
            d.line.0
        );
    }
    for (name, at) in &session.backends {
        let _ = writeln!(out, "backend {name} {:?} @{}", at.value, at.line.0);
    }
    let libraries: Vec<_> = session.libraries.iter().map(|l| l.value.as_str()).collect();
    let set: Vec<_> = session.settings.iter().filter(|(_, s)| !s.value.is_empty()).collect();
    let _ = writeln!(out, "libraries {libraries:?}, {} settings", set.len());
    for load in &session.loads {
        load_summary(&mut out, load);
    }
    let all = &session.requests.all;
    let _ = writeln!(
        out,
        "requests {} failed {} truncated {} shifted {} other {}",
        all.count, all.failed, all.truncated, all.shifted, all.other
    );
    for request in session.requests.kept() {
        request_summary(&mut out, request);
    }
    out
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn number<T: std::fmt::Display>(out: &mut String, name: &str, value: Option<&Seen<T>>) {
    if let Some(seen) = value {
        let _ = write!(out, " {name} {}@{}", seen.value, seen.line.0);
    }
}

fn load_summary(out: &mut String, load: &Load) {
    asked_summary(out, load);
    planned_summary(out, load);
    granted_summary(out, load);
}

fn asked_summary(out: &mut String, load: &Load) {
    let (m, asked) = (&load.model, &load.requested);
    let _ = writeln!(
        out,
        "load {} @{}-{} {:?}",
        load.index, load.line.0, load.line_last.0, load.outcome
    );
    let _ = writeln!(
        out,
        "  model {:?} {:?} {:?} {:?} params {:?} bytes {:?}",
        m.path,
        m.name,
        m.arch.as_ref().map(|a| &a.value),
        m.file_type,
        m.parameters,
        m.bytes.map(|b| mib(b.value))
    );
    let _ = writeln!(
        out,
        "  layers {:?} embd {:?} head {:?} kv {:?} k {:?} v {:?} ff {:?} vocab {:?} train {:?} experts {:?}",
        m.n_layer,
        m.n_embd,
        m.n_head,
        m.n_head_kv,
        m.n_embd_head_k,
        m.n_embd_head_v,
        m.n_ff,
        m.n_vocab,
        m.n_ctx_train.map(|c| c.value),
        m.n_expert
    );
    out.push_str("  asked");
    number(out, "layers", asked.gpu_layers.as_ref());
    number(out, "ctx", asked.ctx.as_ref());
    number(out, "parallel", asked.parallel.as_ref());
    number(out, "batch", asked.batch.as_ref());
    number(out, "ubatch", asked.ubatch.as_ref());
    number(out, "threads", asked.threads.as_ref());
    number(out, "flash", asked.flash_attention.as_ref());
    number(out, "types", asked.kv_type_k.as_ref());
    number(out, "split", asked.split_mode.as_ref());
    number(out, "main", asked.main_gpu.as_ref());
    number(out, "tensors", asked.tensor_split.as_ref());
    number(out, "mmap", asked.mmap.as_ref());
    let _ = writeln!(out, " {:?}", asked.other.iter().map(|o| &o.value).collect::<Vec<_>>());
}

fn planned_summary(out: &mut String, load: &Load) {
    if let Some(e) = &load.estimate {
        let list = |bytes: &[u64]| bytes.iter().map(|b| mib(*b)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            out,
            "  estimate {:?}/{:?} split {:?} available [{}] full {:?} kv {:?} weights {:?} graph {:?} @{}",
            e.layers_offload,
            e.layers_model,
            e.layers_split,
            list(&e.available_bytes),
            e.full_bytes.map(mib),
            e.kv_bytes.map(mib),
            e.weights_bytes.map(mib),
            e.graph_full_bytes.map(mib),
            e.line.0
        );
    }
    if let Some(fit) = &load.fit {
        let _ = writeln!(
            out,
            "  fit {:?} of {:?} deficit {:?} ctx {:?} @{}",
            fit.projected_bytes.map(mib),
            fit.free_bytes.map(mib),
            fit.deficit_bytes.map(mib),
            fit.ctx_from_to,
            fit.line.0
        );
    }
    for free in &load.gpu_free {
        let usable = free.usable_bytes.map(mib);
        let _ = writeln!(
            out,
            "  free {} {} usable {usable:?} @{}",
            free.device,
            mib(free.free_bytes),
            free.line.0
        );
    }
}

fn granted_summary(out: &mut String, load: &Load) {
    if let Some(l) = load.layers {
        let _ = writeln!(
            out,
            "  offloaded {}/{} @{} output {:?} by {:?}",
            l.offloaded,
            l.total,
            l.line.0,
            load.output_on_gpu.map(|o| o.value),
            load.layers_by_device
        );
    }
    for b in &load.buffers {
        let _ = writeln!(out, "  buffer {:?} {} {} @{}", b.kind, b.device, mib(b.bytes), b.line.0);
    }
    if let Some(kv) = &load.kv {
        let _ = writeln!(
            out,
            "  kv {:?} cells {:?} layers {:?} seqs {:?} {:?}/{:?} @{}",
            kv.bytes.map(mib),
            kv.cells,
            kv.layers,
            kv.sequences,
            kv.type_k,
            kv.type_v,
            kv.line.0
        );
    }
    out.push_str("  context");
    number(out, "n_ctx", load.n_ctx.as_ref());
    number(out, "per-seq", load.n_ctx_seq.as_ref());
    number(out, "seqs", load.n_seq_max.as_ref());
    number(out, "batch", load.n_batch.as_ref());
    number(out, "ubatch", load.n_ubatch.as_ref());
    number(out, "threads", load.n_threads.as_ref());
    let _ =
        writeln!(out, " flash {:?} graph {:?}", load.flash_attention.map(|f| f.value), load.graph);
    for row in &load.breakdown {
        let _ = writeln!(out, "  breakdown {row:?}");
    }
    if let Some(size) = load.size_vram_and_total {
        let _ = writeln!(out, "  planned {} of {}", mib(size.value.0), mib(size.value.1));
    }
}

fn request_summary(out: &mut String, r: &Request) {
    let seconds = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e9);
    let _ = writeln!(
        out,
        "  {:?} {:?} {:?} s, prompt {:?} cached {:?} at {:?}/s, decode {:?} at {:?}/s, wait {:?} s, reused {:?} load {:?} @{}",
        r.endpoint,
        r.status,
        seconds(r.duration_ns),
        r.prompt_tokens,
        r.cached_tokens,
        r.prompt_tokens_per_s,
        r.decode_tokens,
        r.decode_tokens_per_s,
        seconds(r.wait_ns),
        r.graphs_reused,
        r.load,
        r.line.0
    );
}
