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
use gpuwhy::observe::attach::{
    Ask, BaseUrl, Client, Generate, Generation, Limits, LlamaServer, Prompt, Protocol, detect,
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

/// Tokens a second, prompt and decode, by the clock of each side: the server's, then ours.
fn speeds(seen: &Generation) -> [(f64, f64); 2] {
    let (first, last) = (seen.arrivals.first().unwrap(), seen.arrivals.last().unwrap());
    let read = (seen.prompt_tokens.unwrap() - seen.cached_tokens.unwrap_or(0)) as f64;
    let steps = seen.generated_tokens.unwrap() as f64 - 1.0;
    let ours = |tokens: f64, ns: u64| tokens / ns as f64 * 1e9;
    [
        (read / seen.server.prompt_ns.unwrap() * 1e9, ours(read, first.at_ns - seen.sent_ns)),
        (steps / seen.server.decode_ns.unwrap() * 1e9, ours(steps, last.at_ns - first.at_ns)),
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
    let server = LlamaServer::new(client(&real.url));
    println!("build {}, {} slots", found.version, server.slots().unwrap().len());
    assert!(server.model().unwrap().vocab_tokens.unwrap() > 1000);

    println!("| prompt | generate | prompt by server | by client | decode by server | by client |");
    println!("|--:|--:|--:|--:|--:|--:|");
    let mut worst: f64 = 0.0;
    for (round, (prompt, generate)) in [(64, 16), (512, 16), (16, 64), (256, 64)].iter().enumerate()
    {
        let tokens: Vec<u32> =
            (0..*prompt).map(|i| 1000 + (i * 7 + round as u32 * 991) % 9000).collect();
        let ask = Ask::new(Prompt::Tokens(tokens), *generate);
        let seen = server.generate(&ask).unwrap();
        assert_eq!(seen.prompt_tokens, Some(u64::from(*prompt)));
        assert_eq!(seen.generated_tokens, Some(u64::from(*generate)));
        let came: u32 = seen.arrivals.iter().map(|a| a.tokens.unwrap()).sum();
        assert_eq!(came, *generate);
        let [pp, tg] = speeds(&seen);
        println!(
            "| {prompt} | {generate} | {:.1} | {:.1} | {:.2} | {:.2} |",
            pp.0, pp.1, tg.0, tg.1
        );
        worst = worst.max((pp.1 / pp.0 - 1.0).abs()).max((tg.1 / tg.0 - 1.0).abs());
    }
    println!("farthest apart: {:.2} %", worst * 100.0);
    assert!(worst < 0.05, "the two clocks are {:.1} % apart", worst * 100.0);
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
