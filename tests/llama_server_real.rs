//! The clients and the target against a real llama-server, whose own timings they must agree with.
//!
//! Runs only where `GPUWHY_LLAMA_SERVER` is set: to the address of a running server, or to the program,
//! which is then started with the model `GPUWHY_LLAMA_MODEL`, on the CPU, with two slots. It costs tokens
//! and times them, so run it alone: `cargo test --release --test llama_server_real -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::fmt::Write as _;
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gpuwhy::advise::measure::http::{HttpOptions, connect};
use gpuwhy::advise::measure::{Metric, Test};
use gpuwhy::base::counter::{Counter, Source, Subject};
use gpuwhy::base::event::ServerState;
use gpuwhy::base::sink::{MemorySink, Sink};
use gpuwhy::base::stats::quantile;
use gpuwhy::observe::attach::{
    Ask, BaseUrl, Client, Generate, Generation, Limits, LlamaServer, Prompt, Protocol, Target,
    WatchOptions, Watcher, detect, discover, process_table,
};
use gpuwhy::observe::session::Session;
use gpuwhy::observe::telemetry::{Sampler, SamplerOptions};

/// A server, ended with the test if the test started it.
struct Real {
    url: String,
    child: Option<Child>,
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What the variable says; none where it says nothing.
fn said() -> Option<String> {
    std::env::var("GPUWHY_LLAMA_SERVER").ok().filter(|what| !what.is_empty())
}

/// The server that the variable says; none where it says nothing.
fn real() -> Option<Real> {
    let what = said()?;
    if what.contains("://") {
        return Some(Real { url: what, child: None });
    }
    Some(started(&what, free_port(), Stdio::null()))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server of our own that is ready.
fn started(program: &str, port: u16, log: Stdio) -> Real {
    let (model, port) = (std::env::var("GPUWHY_LLAMA_MODEL").unwrap(), port.to_string());
    let child = Command::new(program)
        .args(["-m", &model, "--port", &port, "-c", "8192", "-np", "2", "--metrics", "-ngl", "0"])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let real = Real { url: format!("http://127.0.0.1:{port}"), child: Some(child) };
    let server = LlamaServer::new(client(&real.url));
    for _ in 0..600 {
        if server.health().is_ok() {
            return real;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("the server does not become ready");
}

fn client(url: &str) -> Client {
    Client::new(BaseUrl::parse(url, 8080).unwrap(), Limits::default())
}

/// Milliseconds to the first token, and from it to the last, by the server's clock and by ours.
fn times(seen: &Generation) -> [(f64, f64); 2] {
    let (first, last) = (seen.arrivals.first().unwrap(), seen.arrivals.last().unwrap());
    let ms = |ns: u64| ns as f64 / 1e6;
    [
        (seen.server.prompt_ns.unwrap() / 1e6, ms(first.at_ns - seen.sent_ns)),
        (seen.server.decode_ns.unwrap() / 1e6, ms(last.at_ns - first.at_ns)),
    ]
}

#[test]
fn a_real_llama_server_agrees_with_what_is_measured() {
    let Some(real) = real() else {
        println!("GPUWHY_LLAMA_SERVER is not set: nothing was run");
        return;
    };
    let found = detect(&client(&real.url)).unwrap();
    assert_eq!(found.protocol, Protocol::LlamaServer);
    let here = discover(&process_table());
    let port = client(&real.url).base().port();
    let process = here.iter().find(|s| s.address.port() == port);
    if let Some(child) = &real.child {
        let process = process.unwrap();
        assert_eq!((process.pid, process.protocol), (child.id(), Protocol::LlamaServer));
        assert!(process.is_listening && process.model.is_some(), "{process:?}");
    }
    let server = LlamaServer::new(client(&real.url));
    println!("build {}, {} slots", found.version, server.slots().unwrap().len());
    assert!(server.model().unwrap().vocab_tokens.unwrap() > 1000);

    println!("| prompt | generate | first token: server, client | others: server, client |");
    println!("|--:|--:|--:|--:|");
    let shapes = [(16, 8), (64, 16), (512, 16), (16, 64), (256, 64)];
    for (round, (prompt, generate)) in shapes.into_iter().enumerate() {
        let token = |i: u32| 1000 + (i * 7 + round as u32 * 991) % 9000;
        let ask = Ask::new(Prompt::Tokens((0..prompt).map(token).collect()), generate);
        let seen = server.generate(&ask).unwrap();
        assert_eq!(seen.prompt_tokens, Some(u64::from(prompt)));
        assert_eq!(seen.generated_tokens, Some(u64::from(generate)));
        let came: u32 = seen.arrivals.iter().map(|a| a.tokens.unwrap()).sum();
        assert_eq!(came, generate);
        let [first, others] = times(&seen);
        println!(
            "| {prompt} | {generate} | {:.1} ms, {:.1} ms | {:.1} ms, {:.1} ms |",
            first.0, first.1, others.0, others.1
        );
        // A client also waits for the request to be taken up and the first token to be sent.
        let taken_up = first.1 - first.0;
        assert!((-1.0..=20.0 + first.0 * 0.02).contains(&taken_up), "{taken_up} ms beside");
        assert!((others.1 / others.0 - 1.0).abs() < 0.03, "the clocks disagree: {others:?}");
    }
}

#[test]
fn a_real_llama_server_is_a_target() {
    let Some(real) = real() else {
        println!("GPUWHY_LLAMA_SERVER is not set: nothing was run");
        return;
    };
    let mut target = connect(&real.url, &HttpOptions::default()).unwrap();
    println!("{:?}", target.facts().unwrap());
    let test = |name: &str, prompt_tokens, generate_tokens, depth, concurrency| Test {
        name: name.into(),
        prompt_tokens,
        generate_tokens,
        depth,
        concurrency,
        reload: false,
    };
    println!("{:?}", target.structure(&test("s", 1, 1, 0, 1)).unwrap());
    let tests = [
        test("pp256", 256, 0, 0, 1),
        test("tg32", 0, 32, 0, 1),
        test("pp128 @ d512", 128, 16, 512, 1),
        test("c1", 64, 32, 0, 1),
        test("c2", 64, 32, 0, 2),
        test("c4", 64, 32, 0, 4),
    ];
    for test in &tests {
        let sample = target.sample(test).unwrap();
        let line: Vec<String> = sample
            .metrics
            .iter()
            .map(|(metric, value)| format!("{} {value:.2} {}", metric.name(), metric.unit()))
            .collect();
        println!("{}: {}", test.name, line.join(", "));
        let both = test.concurrency > 1;
        assert_eq!(sample.metrics.contains_key(&Metric::ThroughputTokensPerS), both);
        if test.prompt_tokens > 0 {
            assert!(sample.metrics.contains_key(&Metric::FirstTokenMs), "{}", test.name);
        }
    }
}

#[test]
fn both_interfaces_of_a_real_llama_server_tell_the_same() {
    let Some(real) = real() else {
        println!("GPUWHY_LLAMA_SERVER is not set: nothing was run");
        return;
    };
    let as_openai = HttpOptions { protocol: Some(Protocol::OpenAi), ..HttpOptions::default() };
    let mut own = connect(&real.url, &HttpOptions::default()).unwrap();
    let mut openai = connect(&real.url, &as_openai).unwrap();
    let test = Test {
        name: "both".into(),
        prompt_tokens: 256,
        generate_tokens: 48,
        depth: 0,
        concurrency: 1,
        reload: false,
    };
    openai.sample(&test).unwrap(); // learns how long words are
    let rounds: Vec<_> = (0..10)
        .map(|_| [&mut own, &mut openai].map(|target| target.sample(&test).unwrap().metrics))
        .collect();
    println!("| metric | by its own: median, quartiles | by OpenAI's |");
    println!("|---|--:|--:|");
    for metric in [
        Metric::PromptTokensPerS,
        Metric::DecodeTokensPerS,
        Metric::FirstTokenMs,
        Metric::InterTokenMs,
    ] {
        let medians = [0, 1].map(|side| {
            let of: Vec<f64> = rounds.iter().map(|round| round[side][&metric]).collect();
            [0.5, 0.25, 0.75].map(|p| quantile(&of, p))
        });
        let text = medians.map(|[m, low, high]| format!("{m:.2} ({low:.2} to {high:.2})"));
        println!("| {} | {} | {} |", metric.name(), text[0], text[1]);
        let [own, openai] = medians.map(|m| m[0]);
        assert!((openai / own - 1.0).abs() < 0.15, "{metric:?}: {own} and {openai}");
    }
}

/// A watcher of a server with the session that its events make.
struct Watched {
    sink: Arc<MemorySink>,
    session: Session,
    watcher: Watcher,
}

impl Watched {
    fn start(pid: u32) -> Self {
        let sink = Arc::new(MemorySink::default());
        let theirs: Arc<dyn Sink> = sink.clone();
        let sampler = Arc::new(Sampler::start(&SamplerOptions::default(), &theirs));
        let target = Target::Pid(pid);
        let options = WatchOptions { target, sampler: Some(sampler), ..WatchOptions::default() };
        let watcher = Watcher::start(options, &theirs);
        Self { sink, session: Session::new(), watcher }
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Session) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.session) {
            for event in self.sink.take() {
                self.session.take(&event);
            }
            let server = &self.session.server;
            assert!(begun.elapsed() < Duration::from_mins(5), "never {what}: {server:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_up_with(&mut self, pid: u32) {
        self.until("up", |session| {
            let server = session.server.as_ref();
            server.is_some_and(|s| s.state == ServerState::Up && s.pid == Some(pid))
        });
    }
}

#[test]
fn a_real_llama_server_is_watched_and_found_again() {
    let Some(program) = said().filter(|what| !what.contains("://")) else {
        println!("GPUWHY_LLAMA_SERVER is no program: nothing was run");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("server.log");
    let port = free_port();
    let mut real = started(&program, port, File::create(&log).unwrap().into());
    let pid = real.child.as_ref().unwrap().id();
    let mut watched = Watched::start(pid);
    watched.is_up_with(pid);
    let fact = watched.session.server.clone().unwrap();
    println!("{fact:?}");
    assert_eq!((fact.engine.as_str(), fact.slots), ("llama.cpp", Some(2)));
    assert_eq!(fact.working_pids, [pid]);
    assert_eq!(fact.models.len(), 1);
    assert!(fact.models[0].file.ends_with(&std::env::var("GPUWHY_LLAMA_MODEL").unwrap()));
    assert!(fact.models[0].bytes.unwrap() > 0 && fact.models[0].context_tokens.unwrap() > 0);

    // Somebody uses it until its speed was seen live and by its own count.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (url, stop) = (real.url.clone(), &stop);
        scope.spawn(move || {
            let server = LlamaServer::new(client(&url));
            let mut tokens = 16;
            while !stop.load(Ordering::Relaxed) {
                let (begun, prompt) = (Instant::now(), Prompt::Text("and then ".repeat(30)));
                server.generate(&Ask::new(prompt, tokens)).unwrap();
                // As long as several looks at it, whatever the machine and the model.
                let per_token = begun.elapsed().as_secs_f64() / f64::from(tokens);
                tokens = (4.0 / per_token).clamp(16.0, 3000.0) as u32;
            }
        });
        watched.until("a speed", |session| {
            let of = |subject, counter| session.value(subject, counter).unwrap_or(0.0) > 0.0;
            let slots = [Subject::Slot(0), Subject::Slot(1)];
            let threads = session.subjects.keys().filter(|s| matches!(s, Subject::Thread(_)));
            of(Subject::Server, Counter::DecodeRate)
                && of(Subject::Server, Counter::PromptRate)
                && of(Subject::Server, Counter::DecodedTokens)
                && slots.iter().any(|slot| of(*slot, Counter::DecodeRate))
                && of(Subject::Process(pid), Counter::CpuUsed)
                && threads.count() > 2
        });
        stop.store(true, Ordering::Relaxed);
    });
    let value = |subject, counter| watched.session.value(subject, counter);
    println!(
        "speeds: prompt {:?}, decode {:?}, live {:?} {:?}",
        value(Subject::Server, Counter::PromptRate),
        value(Subject::Server, Counter::DecodeRate),
        value(Subject::Slot(0), Counter::DecodeRate),
        value(Subject::Slot(1), Counter::DecodeRate),
    );
    watched.until("lines", |session| session.log.count() > 10);
    watched.session.log.settle();
    assert!(!watched.session.log.told().loads.is_empty(), "its log tells of its load");

    // Killed and started again, at once and then with another port: it is found both times.
    for (round, port) in [(1, port), (2, free_port())] {
        drop(real);
        watched.until("down", |s| s.server.as_ref().is_some_and(|s| s.state == ServerState::Down));
        real = started(&program, port, File::create(&log).unwrap().into());
        watched.is_up_with(real.child.as_ref().unwrap().id());
        assert_eq!(watched.session.server.as_ref().unwrap().url, real.url);
        assert_eq!(watched.session.server_restarts, round);
    }
    println!("{}", costs(&watched.session));
    drop(watched.watcher);
}

/// What one look at the server cost.
fn costs(session: &Session) -> String {
    let mut table = "| | looks | median | largest |\n|---|--:|--:|--:|\n".to_string();
    for (name, counter) in
        [("CPU µs", Counter::ReadingCost), ("µs from begin to end", Counter::ReadingTime)]
    {
        let of = Subject::Observer(Source::Server);
        let series = session.counters.get(of, counter).unwrap();
        let values: Vec<f64> = series.points().map(|p| p.value / 1e3).collect();
        let (median, largest) = (quantile(&values, 0.5), series.max / 1e3);
        writeln!(table, "| {name} | {} | {median:.0} | {largest:.0} |", series.count).unwrap();
    }
    table
}
