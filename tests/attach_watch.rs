//! The watcher against scripted servers: what it tells of each kind, what it does when they are gone,
//! slow or broken, and that it never asks for anything that costs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/http/mod.rs"]
mod http;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gpuwhy::base::counter::{Counter, Source, Subject};
use gpuwhy::base::event::{Event, ServerState};
use gpuwhy::base::sink::{MemorySink, Sink};
use gpuwhy::observe::attach::{
    Limits, LogChoice, ProcessInfo, ProcessSource, Target, WatchOptions, Watcher,
};
use gpuwhy::observe::session::Session;
use http::{Reply, Request, Server, Step, engines};
use serde_json::json;

/// A process that no machine has, so that nothing is found of it below `/proc`.
const PID: u32 = 1 << 30;

fn options(target: &str) -> WatchOptions {
    WatchOptions {
        target: Target::parse(target).unwrap(),
        every: Duration::from_millis(10),
        log: LogChoice::Off,
        ollama_variable: None,
        processes: Arc::new(Vec::new),
        ..WatchOptions::default()
    }
}

/// A watcher with the session that its events make.
struct Watched {
    watcher: Option<Watcher>,
    sink: Arc<MemorySink>,
    session: Session,
    states: Vec<ServerState>,
}

impl Watched {
    fn start(options: WatchOptions) -> Self {
        let sink = Arc::new(MemorySink::default());
        let theirs: Arc<dyn Sink> = sink.clone();
        let watcher = Some(Watcher::start(options, &theirs));
        Self { watcher, sink, session: Session::new(), states: Vec::new() }
    }

    /// Waits until the session is as wanted.
    fn until(&mut self, what: &str, is_so: impl Fn(&Session) -> bool) {
        let begun = Instant::now();
        loop {
            for event in self.sink.take() {
                if let Event::Server(fact) = &event {
                    self.states.push(fact.state);
                }
                self.session.take(&event);
            }
            if is_so(&self.session) {
                return;
            }
            let server = &self.session.server;
            assert!(begun.elapsed() < Duration::from_mins(1), "never {what}: {server:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn value(&self, counter: Counter) -> Option<f64> {
        self.session.value(Subject::Server, counter)
    }

    fn absent(&self) -> Vec<String> {
        self.session.absent.values().map(|a| format!("{} | {}", a.text, a.hint)).collect()
    }

    fn stop(&mut self) {
        drop(self.watcher.take());
    }
}

fn is(state: ServerState) -> impl Fn(&Session) -> bool {
    move |session| session.server.as_ref().is_some_and(|server| server.state == state)
}

fn samples(counter: Counter, count: u64) -> impl Fn(&Session) -> bool {
    move |session| session.counters.get(Subject::Server, counter).is_some_and(|s| s.count >= count)
}

/// Nothing that a watcher may not ask for.
fn assert_only_read(server: &Server) {
    let seen = server.seen();
    assert!(!seen.is_empty());
    for request in seen {
        let reads = request.method == "GET" || request.path == "/api/show";
        assert!(reads, "{} {} {}", request.method, request.path, request.body);
    }
}

fn process(pid: u32, parent: u32, command: &str, port: u16) -> ProcessInfo {
    ProcessInfo {
        pid,
        parent,
        args: command.split_whitespace().map(str::to_string).collect(),
        ports: vec![port],
        ..ProcessInfo::default()
    }
}

fn port(server: &Server) -> u16 {
    server.address().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_llama_server_tells_model_slots_and_speeds() {
    let server = engines::llama_server_at_work("127.0.0.1:0", true, true);
    let command = "llama-server -m /models/tiny-Q4_K_M.gguf -ngl 12 --parallel=2";
    let table = vec![process(PID, 1, command, port(&server))];
    let mut options = options("");
    options.processes = Arc::new(move || table.clone());
    let mut watched = Watched::start(options);
    watched.until("two speeds", samples(Counter::DecodeRate, 2));
    watched.stop();
    let fact = watched.session.server.clone().unwrap();
    assert_eq!(
        (fact.engine.as_str(), fact.engine_version.as_str()),
        ("llama.cpp", "b11434-abcdef")
    );
    assert_eq!((fact.url.as_str(), fact.state), (server.url().as_str(), ServerState::Up));
    assert_eq!((fact.pid, fact.working_pids.as_slice()), (Some(PID), &[PID][..]));
    assert_eq!(fact.slots, Some(2));
    let detail = |name: &str| fact.details.iter().find(|(n, _)| n == name).map(|d| d.1.as_str());
    assert_eq!((detail("n-gpu-layers"), detail("parallel")), (Some("12"), Some("2")));
    let [model] = fact.models.as_slice() else { panic!("{:?}", fact.models) };
    assert_eq!((model.name.as_str(), model.file.as_str()), ("tiny", "/models/tiny-Q4_K_M.gguf"));
    assert_eq!((model.quantization.as_str(), model.bytes), ("Q4_K - Medium", Some(391_859_712)));
    assert_eq!((model.context_tokens, model.context_trained), (Some(4096), Some(32768)));

    assert_eq!(watched.value(Counter::SlotsTotal), Some(2.0));
    assert_eq!(watched.value(Counter::SlotsBusy), Some(1.0));
    assert_eq!(watched.value(Counter::RequestsQueued), Some(3.0));
    // Its own figures: 50 tokens take it 2 s, 100 of a prompt 0.5 s.
    assert_eq!(watched.value(Counter::DecodeRate), Some(25.0));
    assert_eq!(watched.value(Counter::PromptRate), Some(200.0));
    assert!(watched.value(Counter::DecodedTokens).unwrap() >= 100.0);
    let slot = |counter| watched.session.value(Subject::Slot(0), counter);
    assert_eq!((slot(Counter::SlotContext), slot(Counter::SlotPrompt)), (Some(4096.0), Some(12.0)));
    assert!(slot(Counter::SlotDecoded).unwrap() > 7.0 && slot(Counter::DecodeRate).unwrap() > 0.0);
    assert_eq!(watched.session.value(Subject::Slot(1), Counter::SlotsBusy), Some(0.0));
    assert_eq!(watched.session.name(Subject::Slot(1)), Some("slot 1"));
    let cost = watched.session.value(Subject::Observer(Source::Server), Counter::ReadingTime);
    assert!(cost.unwrap() > 0.0);
    assert_eq!(watched.absent(), Vec::<String>::new());
    assert_only_read(&server);
}

#[test]
fn what_is_off_is_told_with_what_would_help() {
    let server = engines::llama_server_at_work("127.0.0.1:0", false, true);
    let mut watched = Watched::start(options(&server.address()));
    // Without /metrics, tokens and speed follow from what the slots have written.
    watched.until("a speed", samples(Counter::DecodeRate, 3));
    watched.stop();
    assert!(watched.value(Counter::DecodedTokens).unwrap() > 0.0);
    assert_eq!(watched.value(Counter::RequestsQueued), None);
    let absent = watched.absent();
    assert!(absent[0].contains("--metrics") && absent.len() == 1, "{absent:?}");
    // It is asked again seldom.
    let asked = server.seen().iter().filter(|r| r.path == "/metrics").count();
    assert!(asked < 10, "{asked}");

    let server = engines::llama_server_at_work("127.0.0.1:0", true, false);
    let mut watched = Watched::start(options(&server.address()));
    watched.until("a queue", samples(Counter::RequestsQueued, 1));
    watched.stop();
    assert_eq!(watched.value(Counter::SlotsBusy), Some(1.0));
    assert_eq!(watched.value(Counter::SlotsTotal), Some(2.0));
    let absent = watched.absent();
    assert!(absent[0].contains("--no-slots") && absent.len() == 1, "{absent:?}");
}

#[test]
fn a_server_that_may_sleep_is_not_kept_awake() {
    let server = Server::start(|request| match request.path.as_str() {
        "/health" => Reply::json(&json!({"status": "ok"})),
        "/props" => Reply::json(&json!({"default_generation_settings": {"n_ctx": 64},
            "total_slots": 1, "model_path": "/m/a.gguf", "is_sleeping": true})),
        "/metrics" => Reply::text(200, "llamacpp:requests_processing 0\n"),
        _ => Reply::not_found(),
    });
    let mut watched = Watched::start(options(&server.address()));
    watched.until("three readings", samples(Counter::SlotsBusy, 3));
    watched.stop();
    assert!(server.seen().iter().all(|r| r.path != "/slots"));
    let fact = watched.session.server.clone().unwrap();
    assert!(fact.models.is_empty() && fact.details.iter().any(|(name, _)| name == "sleeping"));
}

#[test]
fn a_model_without_a_name_is_called_by_its_file() {
    let path = "/home/me/models/tiny-Q4_K_M.gguf";
    let server = Server::start(move |request| match request.path.as_str() {
        "/health" => Reply::json(&json!({"status": "ok"})),
        "/props" => Reply::json(&json!({"default_generation_settings": {"n_ctx": 64},
            "total_slots": 1, "model_path": path, "model_alias": path})),
        _ => Reply::not_found(),
    });
    let mut watched = Watched::start(options(&server.address()));
    watched.until("up", is(ServerState::Up));
    let model = watched.session.server.clone().unwrap().models[0].clone();
    assert_eq!((model.name.as_str(), model.file.as_str()), ("tiny-Q4_K_M.gguf", path));
}

#[test]
fn an_ollama_is_joined_with_what_computes_for_it() {
    let child = engines::llama_server_at_work("127.0.0.1:0", false, true);
    let server = engines::ollama(1, 99);
    let blob = "/m/blobs/sha256-2b";
    let runner = format!(
        "/usr/lib/ollama/llama-server --model {blob} --port {} -ngl 25 -c 8192 --parallel 2",
        port(&child)
    );
    let table = vec![
        process(PID, 1, "/usr/local/bin/ollama serve", port(&server)),
        process(PID + 1, PID, &runner, port(&child)),
    ];
    let mut options = options("");
    options.processes = Arc::new(move || table.clone());
    let mut watched = Watched::start(options);
    watched.until("up", is(ServerState::Up));
    assert!(watched.session.server.clone().unwrap().models.is_empty());
    // Somebody else has it load the model.
    engines::load(&server);
    watched.until("a model", |s| s.server.as_ref().is_some_and(|f| !f.models.is_empty()));
    watched.until("a speed", samples(Counter::DecodeRate, 1));
    watched.stop();
    let fact = watched.session.server.clone().unwrap();
    assert_eq!((fact.engine.as_str(), fact.engine_version.as_str()), ("ollama", "0.33.0"));
    assert_eq!((fact.pid, fact.working_pids.as_slice()), (Some(PID), &[PID + 1][..]));
    let [model] = fact.models.as_slice() else { panic!("{:?}", fact.models) };
    assert_eq!((model.name.as_str(), model.file.as_str()), ("qwen2.5:0.5b", blob));
    assert_eq!((model.layers, model.context_tokens), (Some(24), Some(4096)));
    assert_eq!((model.bytes, model.vram_bytes), (Some(1000), Some(800)));
    assert_eq!((model.quantization.as_str(), model.architecture.as_str()), ("Q4_K_M", "qwen2"));
    assert_eq!((fact.slots, watched.value(Counter::SlotsTotal)), (Some(2), Some(2.0)));
    let slot = watched.session.subjects.get(&Subject::Slot(0)).unwrap();
    assert_eq!(slot.details, [("model".to_string(), "qwen2.5:0.5b".to_string())]);
    // What it says of /metrics is what somebody with Ollama can do.
    assert!(watched.absent().iter().all(|a| !a.contains("--metrics")), "{:?}", watched.absent());
    assert_only_read(&child);
    let generated = |r: &Request| r.path == "/api/generate";
    assert_eq!(server.seen().iter().filter(|r| generated(r)).count(), 1, "only the test's own");
}

#[test]
fn an_ollama_elsewhere_says_why_its_slots_are_not_told() {
    let server = engines::ollama(1, 99);
    engines::load(&server);
    let mut watched = Watched::start(options(&server.address()));
    watched.until("a model", |s| s.server.as_ref().is_some_and(|f| !f.models.is_empty()));
    watched.until("a reason", |s| !s.absent.is_empty());
    assert!(watched.absent()[0].contains("cannot be seen from here"), "{:?}", watched.absent());
}

#[test]
fn a_vllm_tells_requests_cache_and_tokens() {
    let step = AtomicU64::new(0);
    let server = Server::start(move |request| match request.path.as_str() {
        "/version" => Reply::json(&json!({"version": "0.28.0"})),
        "/v1/models" => Reply::json(&json!({"data": [
            {"id": "meta/tiny", "owned_by": "vllm", "max_model_len": 2048}]})),
        "/metrics" => {
            let n = step.fetch_add(1, Ordering::SeqCst) + 1;
            Reply::text(
                200,
                format!(
                    "vllm:num_requests_running{{engine=\"0\"}} 3\nvllm:num_requests_waiting 2\n\
                    vllm:kv_cache_usage_perc 0.4\nvllm:prompt_tokens_total {}\n\
                    vllm:generation_tokens_total {}\nvllm:inter_token_latency_seconds_sum {}\n\
                    vllm:inter_token_latency_seconds_count {}\n",
                    n * 100,
                    n * 40,
                    n,
                    n * 40
                ),
            )
        }
        _ => Reply::not_found(),
    });
    let command = "python3 /usr/bin/vllm serve meta/tiny --max-num-seqs 8";
    let table = vec![process(PID, 1, command, port(&server))];
    let mut options = options(&PID.to_string());
    options.processes = Arc::new(move || table.clone());
    let mut watched = Watched::start(options);
    watched.until("speeds", samples(Counter::DecodeRate, 2));
    watched.stop();
    let fact = watched.session.server.clone().unwrap();
    assert_eq!((fact.engine.as_str(), fact.engine_version.as_str()), ("vllm", "0.28.0"));
    assert_eq!((fact.pid, fact.slots), (Some(PID), Some(8)));
    assert_eq!(fact.models[0].context_tokens, Some(2048));
    for (counter, value) in [
        (Counter::SlotsTotal, 8.0),
        (Counter::SlotsBusy, 3.0),
        (Counter::RequestsQueued, 2.0),
        (Counter::KvUsed, 0.4),
        (Counter::DecodeRate, 40.0),
    ] {
        assert_eq!(watched.value(counter), Some(value), "{counter:?}");
    }
    assert_only_read(&server);
}

#[test]
fn a_server_that_ends_and_comes_back_is_found_again() {
    let server = engines::llama_server_at_work("127.0.0.1:0", true, true);
    let address = server.address();
    let mut watched = Watched::start(options(&address));
    watched.until("up", is(ServerState::Up));
    drop(server);
    watched.until("down", is(ServerState::Down));
    let down = watched.session.server.clone().unwrap();
    assert!(down.models.is_empty() && down.working_pids.is_empty() && down.engine == "llama.cpp");
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let server = Server::start_at(&address, move |_| Reply::text(503, loading));
    watched.until("loading", is(ServerState::Loading));
    drop(server);
    let _server = engines::llama_server_at_work(&address, true, true);
    watched.until("up again", is(ServerState::Up));
    assert!(watched.session.server_restarts >= 1);
    assert!(!watched.session.server.clone().unwrap().models.is_empty());
    assert_eq!(watched.states[..2], [ServerState::Up, ServerState::Down]);
}

#[test]
fn a_server_with_another_process_and_port_is_found_again() {
    let model = "llama-server -m /m/a.gguf";
    let first = engines::llama_server_at_work("127.0.0.1:0", true, true);
    let table = Arc::new(Mutex::new(vec![process(PID, 1, model, port(&first))]));
    let theirs = Arc::clone(&table);
    let processes: ProcessSource = Arc::new(move || theirs.lock().unwrap().clone());
    let mut watched = Watched::start(WatchOptions { processes, ..options("") });
    watched.until("up", is(ServerState::Up));
    table.lock().unwrap().clear();
    drop(first);
    watched.until("down", is(ServerState::Down));
    let second = engines::llama_server_at_work("127.0.0.1:0", true, true);
    *table.lock().unwrap() = vec![process(PID + 7, 1, model, port(&second))];
    watched.until("up again", is(ServerState::Up));
    let fact = watched.session.server.clone().unwrap();
    assert_eq!((fact.pid, fact.url.as_str()), (Some(PID + 7), second.url().as_str()));
    assert_eq!(watched.session.server_restarts, 1);
}

#[test]
fn slow_and_broken_answers_end_nothing() {
    // Its slots come too late, its counters are cut off, and every second time it says nothing sane,
    // also when it is asked once more.
    let (turn, healths) = (AtomicU64::new(0), AtomicU64::new(0));
    let server = Server::start(move |request| {
        let turn = turn.fetch_add(1, Ordering::SeqCst);
        match request.path.as_str() {
            "/health" if healths.fetch_add(1, Ordering::SeqCst) / 2 % 2 == 1 => {
                Reply::raw(b"SSH-2.0-x\r\n")
            }
            "/health" => Reply::json(&json!({"status": "ok"})),
            "/props" => Reply::json(&json!({"default_generation_settings": {}})),
            "/slots" => Reply::steps(200, vec![Step::Pause(Duration::from_millis(200))]),
            "/metrics" if turn % 2 == 0 => Reply::steps(
                200,
                vec![Step::Send("llamacpp:requests_deferred 4\n".into()), Step::BreakOff],
            ),
            "/metrics" => Reply::text(200, "llamacpp:requests_deferred 5\n<html>{{{ NaN\n"),
            _ => Reply::text(200, "[".repeat(100_000)),
        }
    });
    let mut options = options(&server.address());
    options.limits = Limits { question: Duration::from_millis(40), ..options.limits };
    let mut watched = Watched::start(options);
    watched.until("up", is(ServerState::Up));
    watched.until("down", is(ServerState::Down));
    watched.until("up again", is(ServerState::Up));
    watched.until("a queue", samples(Counter::RequestsQueued, 2));
    assert_eq!(watched.value(Counter::RequestsQueued), Some(5.0));
    let begun = Instant::now();
    watched.stop();
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn nothing_and_too_much_are_told() {
    let mut watched = Watched::start(options(""));
    watched.until("a reason", |s| !s.absent.is_empty());
    // Without a table of processes, the user's Ollama is asked for; nobody may have one here.
    watched.stop();

    let mut options = options("");
    options.processes = Arc::new(|| {
        vec![process(PID, 1, "ollama serve", 1), process(PID + 1, 1, "llama-server", 2)]
    });
    let mut watched = Watched::start(options);
    watched.until("a reason", |s| !s.absent.is_empty());
    assert!(watched.absent()[0].contains("2 servers run here"), "{:?}", watched.absent());
    assert_eq!(watched.session.server, None);
}

#[test]
fn a_server_that_wants_a_key_gets_it_or_says_so() {
    let answer = |request: &Request| match request.header("authorization") {
        Some("Bearer k-1") => match request.path.as_str() {
            "/v1/models" => Reply::text(200, r#"{"data":[{"id":"x","owned_by":"vllm"}]}"#),
            "/metrics" => Reply::text(200, "vllm:num_requests_running 1\n"),
            _ => Reply::not_found(),
        },
        _ => Reply::text(401, r#"{"error":{"message":"Invalid API Key"}}"#),
    };
    let server = Server::start(answer);
    let mut watched = Watched::start(options(&server.address()));
    watched.until("a reason", |s| !s.absent.is_empty());
    assert!(watched.absent()[0].contains("--api-key"), "{:?}", watched.absent());
    watched.stop();
    let with_key = WatchOptions { key: Some("k-1".into()), ..options(&server.address()) };
    let mut watched = Watched::start(with_key);
    watched.until("requests", samples(Counter::SlotsBusy, 1));
}

#[cfg(unix)]
#[test]
fn the_log_is_found_by_the_process_and_followed() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join(format!("proc/{PID}/fd"))).unwrap();
    std::fs::write(root.join("server.log"), "build: 11434 (0a1b2c3)\n").unwrap();
    symlink("/server.log", root.join(format!("proc/{PID}/fd/2"))).unwrap();
    let server = engines::llama_server_at_work("127.0.0.1:0", true, true);
    let table = vec![process(PID, 1, "llama-server -m /m/a.gguf", port(&server))];
    let options = WatchOptions {
        log: LogChoice::Find,
        processes: Arc::new(move || table.clone()),
        roots: gpuwhy::observe::telemetry::host::Roots::under(root),
        ..options("")
    };
    let mut watched = Watched::start(options);
    watched.until("a line", |s| s.log.count() >= 1);
    watched.until("up", is(ServerState::Up));
    assert_eq!(watched.session.log.lines().next().unwrap().text, "build: 11434 (0a1b2c3)");
    let fact = watched.session.server.clone().unwrap();
    let (_, log) = fact.details.iter().find(|(name, _)| name == "log").unwrap();
    assert!(log.ends_with("server.log"), "{log}");
    watched.stop();
}
