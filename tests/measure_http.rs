//! Servers over HTTP as targets of a measurement, against scripted engines whose times are known.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/http/mod.rs"]
mod http;

use std::collections::BTreeSet;

use gpuwhy::advise::measure::http::{HttpOptions, connect};
use gpuwhy::advise::measure::{MeasureError, Metric, Target, Test};
use gpuwhy::observe::attach::Protocol;
use http::{Reply, Server, engines};
use serde_json::{Value, json};

fn options() -> HttpOptions {
    HttpOptions { salt: Some(7), ..HttpOptions::default() }
}

fn target(server: &Server) -> Box<dyn Target> {
    connect(&server.url(), &options()).unwrap()
}

fn refused(result: Result<Box<dyn Target>, MeasureError>) -> MeasureError {
    result.err().unwrap()
}

fn test(prompt_tokens: u32, generate_tokens: u32) -> Test {
    Test {
        name: "t".into(),
        prompt_tokens,
        generate_tokens,
        depth: 0,
        concurrency: 1,
        reload: false,
    }
}

fn bodies(server: &Server, path: &str) -> Vec<Value> {
    server.seen().iter().filter(|r| r.path == path).map(http::Request::json).collect()
}

/// Speeds that the scripted engines claim, in tokens a second.
const PROMPT: f64 = 1e3 / engines::PROMPT_MS;
const DECODE: f64 = 1e3 / engines::DECODE_MS;

fn near(value: f64, wanted: f64) -> bool {
    (value / wanted - 1.0).abs() < 1e-6
}

#[test]
fn llama_server_is_measured_by_its_own_clock() {
    let server = engines::llama_server();
    let mut target = target(&server);
    let metrics = target.sample(&test(256, 32)).unwrap().metrics;
    assert!(near(metrics[&Metric::PromptTokensPerS], PROMPT), "{metrics:?}");
    assert!(near(metrics[&Metric::DecodeTokensPerS], DECODE), "{metrics:?}");
    assert!(metrics[&Metric::FirstTokenMs] > 0.0);
    let sent = bodies(&server, "/completion");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["prompt"].as_array().unwrap().len(), 256);
    assert_eq!(sent[0]["cache_prompt"], false);

    // Only what was asked for.
    let metrics = target.sample(&test(64, 0)).unwrap().metrics;
    assert!(metrics.contains_key(&Metric::PromptTokensPerS));
    assert!(!metrics.contains_key(&Metric::DecodeTokensPerS));
    let metrics = target.sample(&test(0, 8)).unwrap().metrics;
    assert!(!metrics.contains_key(&Metric::FirstTokenMs));
    assert!(near(metrics[&Metric::DecodeTokensPerS], DECODE));
}

#[test]
fn a_depth_is_read_and_kept_before_the_timed_request() {
    let server = engines::llama_server();
    let mut target = target(&server);
    let metrics = target.sample(&Test { depth: 500, ..test(40, 8) }).unwrap().metrics;
    let sent = bodies(&server, "/completion");
    let lengths: Vec<usize> = sent.iter().map(|b| b["prompt"].as_array().unwrap().len()).collect();
    assert_eq!(lengths, [500, 540]);
    let tokens = |i: usize| sent[i]["prompt"].as_array().unwrap().clone();
    assert_eq!(tokens(0)[..], tokens(1)[..500]);
    // The script counts 40 tokens read, since it kept the rest.
    assert!(near(metrics[&Metric::PromptTokensPerS], PROMPT));
    // Another sample has another depth: nothing kept from the first may serve it.
    target.sample(&Test { depth: 500, ..test(40, 8) }).unwrap();
    assert_ne!(bodies(&server, "/completion")[2]["prompt"][0], sent[0]["prompt"][0]);
}

#[test]
fn a_server_that_keeps_nothing_of_a_depth_tells_only_how_it_decodes() {
    let engine = engines::llama_server();
    let real = engine.url();
    // The same engine, but told never to use what it kept.
    let server = Server::start(move |request| {
        let mut body = request.json();
        if body.is_object() {
            body["cache_prompt"] = json!(false);
        }
        forward(&real, &request.method, &request.path, &body)
    });
    let metrics = target(&server).sample(&Test { depth: 500, ..test(40, 8) }).unwrap().metrics;
    assert!(metrics.contains_key(&Metric::DecodeTokensPerS));
    assert!(!metrics.contains_key(&Metric::PromptTokensPerS), "{metrics:?}");
    assert!(!metrics.contains_key(&Metric::FirstTokenMs), "{metrics:?}");
}

/// Asks another scripted server and hands on what it says.
fn forward(base: &str, method: &str, path: &str, body: &Value) -> Reply {
    use gpuwhy::observe::attach::{BaseUrl, Client, Limits, Method};
    let client = Client::new(BaseUrl::parse(base, 80).unwrap(), Limits::default());
    let method = if method == "GET" { Method::Get } else { Method::Post(body) };
    client.text(method, path).map_or_else(|_| Reply::not_found(), |text| Reply::text(200, text))
}

#[test]
fn requests_at_once_each_have_a_prompt_and_a_slot_of_their_own() {
    let server = engines::llama_server();
    let mut target = target(&server);
    let metrics = target.sample(&Test { concurrency: 4, ..test(32, 16) }).unwrap().metrics;
    assert!(metrics[&Metric::ThroughputTokensPerS] > 0.0);
    assert!(!metrics.contains_key(&Metric::DecodeTokensPerS));
    let sent = bodies(&server, "/completion");
    let first: BTreeSet<String> = sent.iter().map(|b| b["prompt"][0].to_string()).collect();
    assert_eq!((sent.len(), first.len()), (4, 4));
    assert!(sent.iter().all(|body| body["id_slot"].is_null()), "two slots are too few for four");

    target.sample(&Test { concurrency: 2, depth: 100, ..test(0, 4) }).unwrap();
    let slots: Vec<u64> = bodies(&server, "/completion")[4..]
        .iter()
        .map(|body| body["id_slot"].as_u64().unwrap())
        .collect();
    assert_eq!(slots.iter().filter(|s| **s == 0).count(), 2, "{slots:?}");
    assert_eq!(slots.iter().filter(|s| **s == 1).count(), 2, "{slots:?}");
}

#[test]
fn ollama_is_measured_and_loaded_anew() {
    let server = engines::ollama(3, 1000);
    let mut target = target(&server);
    let metrics = target.sample(&test(300, 16)).unwrap().metrics;
    assert!(near(metrics[&Metric::PromptTokensPerS], PROMPT), "{metrics:?}");
    assert!(near(metrics[&Metric::DecodeTokensPerS], DECODE), "{metrics:?}");
    // A word is three tokens, which the target learns from a request of its own.
    let prompts: Vec<String> = bodies(&server, "/api/generate")
        .iter()
        .filter_map(|b| b["prompt"].as_str().map(str::to_string))
        .collect();
    assert_eq!(prompts.len(), 2);
    assert_eq!(prompts[1].split_whitespace().count(), 100);
    assert_ne!(prompts[0].split(' ').next(), prompts[1].split(' ').next());

    assert!(!metrics.contains_key(&Metric::LoadMs));
    let metrics = target.sample(&Test { reload: true, ..test(16, 4) }).unwrap().metrics;
    assert!(metrics[&Metric::LoadMs] > 0.0);
    let order: Vec<Value> = bodies(&server, "/api/generate");
    let unload = order.iter().position(|b| b["keep_alive"] == 0).unwrap();
    assert!(order[unload + 1]["prompt"].is_null(), "loading comes next, without a prompt");

    // Another context would have the model loaded anew in the middle of a sample.
    let server = engines::ollama(1, 1000);
    let wide = HttpOptions { context_tokens: Some(8192), ..options() };
    connect(&server.url(), &wide).unwrap().sample(&test(16, 4)).unwrap();
    let asked = bodies(&server, "/api/generate");
    assert!(asked.iter().all(|body| body["options"]["num_ctx"] == 8192), "{asked:?}");
}

#[test]
fn a_model_that_ends_early_is_asked_again_and_then_given_up() {
    let server = engines::ollama(1, 10);
    let mut target = target(&server);
    // 10 of 16 is enough to tell its speed.
    assert!(near(target.sample(&test(50, 16)).unwrap().metrics[&Metric::DecodeTokensPerS], DECODE));
    let before = server.seen().len();
    let error = target.sample(&test(50, 64)).unwrap_err();
    assert!(error.what.contains("before half"), "{error}");
    assert!(error.hint.is_some());
    let asked = server.seen()[before..].iter().filter(|r| r.path == "/api/generate").count();
    assert_eq!(asked, 3);
}

#[test]
fn vllm_is_measured_by_our_clock() {
    let server = engines::vllm();
    let mut target = target(&server);
    let metrics = target.sample(&test(60, 6)).unwrap().metrics;
    for metric in [
        Metric::PromptTokensPerS,
        Metric::DecodeTokensPerS,
        Metric::FirstTokenMs,
        Metric::InterTokenMs,
    ] {
        assert!(metrics.contains_key(&metric), "{metric:?} of {metrics:?}");
    }
    // The script pauses a millisecond between tokens, so that none can come faster.
    assert!(metrics[&Metric::DecodeTokensPerS] < 1100.0, "{metrics:?}");
    let facts = target.facts().unwrap();
    assert_eq!((facts.engine.as_str(), facts.engine_version.as_str()), ("vllm", "0.28.0"));
    assert_eq!(facts.settings["timed_by"], "the client");
    let structure = target.structure(&test(1, 1)).unwrap();
    assert_eq!(structure["cache.block_size"], "16");
    assert_eq!(structure["server.context_tokens"], 2048);
    assert!(!structure.contains_key("cache.num_gpu_blocks"), "it varies from start to start");
}

#[test]
fn structure_and_facts_are_what_servers_tell() {
    let server = engines::llama_server();
    let mut llama = target(&server);
    let facts = llama.facts().unwrap();
    assert_eq!(facts.engine, "llama.cpp");
    assert_eq!(facts.engine_version, "b11434-abcdef");
    assert_eq!(facts.model, "tiny-Q4_K_M.gguf");
    assert!(facts.machine.is_empty(), "of this machine, the caller knows more");
    let structure = llama.structure(&test(1, 1)).unwrap();
    assert_eq!(structure["server.slots"], 2);
    assert_eq!(structure["model.file_type"], "Q4_K - Medium");
    assert!(bodies(&server, "/completion").is_empty(), "asking costs no tokens");

    let server = engines::ollama(1, 100);
    let mut ollama = target(&server);
    let structure = ollama.structure(&test(1, 1)).unwrap();
    assert_eq!(structure["memory.gpu_percent"], 80);
    assert_eq!(structure["model.layers"], 24);
    assert_eq!(ollama.facts().unwrap().settings["num_ctx"], "4096");
}

#[test]
fn prompts_that_were_cut_are_no_samples() {
    // Reads at most 100 tokens, as a server with a short context does.
    let server = Server::start(|request| match request.path.as_str() {
        "/v1/models" => Reply::json(&json!({"data": [{"id": "x", "owned_by": "me"}]})),
        "/v1/completions" => {
            let ask = request.json();
            let words = ask["prompt"].as_str().unwrap().split_whitespace().count().min(200);
            let event = json!({"choices": [{"text": "a", "finish_reason": "length"}],
                "usage": {"prompt_tokens": words, "completion_tokens": 1}});
            Reply::text(200, format!("data: {event}\n\ndata: [DONE]\n\n"))
        }
        _ => Reply::not_found(),
    });
    let mut target = target(&server);
    assert!(target.sample(&test(150, 0)).is_ok());
    let error = target.sample(&test(400, 0)).unwrap_err();
    assert!(error.what.contains("given a prompt of 400 tokens and read 200"), "{error}");
    assert!(error.hint.unwrap().contains("context"));
}

#[test]
fn a_model_must_be_named_where_there_are_several() {
    let models = |names: &'static [&'static str]| {
        Server::start(move |request| match request.path.as_str() {
            "/v1/models" => {
                let all: Vec<Value> = names.iter().map(|n| json!({"id": n})).collect();
                Reply::json(&json!({ "data": all }))
            }
            _ => Reply::not_found(),
        })
    };
    let several = models(&["a", "b"]);
    let error = refused(connect(&several.url(), &options()));
    assert!(error.hint.unwrap().contains("a, b"));
    assert!(refused(connect(&models(&[]).url(), &options())).what.contains("no model"));
    let named = HttpOptions { model: Some("b".into()), ..options() };
    assert_eq!(connect(&several.url(), &named).unwrap().facts().unwrap().model, "b");
}

#[test]
fn errors_keep_their_hints_and_say_whether_to_try_again() {
    let loading = Server::start(|_| Reply::text(503, r#"{"error":{"message":"Loading model"}}"#));
    let error = refused(connect(&loading.url(), &options()));
    assert!(error.transient && error.hint.is_some(), "{error:?}");
    let error = refused(connect("ftp://x", &options()));
    assert!(!error.transient && error.hint.is_some());

    let router = Server::start(|_| {
        Reply::json(&json!({"role": "router", "default_generation_settings": {"n_ctx": 0}}))
    });
    let error = refused(connect(&router.url(), &options()));
    assert!(error.what.contains("hands requests on"), "{error}");

    // Spoken to as something else than it is best known for.
    let llama = engines::llama_server();
    let as_openai = HttpOptions { protocol: Some(Protocol::OpenAi), ..options() };
    assert_eq!(connect(&llama.url(), &as_openai).unwrap().facts().unwrap().engine, "llama.cpp");
}

/// A document with every value in it replaced, lists and objects kept.
fn twisted(value: &Value, with: &Value) -> Value {
    match value {
        Value::Array(all) => all.iter().map(|v| twisted(v, with)).collect(),
        Value::Object(all) => all.iter().map(|(k, v)| (k.clone(), twisted(v, with))).collect(),
        _ => with.clone(),
    }
}

/// The same in every line of an answer that is a document, an event's too. What tells an answer's end
/// stays, or nothing would be read of it.
fn twist(text: &str, with: &Value) -> String {
    let line = |line: &str| {
        let (start, json) = match line.strip_prefix("data: ") {
            Some(json) => ("data: ", json),
            None => ("", line),
        };
        let Ok(value) = serde_json::from_str::<Value>(json) else { return line.to_string() };
        let mut odd = twisted(&value, with);
        for ends in ["stop", "done"] {
            if let Some(end) = value.get(ends) {
                odd[ends] = end.clone();
            }
        }
        format!("{start}{odd}")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn whatever_stands_in_an_answer_a_sample_is_sound_or_an_error() {
    let odd = [
        json!(null),
        json!(-1),
        json!(0),
        json!(2.5),
        json!(9_007_199_254_740_993_u64),
        json!(1e308),
        json!(true),
        json!(""),
        json!("é".repeat(5000)),
        json!([]),
        json!({"error": "x"}),
    ];
    let (mut sound, mut refused) = (0, 0);
    for engine in [engines::llama_server(), engines::ollama(1, 1000), engines::vllm()] {
        for with in &odd {
            // What the server is and has is told well in one case and oddly in the other.
            for spare_questions in [true, false] {
                let (url, with) = (engine.url(), with.clone());
                let server = Server::start(move |request| {
                    let reply = forward(&url, &request.method, &request.path, &request.json());
                    if spare_questions
                        && !["/completion", "/api/generate", "/v1/completions"]
                            .contains(&request.path.as_str())
                    {
                        return reply;
                    }
                    let steps = reply.steps.into_iter().map(|step| match step {
                        http::Step::Send(text) => http::Step::Send(twist(&text, &with)),
                        other => other,
                    });
                    Reply::steps(reply.status, steps.collect())
                });
                let named = HttpOptions { model: Some("qwen2.5:0.5b".into()), ..options() };
                let Ok(mut target) = connect(&server.url(), &named) else {
                    refused += 1;
                    continue;
                };
                target.facts().ok();
                target.structure(&test(1, 1)).ok();
                let deep = Test { concurrency: 2, depth: 30, ..test(20, 4) };
                for shape in [test(20, 4), deep].iter().take(1 + usize::from(spare_questions)) {
                    let Ok(sample) = target.sample(shape) else {
                        refused += 1;
                        continue;
                    };
                    sound += 1;
                    let values = sample.metrics.values();
                    assert!(values.clone().all(|v| v.is_finite() && *v > 0.0), "{sample:?}");
                }
            }
        }
    }
    assert!(sound > 5 && refused > 50, "{sound} samples, {refused} errors");
}

/// The command from end to end. Other tests run beside it and may disturb every round, so it is the
/// structure that decides here; the samples are the scripted times exactly.
#[test]
fn check_gates_an_ollama_against_another() {
    let (before, now) = (engines::ollama(1, 1000), engines::ollama_with(1, 1000, 500, 40.0));
    let folder = tempfile::tempdir().unwrap();
    let workload = "name = 'few'\ndescription = 'few samples'\n[sampling]\nwarmup = 1\n\
                    samples_min = 5\nsamples_max = 6\n[[test]]\nname = 'tg'\ngenerate_tokens = 16\n";
    std::fs::write(folder.path().join("few.toml"), workload).unwrap();
    let check = |now: &Server| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gpuwhy"));
        command.current_dir(folder.path()).args(["check", "qwen2.5:0.5b", "-q", "-w", "few.toml"]);
        command.args(["--url", &now.url(), "--against-url", &before.url(), "--format", "json"]);
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), report)
    };
    let (code, report) = check(&now);
    assert_eq!((code, &report["verdict"]), (1, &json!("regressed")));
    let change = &report["structure"][0];
    assert_eq!(
        (&change["fact"], &change["effect"]),
        (&json!("memory.gpu_percent"), &json!("worse"))
    );
    assert_eq!((&change["baseline"], &change["candidate"]), (&json!(80), &json!(50)));
    let speeds = &report["samples"]["tg"]["decode_tokens_per_s"];
    for (side, wanted) in [("baseline", 50.0), ("candidate", 25.0)] {
        let speeds: Vec<f64> =
            speeds[side].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert!(speeds.len() >= 5 && speeds.iter().all(|v| near(*v, wanted)), "{side}: {speeds:?}");
    }
    // Against itself nothing is worse, whatever the machine lets be told of times.
    let (code, report) = check(&before);
    assert!(code == 0 || code == 3, "{report}");
    assert_eq!(report["structure"], json!([]));
}
