//! The clients and the target against a real llama-server, whose own timings they must agree with.
//!
//! Runs only where `GPUWHY_LLAMA_SERVER` is set: to the address of a running server, or to the program,
//! which is then started with the model `GPUWHY_LLAMA_MODEL`, on the CPU, with two slots. It costs tokens
//! and times them, so run it alone: `cargo test --release --test llama_server_real -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use gpuwhy::advise::measure::http::{HttpOptions, connect};
use gpuwhy::advise::measure::{Metric, Test};
use gpuwhy::base::stats::quantile;
use gpuwhy::observe::attach::{
    Ask, BaseUrl, Client, Generate, Generation, Limits, LlamaServer, Prompt, Protocol, detect,
    discover, process_table,
};

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

/// The server that the variable says; none where it says nothing.
fn real() -> Option<Real> {
    let what = std::env::var("GPUWHY_LLAMA_SERVER").ok().filter(|what| !what.is_empty())?;
    if what.contains("://") {
        return Some(Real { url: what, child: None });
    }
    let model = std::env::var("GPUWHY_LLAMA_MODEL").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let child = Command::new(what)
        .args(["-m", &model, "--port", &port, "-c", "8192", "-np", "2", "--metrics", "-ngl", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let real = Real { url: format!("http://127.0.0.1:{port}"), child: Some(child) };
    let server = LlamaServer::new(client(&real.url));
    for _ in 0..600 {
        if server.health().is_ok() {
            return Some(real);
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
