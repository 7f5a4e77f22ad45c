//! A typical log of a server of any length, from a seed: Ollama from 0.30 on with its
//! llama-server child. Per request, as that program prints them: choice of a slot, the prompt's
//! progress, timings, release, access lines; every 200 requests the model is loaded again. All
//! values are invented.

use std::fmt::Write as _;

/// Counts up the log's own clock and gives values that differ from line to line.
struct Source {
    state: u64,
    micros: u64,
    task: u64,
}

impl Source {
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.state >> 33) % limit
    }

    fn clock(&mut self) -> String {
        self.micros += 37 + self.below(400);
        let (us, ms) = (self.micros % 1000, self.micros / 1000 % 1000);
        let (s, min) = (self.micros / 1_000_000 % 60, self.micros / 60_000_000);
        format!("{min}.{s:02}.{ms:03}.{us:03} I ")
    }

    fn stamp(&mut self) -> String {
        let (s, ms) = (self.micros / 1_000_000, self.micros / 1000 % 1000);
        let (h, m, s) = (s / 3600 % 24, s / 60 % 60, s % 60);
        format!(
            "2026-09-{:02}T{h:02}:{m:02}:{s:02}.{ms:03}+02:00",
            1 + self.micros / 86_400_000_000 % 28
        )
    }
}

/// At least `bytes` of log, whole lines.
pub(crate) fn server_log(bytes: usize, seed: u64) -> Vec<u8> {
    let mut source = Source { state: seed, micros: 0, task: 0 };
    let mut out = String::with_capacity(bytes + 8192);
    while out.len() < bytes {
        if source.task.is_multiple_of(200) {
            load(&mut out, &mut source);
        }
        request(&mut out, &mut source);
        source.task += 1;
    }
    out.into_bytes()
}

/// A line of llama-server with its clock.
fn line(out: &mut String, source: &mut Source, text: std::fmt::Arguments<'_>) {
    let clock = source.clock();
    let _ = writeln!(out, "{clock}{text}");
}

fn request(out: &mut String, source: &mut Source) {
    let (prompt, decode) = (20 + source.below(3000), 10 + source.below(900));
    let slot = format!("id  {} | task {}", source.below(4), source.task);
    let lru = source.task * 7;
    line(
        out,
        source,
        format_args!("slot get_availabl: id  0 | task -1 | selected slot by LRU, t_last = {lru}"),
    );
    line(out, source, format_args!("slot launch_slot_: {slot} | processing task, is_child = 0"));
    line(
        out,
        source,
        format_args!(
            "slot update_slots: {slot} | new prompt, n_ctx_slot = 8192, n_keep = 0, task.n_tokens = {prompt}"
        ),
    );
    line(
        out,
        source,
        format_args!("slot update_slots: {slot} | n_tokens = 0, memory_seq_rm [0, end)"),
    );
    let mut done = 0;
    while done < prompt {
        let batch = 512.min(prompt - done);
        done += batch;
        let progress = done as f64 / prompt as f64;
        line(
            out,
            source,
            format_args!(
                "slot update_slots: {slot} | prompt processing progress, n_tokens = {done}, batch.n_tokens = {batch}, progress = {progress:.6}"
            ),
        );
    }
    let last = prompt % 512;
    line(
        out,
        source,
        format_args!(
            "slot update_slots: {slot} | prompt done, n_tokens = {prompt}, batch.n_tokens = {last}"
        ),
    );
    let prompt_ms = prompt as f64 / (400.0 + source.below(900) as f64) * 1000.0;
    let decode_ms = decode as f64 / (20.0 + source.below(70) as f64) * 1000.0;
    timings(out, source, &slot, [(prompt, prompt_ms), (decode, decode_ms)]);
    access(out, source, prompt_ms + decode_ms);
}

/// Tokens and milliseconds of the prompt and of the decoding; then the slot is free.
fn timings(out: &mut String, source: &mut Source, slot: &str, parts: [(u64, f64); 2]) {
    for (name, (n, ms)) in ["prompt eval time", "       eval time"].iter().zip(parts) {
        let (each, speed) = (ms / n as f64, n as f64 / ms * 1000.0);
        line(
            out,
            source,
            format_args!(
                "slot print_timing: {slot} | {name} = {ms:10.2} ms / {n:5} tokens ({each:8.2} ms per token, {speed:8.2} tokens per second)"
            ),
        );
    }
    let [(prompt, prompt_ms), (decode, decode_ms)] = parts;
    let (n, ms) = (prompt + decode, prompt_ms + decode_ms);
    line(
        out,
        source,
        format_args!("slot print_timing: {slot} |       total time = {ms:10.2} ms / {n:5} tokens"),
    );
    line(
        out,
        source,
        format_args!("slot      release: {slot} | stop processing: n_tokens = {n}, truncated = 0"),
    );
    line(out, source, format_args!("srv  update_slots: all slots are idle"));
}

/// The access lines of llama-server and of Ollama.
fn access(out: &mut String, source: &mut Source, ms: f64) {
    line(
        out,
        source,
        format_args!("srv  log_server_r: done request: POST /v1/chat/completions 127.0.0.1 200"),
    );
    source.micros += ms as u64 * 1000;
    let (stamp, task, s) = (source.stamp(), source.task, ms / 1000.0);
    let day = stamp[..10].replace('-', "/");
    let clock = &stamp[11..19];
    let _ = writeln!(
        out,
        "[GIN] {day} - {clock} | 200 | {s:12.9}s |       127.0.0.1 | POST     \"/api/chat\""
    );
    if task.is_multiple_of(8) {
        let us = source.below(800_000) as f64 / 1000.0 + 100.0;
        let _ = writeln!(
            out,
            "[GIN] {day} - {clock} | 200 |     {us:.3}µs |       127.0.0.1 | GET      \"/api/tags\""
        );
    }
}

fn load(out: &mut String, source: &mut Source) {
    let (stamp, port) = (source.stamp(), 30000 + source.below(30000));
    let _ = writeln!(
        out,
        "time={stamp} level=INFO source=llama_server.go:412 msg=\"starting llama-server\" cmd=\"/usr/local/lib/ollama/llama-server --model /usr/share/ollama/.ollama/models/blobs/sha256-{:064x} --ctx-size 32768 --parallel 4 --port {port} --log-verbosity 4\"",
        source.state
    );
    for (i, (key, kind, value)) in KEYS.iter().enumerate() {
        let clock = source.clock();
        let _ =
            writeln!(out, "{clock}llama_model_loader: - kv {i:3}: {key:>42} {kind:<8} = {value}");
    }
    for text in LOAD {
        let clock = source.clock();
        let _ = writeln!(out, "{clock}{text}");
    }
    let stamp = source.stamp();
    let _ = writeln!(
        out,
        "time={stamp} level=INFO source=llama_server.go:733 msg=\"llama-server started in {}.{:02} seconds\"",
        2 + source.below(6),
        source.below(100)
    );
}

const KEYS: [(&str, &str, &str); 12] = [
    ("general.architecture", "str", "qwen2"),
    ("general.type", "str", "model"),
    ("general.name", "str", "Invented 14B Instruct"),
    ("qwen2.block_count", "u32", "48"),
    ("qwen2.context_length", "u32", "32768"),
    ("qwen2.embedding_length", "u32", "5120"),
    ("qwen2.feed_forward_length", "u32", "13824"),
    ("qwen2.attention.head_count", "u32", "40"),
    ("qwen2.attention.head_count_kv", "u32", "8"),
    ("general.file_type", "u32", "15"),
    (
        "tokenizer.ggml.tokens",
        "arr[str,152064]",
        "[\"!\", \"\\\"\", \"#\", \"$\", \"%\", \"&\", \"'\", ...",
    ),
    ("tokenizer.ggml.eos_token_id", "u32", "151645"),
];

const LOAD: [&str; 24] = [
    "llama_model_loader: - type  f32:  241 tensors",
    "llama_model_loader: - type q4_K:  289 tensors",
    "llama_model_loader: - type q6_K:   49 tensors",
    "print_info: file format = GGUF V3 (latest)",
    "print_info: file type   = Q4_K - Medium",
    "print_info: file size   = 8.37 GiB (4.87 BPW) ",
    "print_info: arch             = qwen2",
    "print_info: n_ctx_train      = 32768",
    "print_info: n_layer          = 48",
    "load_tensors: offloading 48 repeating layers to GPU",
    "load_tensors: offloading output layer to GPU",
    "load_tensors: offloaded 49/49 layers to GPU",
    "load_tensors:   CPU_Mapped model buffer size =   417.66 MiB",
    "load_tensors:        CUDA0 model buffer size =  8148.38 MiB",
    "llama_context: n_seq_max             = 4",
    "llama_context: n_ctx                 = 32768",
    "llama_context: n_ctx_seq             = 8192",
    "llama_context: flash_attn            = auto",
    "llama_context:  CUDA_Host  output buffer size =     2.32 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =  6144.00 MiB",
    "llama_kv_cache: size = 6144.00 MiB (  8192 cells,  48 layers,  4/4 seqs), K (f16): 3072.00 MiB, V (f16): 3072.00 MiB",
    "sched_reserve:      CUDA0 compute buffer size =   307.00 MiB",
    "sched_reserve: graph: nodes = 1686, splits = 2, input objects = 4, input tensors = 6",
    "sched_reserve: reserve took 13.66 ms, sched copies = 1",
];
