//! The clients of foreign servers, against scripted ones that speak well, badly and not at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/http/mod.rs"]
mod http;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use gpuwhy::observe::attach::{
    Ask, BaseUrl, Client, ErrorKind, Generate, HttpError, Limits, LlamaServer, Method, Ollama,
    OpenAi, Prompt, Protocol, detect,
};
use http::{Reply, Server, Step, engines};

fn client(url: &str) -> Client {
    client_within(url, Limits::default())
}

fn client_within(url: &str, limits: Limits) -> Client {
    Client::new(BaseUrl::parse(url, 80).unwrap(), limits)
}

fn ask(tokens: u32) -> Ask {
    Ask::new(Prompt::Text("a b c".into()), tokens)
}

/// What a client of each protocol says of a server that answers everything alike.
fn errors_of(reply: Reply) -> Vec<HttpError> {
    let server = Server::start(move |_| reply.clone());
    let c = client(&server.url());
    vec![
        LlamaServer::new(c.clone()).generate(&ask(4)).unwrap_err(),
        Ollama::new(c.clone(), "m").generate(&ask(4)).unwrap_err(),
        OpenAi::new(c, "m").generate(&ask(4)).unwrap_err(),
    ]
}

#[test]
fn each_scripted_engine_is_told_apart() {
    let of = |server: &Server| {
        let found = detect(&client(&server.url())).unwrap();
        (found.protocol, found.version)
    };
    assert_eq!(of(&engines::llama_server()), (Protocol::LlamaServer, "b11434-abcdef".into()));
    assert_eq!(of(&engines::ollama(1, 99)), (Protocol::Ollama, "0.33.0".into()));
    assert_eq!(of(&engines::vllm()), (Protocol::Vllm, "0.28.0".into()));
    let other = Server::start(|r| match r.path.as_str() {
        "/v1/models" => {
            Reply::text(200, r#"{"data":[{"id":"x","owned_by":"organization_owner"}]}"#)
        }
        _ => Reply::text(403, ""),
    });
    assert_eq!(of(&other), (Protocol::OpenAi, String::new()));
    let page = Server::start(|_| Reply::text(200, "<html>hello</html>"));
    assert_eq!(detect(&client(&page.url())).unwrap_err().kind, ErrorKind::Protocol);
}

#[test]
fn a_server_that_loads_or_wants_a_key_says_so() {
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let server = Server::start(move |_| Reply::text(503, loading));
    let error = detect(&client(&server.url())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.is_transient() && error.what.contains("Loading model"), "{error}");
    assert!(error.hint.unwrap().contains("in a moment"));

    let server = Server::start(|request| match request.header("authorization") {
        Some("Bearer k-1") => Reply::text(200, r#"{"data":[{"id":"x","owned_by":"vllm"}]}"#),
        _ => Reply::text(401, r#"{"error":{"message":"Invalid API Key"}}"#),
    });
    let bare = client(&server.url());
    let error = detect(&bare).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(error.what.contains("Invalid API Key"), "{error}");
    let with_key = bare.with_key(Some("k-1")).unwrap();
    assert_eq!(detect(&with_key).unwrap().protocol, Protocol::Vllm);
}

#[test]
fn a_generation_has_its_pieces_counts_and_times() {
    let server = engines::llama_server();
    let llama = LlamaServer::new(client(&server.url()));
    let mut with_tokens = ask(5);
    with_tokens.prompt = Prompt::Tokens(vec![5, 6, 7]);
    let seen = llama.generate(&with_tokens).unwrap();
    assert_eq!(seen.arrivals.iter().map(|a| a.tokens.unwrap()).sum::<u32>(), 5);
    assert_eq!((seen.prompt_tokens, seen.cached_tokens), (Some(3), Some(0)));
    assert_eq!((seen.generated_tokens, seen.finish.as_str()), (Some(5), "limit"));
    assert_eq!(seen.server.prompt_ns, Some(3.0 * engines::PROMPT_MS * 1e6));
    assert_eq!(seen.server.decode_ns, Some(4.0 * engines::DECODE_MS * 1e6));
    assert!(seen.sent_ns <= seen.arrivals[0].at_ns);
    assert!(seen.arrivals.last().unwrap().at_ns <= seen.ended_ns);
    let sent = server.seen().pop().unwrap().json();
    assert_eq!((&sent["cache_prompt"], &sent["ignore_eos"]), (&false.into(), &true.into()));

    let server = engines::ollama(2, 99);
    let ollama = Ollama::new(client(&server.url()), "qwen2.5:0.5b").with_context(Some(512));
    let seen = ollama.generate(&ask(5)).unwrap();
    assert_eq!((seen.prompt_tokens, seen.generated_tokens), (Some(7), Some(5)));
    assert_eq!(seen.server.load_ns, Some(7e8));
    let sent = server.seen().pop().unwrap().json();
    assert_eq!((&sent["options"]["num_ctx"], &sent["raw"]), (&512.into(), &true.into()));
    assert_eq!(ollama.running_model().unwrap().unwrap().vram_bytes, Some(800));
    ollama.unload().unwrap();
    assert_eq!(ollama.running_model().unwrap(), None);
    ollama.load().unwrap();
    assert_eq!(ollama.running().unwrap().len(), 1);
    assert_eq!(ollama.show().unwrap().layers, Some(24));

    let server = engines::vllm();
    let vllm = OpenAi::new(client(&server.url()), "meta/tiny").with_extensions(true);
    let seen = vllm.generate(&ask(4)).unwrap();
    assert_eq!((seen.prompt_tokens, seen.generated_tokens), (Some(3), Some(4)));
    assert_eq!(seen.arrivals.len(), 4);
    assert!(seen.arrivals.is_sorted_by_key(|a| a.at_ns));
    assert_eq!(server.seen().pop().unwrap().json()["ignore_eos"], true);
}

#[test]
fn what_llama_server_tells_of_itself_is_read() {
    let server = engines::llama_server();
    let llama = LlamaServer::new(client(&server.url()));
    llama.health().unwrap();
    let props = llama.props().unwrap();
    assert_eq!((props.slots, props.context_tokens), (Some(2), Some(4096)));
    let slots = llama.slots().unwrap();
    assert_eq!(slots.iter().filter(|s| s.is_busy).count(), 1);
    assert_eq!((slots[0].prompt_tokens, slots[0].decoded_tokens), (Some(12), Some(7)));
    assert_eq!(llama.model().unwrap().vocab_tokens, Some(32000));
    assert_eq!(llama.metrics().unwrap().sum("llamacpp:requests_processing"), Some(1.0));
}

#[test]
fn nothing_there_no_host_and_no_answer_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = detect(&client(&free.to_string())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.hint.is_some());

    let soon = Limits { question: Duration::from_millis(30), ..Limits::default() };
    let server =
        Server::start(|_| Reply::steps(200, vec![Step::Pause(Duration::from_millis(300))]));
    let error = client_within(&server.url(), soon).text(Method::Get, "/").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");

    // Silence in the middle of a stream.
    let piece = "{\"response\":\"a\",\"done\":false}\n".to_string();
    let steps = vec![Step::Send(piece), Step::Pause(Duration::from_millis(300))];
    let server = Server::start(move |_| Reply::steps(200, steps.clone()));
    let soon = Limits { silence: Duration::from_millis(30), ..Limits::default() };
    let ollama = Ollama::new(client_within(&server.url(), soon), "m");
    assert_eq!(ollama.generate(&ask(4)).unwrap_err().kind, ErrorKind::Timeout);
}

#[test]
fn a_wrong_protocol_beneath_http_is_told() {
    let server = Server::start(|_| Reply::raw(b"SSH-2.0-OpenSSH_9.9\r\n"));
    let error = client(&server.url()).text(Method::Get, "/").unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Protocol | ErrorKind::Disconnected), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let plain = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        connection.read_to_end(&mut Vec::new()).ok();
    });
    let error = client(&url).text(Method::Get, "/").unwrap_err();
    plain.join().unwrap();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
    assert!(error.hint.unwrap().contains("http://"));
}

#[test]
fn redirects_are_not_followed_with_the_key() {
    let other = Server::start(|_| Reply::text(200, "{}"));
    let there = other.url();
    let server = Server::start(move |_| Reply::text(302, "").with_header("Location", &there));
    let c = client(&server.url()).with_key(Some("secret")).unwrap();
    let error = c.document(Method::Get, "/props").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Status(302), "{error}");
    assert!(other.seen().is_empty());
}

#[test]
fn errors_in_the_middle_of_a_stream_end_it() {
    // Broken off after a good piece.
    let piece = r#"{"response":"a","content":"a","choices":[{"text":"a"}],"done":false}"#;
    for (start, end) in [("data: ", "\n\n"), ("", "\n")] {
        let steps = vec![Step::Send(format!("{start}{piece}{end}")), Step::BreakOff];
        for error in errors_of(Reply::steps(200, steps)) {
            let of_wrong_framing = error.kind == ErrorKind::Protocol;
            assert!(error.kind == ErrorKind::Disconnected || of_wrong_framing, "{error}");
        }
    }
    // Ended well, but without its last event: the server gave up.
    for error in errors_of(Reply::steps(200, vec![Step::Send("\n".into())])) {
        assert_eq!(error.kind, ErrorKind::Disconnected, "{error}");
    }
    // Told as an event.
    for (start, end) in [("data: ", "\n\n"), ("", "\n")] {
        let told = format!(r#"{start}{{"error":{{"message":"out of memory"}}}}{end}"#);
        let told = errors_of(Reply::text(200, told));
        assert!(told.iter().any(|e| e.what.contains("out of memory")), "{told:?}");
    }
}

#[test]
fn garbage_and_streams_without_end_are_errors() {
    for garbage in ["<html>", "\u{0}\u{1}", "data: {\"a\n\n", "[[[[", "data: 7\n\ndata: []\n\n"] {
        for error in errors_of(Reply::text(200, garbage)) {
            let kinds = [ErrorKind::Protocol, ErrorKind::Disconnected];
            assert!(kinds.contains(&error.kind), "{garbage:?}: {error}");
        }
    }
    let piece = r#"{"response":"a","content":"a","choices":[{"text":"a"}]}"#;
    for endless in [format!("data: {piece}\n\n"), format!("{piece}\n")] {
        let errors = errors_of(Reply::steps(200, vec![Step::Endless(endless)]));
        assert!(errors.iter().any(|e| e.kind == ErrorKind::TooLarge), "{errors:?}");
    }
    let small = Limits { document_bytes: 1000, ..Limits::default() };
    let server = Server::start(|_| Reply::steps(200, vec![Step::Endless("x".repeat(400))]));
    let error = client_within(&server.url(), small).text(Method::Get, "/").unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    // Deep nesting must not use up the stack.
    let server = Server::start(|_| Reply::text(200, "[".repeat(200_000)));
    let error = client(&server.url()).document(Method::Get, "/props").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Protocol);
}

#[test]
fn numbers_that_nobody_can_mean_are_absent() {
    let last = r#"{"response":"","done":true,"eval_count":-4,"prompt_eval_count":1e300,
        "eval_duration":"soon","prompt_eval_duration":9007199254740993000}"#;
    let line = last.replace('\n', "") + "\n";
    let server = Server::start(move |_| Reply::text(200, line.clone()));
    let seen = Ollama::new(client(&server.url()), "m").generate(&ask(4)).unwrap();
    assert_eq!((seen.generated_tokens, seen.prompt_tokens), (None, None));
    assert_eq!((seen.server.decode_ns, seen.server.prompt_ns), (None, None));
}

#[test]
fn text_of_a_server_cannot_steer_the_terminal() {
    let server = Server::start(|_| Reply::text(500, "{\"error\":\"\\u001b[2J\\nboom\"}"));
    let error = client(&server.url()).text(Method::Get, "/").unwrap_err();
    assert!(error.what.ends_with("with 500:  [2J boom") || error.what.contains("[2J boom"));
    assert!(!error.what.contains('\u{1b}'));
}
