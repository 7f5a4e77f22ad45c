//! Scripted engines: they speak the protocols of Ollama, llama-server and vLLM, keep what they read of
//! earlier prompts as these do, and tell times that a script fixes.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Reply, Request, Server, Step};

/// Milliseconds that the engines claim for a token of the prompt, and for one written after the first.
pub(crate) const PROMPT_MS: f64 = 0.5;
pub(crate) const DECODE_MS: f64 = 20.0;

/// A scripted llama-server with two slots of 4096 tokens.
pub(crate) fn llama_server() -> Server {
    let kept: Arc<Mutex<Vec<Vec<u64>>>> = Arc::default();
    Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => Reply::json(&json!({"status": "ok"})),
        ("GET", "/props") => Reply::json(&json!({
            "default_generation_settings": {"n_ctx": 4096, "params": {}},
            "total_slots": 2, "model_alias": "tiny", "model_path": "/models/tiny-Q4_K_M.gguf",
            "model_ftype": "Q4_K - Medium", "build_info": "b11434-abcdef", "is_sleeping": false,
        })),
        ("GET", "/slots") => Reply::json(&json!([
            {"id": 0, "n_ctx": 4096, "is_processing": true, "n_prompt_tokens": 12,
             "next_token": [{"n_decoded": 7}]},
            {"id": 1, "n_ctx": 4096, "is_processing": false},
        ])),
        ("GET", "/v1/models") => Reply::json(&json!({"object": "list", "data": [{
            "id": "tiny", "owned_by": "llamacpp", "meta": {"n_vocab": 32000, "n_ctx_train": 32768,
            "n_embd": 896, "n_params": 494032768, "size": 391859712}}]})),
        ("GET", "/metrics") => Reply::text(200, "# TYPE x gauge\nllamacpp:requests_processing 1\n"),
        ("POST", "/completion") => complete(&request.json(), &kept),
        _ => Reply::not_found(),
    })
}

/// A scripted llama-server in the middle of a request: at every reading slot 0 has written three tokens
/// more, and requests that ended in between had 50 tokens in 2 s and prompts of 100 in 0.5 s.
pub(crate) fn llama_server_at_work(address: &str, metrics: bool, slots: bool) -> Server {
    let (readings, written) = (Mutex::new(0u64), Mutex::new(7u64));
    let off = |path: &str| {
        let what = format!("This server does not support {path} endpoint.");
        Reply::text(501, json!({"error": {"code": 501, "message": what}}).to_string())
    };
    Server::start_at(address, move |request| match request.path.as_str() {
        "/health" => Reply::json(&json!({"status": "ok"})),
        "/props" => Reply::json(&json!({
            "default_generation_settings": {"n_ctx": 4096, "params": {}},
            "total_slots": 2, "model_alias": "tiny", "model_path": "/models/tiny-Q4_K_M.gguf",
            "model_ftype": "Q4_K - Medium", "build_info": "b11434-abcdef", "is_sleeping": false,
        })),
        "/v1/models" => Reply::json(&json!({"object": "list", "data": [{
            "id": "tiny", "owned_by": "llamacpp", "meta": {"n_vocab": 32000, "n_ctx_train": 32768,
            "n_embd": 896, "n_params": 494032768, "size": 391859712}}]})),
        "/slots" if slots => {
            let mut written = written.lock().unwrap();
            *written += 3;
            Reply::json(&json!([
                {"id": 0, "id_task": 5, "n_ctx": 4096, "is_processing": true,
                 "n_prompt_tokens": 12, "next_token": [{"n_decoded": *written}]},
                {"id": 1, "n_ctx": 4096, "is_processing": false},
            ]))
        }
        "/slots" => off("slots"),
        "/metrics" if metrics => {
            let mut readings = readings.lock().unwrap();
            *readings += 1;
            let n = *readings;
            Reply::text(
                200,
                format!(
                    "# TYPE llamacpp:prompt_tokens_total counter\n\
                    llamacpp:prompt_tokens_total {}\nllamacpp:prompt_seconds_total {}\n\
                    llamacpp:tokens_predicted_total {}\n\
                    llamacpp:tokens_predicted_seconds_total {}\n\
                    llamacpp:predicted_tokens_seconds 1\nllamacpp:requests_processing 1\n\
                    llamacpp:requests_deferred 3\n",
                    n * 100,
                    n as f64 * 0.5,
                    n * 50,
                    n * 2
                ),
            )
        }
        "/metrics" => off("metrics"),
        _ => Reply::not_found(),
    })
}

/// Has a scripted Ollama load its model, as a user of it would.
pub(crate) fn load(server: &Server) {
    use std::io::{Read, Write};
    let body = json!({"model": "qwen2.5:0.5b"}).to_string();
    let mut connection = std::net::TcpStream::connect(server.address()).unwrap();
    let head = format!("POST /api/generate HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
    connection.read_to_end(&mut Vec::new()).unwrap();
}

/// Answers as llama-server does: all prompts it ever read are kept, and each piece is one token but
/// the second, which is two.
fn complete(ask: &Value, kept: &Mutex<Vec<Vec<u64>>>) -> Reply {
    let prompt: Vec<u64> = ask["prompt"]
        .as_array()
        .map_or_else(Vec::new, |tokens| tokens.iter().filter_map(Value::as_u64).collect());
    let reused = if ask["cache_prompt"] == true {
        let common = |old: &Vec<u64>| prompt.iter().zip(old).take_while(|(a, b)| a == b).count();
        // At least one token is always read.
        kept.lock().unwrap().iter().map(common).max().unwrap_or(0).min(prompt.len() - 1)
    } else {
        0
    };
    kept.lock().unwrap().push(prompt.clone());
    let asked = ask["n_predict"].as_u64().unwrap_or(0).max(1);
    let mut steps = Vec::new();
    let mut written = 0;
    while written < asked {
        let tokens = if written == 1 && asked > 2 { 2 } else { 1 };
        written += tokens;
        let piece = json!({"content": " x", "tokens": vec![7; tokens as usize], "stop": false});
        steps.push(Step::Send(format!("data: {piece}\n\n")));
    }
    let read = prompt.len() - reused;
    let last = json!({"content": "", "tokens": [], "stop": true, "stop_type": "limit",
        "tokens_evaluated": prompt.len(), "tokens_predicted": written,
        "timings": {"cache_n": reused, "prompt_n": read, "prompt_ms": read as f64 * PROMPT_MS,
            "predicted_n": written, "predicted_ms": (written - 1) as f64 * DECODE_MS}});
    steps.push(Step::Send(format!("data: {last}\n\n")));
    Reply::steps(200, steps)
}

/// A scripted Ollama that holds `qwen2.5:0.5b`; every word of a prompt is `tokens_per_word` tokens,
/// and one more stands before the first. It stops after `stops_after` tokens of its own accord.
pub(crate) fn ollama(tokens_per_word: u64, stops_after: u64) -> Server {
    ollama_with(tokens_per_word, stops_after, 800, DECODE_MS)
}

/// The same with so many of the model's 1000 bytes on the GPU, and another time for a token.
pub(crate) fn ollama_with(
    tokens_per_word: u64,
    stops_after: u64,
    vram_bytes: u64,
    decode_ms: f64,
) -> Server {
    let loaded = Mutex::new(false);
    Server::start(move |request| {
        let details = json!({"family": "qwen2", "format": "gguf", "parameter_size": "494.03M",
            "quantization_level": "Q4_K_M"});
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/api/version") => Reply::json(&json!({"version": "0.33.0"})),
            ("GET", "/api/tags") => Reply::json(&json!({"models": [{"name": "qwen2.5:0.5b"}]})),
            ("GET", "/api/ps") => Reply::json(&json!({"models": if *loaded.lock().unwrap() {
                json!([{"name": "qwen2.5:0.5b", "size": 1000, "size_vram": vram_bytes, "digest": "ab",
                    "context_length": 4096, "expires_at": "2026-01-01", "details": details}])
            } else { json!([]) }})),
            ("POST", "/api/show") => Reply::json(&json!({"details": details, "parameters": "x 1",
                "modelfile": "# made\nFROM /m/blobs/sha256-2b\n",
                "capabilities": ["completion"], "model_info": {"general.parameter_count": 494032768,
                "qwen2.context_length": 32768, "qwen2.block_count": 24}})),
            ("POST", "/api/generate") => {
                let loaded = &mut loaded.lock().unwrap();
                generate(request, loaded, tokens_per_word, stops_after, decode_ms)
            }
            _ => Reply::text(404, "404 page not found"),
        }
    })
}

fn generate(
    request: &Request,
    loaded: &mut bool,
    per_word: u64,
    stops_after: u64,
    decode_ms: f64,
) -> Reply {
    let ask = request.json();
    if ask["model"] != "qwen2.5:0.5b" {
        return Reply::text(404, r#"{"error":"model 'x' not found, try pulling it first"}"#);
    }
    let prompt = ask["prompt"].as_str().unwrap_or_default();
    if prompt.is_empty() {
        *loaded = ask["keep_alive"] != 0;
        let reason = if *loaded { "load" } else { "unload" };
        return Reply::json(&json!({"response": "", "done": true, "done_reason": reason}));
    }
    let load_ns = if *loaded { 1_000_000u64 } else { 700_000_000 };
    *loaded = true;
    let read = prompt.split_whitespace().count() as u64 * per_word + 1;
    let written = ask["options"]["num_predict"].as_u64().unwrap_or(128).min(stops_after);
    let piece = json!({"response": " x", "done": false}).to_string() + "\n";
    let mut steps = vec![Step::Send(piece); written as usize];
    let last = json!({"response": "", "done": true, "done_reason": "length",
        "load_duration": load_ns, "prompt_eval_count": read, "eval_count": written,
        "prompt_eval_duration": (read as f64 * PROMPT_MS * 1e6) as u64,
        "eval_duration": ((written - 1) as f64 * decode_ms * 1e6) as u64});
    steps.push(Step::Send(format!("{last}\n")));
    Reply::steps(200, steps)
}

/// A scripted vLLM that serves `meta/tiny`; every word is a token.
pub(crate) fn vllm() -> Server {
    Server::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/version") => Reply::json(&json!({"version": "0.28.0"})),
        ("GET", "/v1/models") => Reply::json(&json!({"object": "list", "data": [
            {"id": "meta/tiny", "owned_by": "vllm", "max_model_len": 2048}]})),
        ("GET", "/metrics") => Reply::text(
            200,
            concat!(
                "vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",engine=\"0\",",
                "gpu_memory_utilization=\"0.9\",num_gpu_blocks=\"1024\",enable_prefix_caching=\"True\"} 1.0\n",
                "vllm:num_requests_running{model_name=\"meta/tiny\"} 0.0\n",
            ),
        ),
        ("POST", "/v1/completions") => {
            let ask = request.json();
            let read = ask["prompt"].as_str().unwrap_or_default().split_whitespace().count();
            let written = ask["max_tokens"].as_u64().unwrap_or(16);
            let event = |value: Value| Step::Send(format!("data: {value}\n\n"));
            let mut steps: Vec<Step> = (1..=written)
                .map(|n| {
                    event(json!({"choices": [{"text": " x", "index": 0,
                        "finish_reason": if n == written { json!("length") } else { json!(null) }}],
                        "usage": {"prompt_tokens": read, "completion_tokens": n}}))
                })
                .collect();
            // Pieces must not be read at once, or there would be no time between them.
            steps = steps
                .into_iter()
                .flat_map(|step| [step, Step::Pause(std::time::Duration::from_millis(1))])
                .collect();
            steps.push(event(json!({"choices": [], "usage": {
                "prompt_tokens": read, "completion_tokens": written}})));
            steps.push(Step::Send("data: [DONE]\n\n".into()));
            Reply::steps(200, steps)
        }
        _ => Reply::not_found(),
    })
}
