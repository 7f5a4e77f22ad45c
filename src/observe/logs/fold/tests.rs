//! Pieces of logs, and what they mean together.

use super::super::session::{BufferKind, Dialect, Engine, FlashAttention, LoadOutcome, Role};
use super::super::{LogSession, parse_bytes};

fn read(log: &str) -> LogSession {
    parse_bytes(log.as_bytes())
}

#[test]
fn a_second_loader_begins_a_second_load() {
    let session = read(
        "llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from /m/a.gguf\n\
         load_tensors: offloaded 10/20 layers to GPU\n\
         llama_context: n_ctx         = 4096\n\
         llama_context: graph splits = 2\n\
         llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from /m/b.gguf\n\
         load_tensors: offloaded 30/30 layers to GPU\n",
    );
    let paths: Vec<_> = session.loads.iter().map(|l| l.model.path.as_deref()).collect();
    assert_eq!(paths, vec![Some("/m/a.gguf"), Some("/m/b.gguf")]);
    assert_eq!(session.loads[1].layers.map(|l| l.offloaded), Some(30));
    assert_eq!(session.loads[1].n_ctx, None);
}

#[test]
fn a_vocabulary_that_is_read_before_the_runner_starts_is_no_load() {
    let session = read(
        "llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from /m/a\n\
         llama_model_load: vocab only - skipping tensors\n\
         time=2025-04-01T10:00:00.000Z level=INFO source=server.go:405 msg=\"starting llama server\" cmd=\"ollama runner --model /m/a --ctx-size 2048 --n-gpu-layers 20\"\n\
         time=2025-04-01T10:00:00.000Z level=INFO source=runner.go:931 msg=\"starting go runner\"\n\
         llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from /m/a\n\
         load_tensors: offloaded 20/20 layers to GPU\n\
         time=2025-04-01T10:00:03.000Z level=INFO source=server.go:619 msg=\"llama runner started in 3.00 seconds\"\n",
    );
    assert_eq!(session.loads.len(), 1);
    let load = &session.loads[0];
    assert_eq!(load.requested.ctx.map(|s| s.value), Some(2048));
    assert_eq!(load.load_ns.map(|s| s.value), Some(3_000_000_000));
    // The server decided about the layers; nobody asked for 20.
    assert_eq!(load.requested.gpu_layers, None);
    assert_eq!(load.estimate.as_ref().and_then(|e| e.layers_offload), Some(20));
}

#[test]
fn dialect_b_starts_its_runner_before_it_decides() {
    let session = read(
        "time=2025-12-01T10:00:00.000Z level=INFO source=server.go:392 msg=\"starting runner\" cmd=\"ollama runner --ollama-engine --model /m/a --port 1\"\n\
         time=2025-12-01T10:00:00.000Z level=INFO source=sched.go:443 msg=\"system memory\" total=\"62.0 GiB\" free=\"50.0 GiB\" free_swap=\"0 B\"\n\
         time=2025-12-01T10:00:00.000Z level=INFO source=sched.go:450 msg=\"gpu memory\" id=GPU-a library=CUDA available=\"9.0 GiB\" free=\"9.5 GiB\" minimum=\"457.0 MiB\" overhead=\"0 B\"\n\
         time=2025-12-01T10:00:00.000Z level=INFO source=server.go:757 msg=\"loading model\" \"model layers\"=35 requested=-1\n\
         time=2025-12-01T10:00:01.000Z level=INFO source=runner.go:1271 msg=load request=\"{Operation:fit LoraPath:[] Parallel:1 BatchSize:512 FlashAttention:true KvSize:8192 KvCacheType: NumThreads:8 GPULayers:35[ID:GPU-a Layers:35(0..34)] UseMmap:false}\"\n\
         time=2025-12-01T10:00:01.000Z level=INFO source=runner.go:1271 msg=load request=\"{Operation:alloc LoraPath:[] Parallel:1 BatchSize:512 FlashAttention:true KvSize:8192 KvCacheType: NumThreads:8 GPULayers:30[ID:GPU-a Layers:30(5..34)] UseMmap:false}\"\n\
         time=2025-12-01T10:00:02.000Z level=INFO source=runner.go:1271 msg=load request=\"{Operation:commit LoraPath:[] Parallel:1 BatchSize:512 FlashAttention:true KvSize:8192 KvCacheType: NumThreads:8 GPULayers:30[ID:GPU-a Layers:30(5..34)] UseMmap:false}\"\n\
         time=2025-12-01T10:00:02.000Z level=INFO source=device.go:240 msg=\"model weights\" device=CUDA0 size=\"5.0 GiB\"\n\
         time=2025-12-01T10:00:02.000Z level=INFO source=device.go:245 msg=\"model weights\" device=CPU size=\"1.0 GiB\"\n\
         time=2025-12-01T10:00:02.000Z level=INFO source=device.go:262 msg=\"compute graph\" device=CUDA0 size=\"300.0 MiB\"\n\
         time=2025-12-01T10:00:05.000Z level=INFO source=server.go:1332 msg=\"llama runner started in 5.00 seconds\"\n\
         time=2025-12-01T10:09:00.000Z level=INFO source=runner.go:1271 msg=load request=\"{Operation:close LoraPath:[] Parallel:0}\"\n",
    );
    assert_eq!((session.engine, session.dialect), (Engine::Ollama, Some(Dialect::OllamaB)));
    assert_eq!(session.loads.len(), 1);
    let load = &session.loads[0];
    assert_eq!(load.layers_by_device, vec![("GPU-a".to_string(), 30)]);
    assert_eq!(load.buffer_bytes(BufferKind::Model, |b| !b.is_host()), 5 << 30);
    assert_eq!(load.gpu_free[0].usable_bytes, Some(9 << 30));
    assert_eq!(load.flash_attention.map(|f| f.value), Some(FlashAttention::On));
    assert!(matches!(load.outcome, LoadOutcome::Unloaded(_)));
    assert_eq!(load.load_ns.map(|s| s.value), Some(5_000_000_000));
}

#[test]
fn the_fittings_trials_are_forgotten() {
    let session = read(
        "common_params_fit_impl: getting device memory data for initial parameters:\n\
         llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from q.gguf\n\
         print_info: no_alloc              = 1\n\
         load_tensors: offloaded 33/33 layers to GPU\n\
         load_tensors:        CUDA0 model buffer size =     0.00 MiB\n\
         llama_context: n_ctx                 = 131072\n\
         common_params_fit_impl: projected to use 9000 MiB of device memory vs. 8000 MiB of free device memory\n\
         common_params_fit_impl: context size reduced from 131072 to 20480 -> need 2000 MiB less memory in total\n\
         llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from q.gguf\n\
         print_info: no_alloc              = 0\n\
         load_tensors: offloaded 33/33 layers to GPU\n\
         load_tensors:        CUDA0 model buffer size =  4000.00 MiB\n\
         llama_context: n_ctx                 = 20480\n",
    );
    assert_eq!(session.loads.len(), 1);
    let load = &session.loads[0];
    assert_eq!(load.n_ctx.map(|s| s.value), Some(20480));
    assert_eq!(load.buffers.len(), 1);
    assert_eq!(load.fit.as_ref().and_then(|f| f.ctx_from_to), Some((131_072, 20480)));
}

#[test]
fn a_draft_model_is_not_the_load_that_answers() {
    let session = read(
        "srv    load_model: loading model '/m/big.gguf'\n\
         llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from /m/big.gguf\n\
         load_tensors: offloaded 49/49 layers to GPU\n\
         llama_context: n_ctx                 = 8192\n\
         srv    load_model: loading draft model '/m/small.gguf'\n\
         llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from /m/small.gguf\n\
         load_tensors: offloaded 25/25 layers to GPU\n",
    );
    assert_eq!(session.loads.len(), 2);
    assert_eq!(session.loads[1].role, Role::Draft);
    assert_eq!(session.last_load().and_then(|l| l.model.path.as_deref()), Some("/m/big.gguf"));
}

#[test]
fn two_caches_of_a_sliding_window_are_added() {
    let session = read(
        "llama_kv_cache_iswa: creating non-SWA KV cache, size = 8192 cells\n\
         llama_kv_cache:      CUDA0 KV buffer size =   320.00 MiB\n\
         llama_kv_cache: size =  320.00 MiB (  8192 cells,   5 layers,  1/1 seqs), K (f16):  160.00 MiB, V (f16):  160.00 MiB\n\
         llama_kv_cache:      CUDA0 KV buffer size =   100.00 MiB\n\
         llama_kv_cache: size =  100.00 MiB (  1536 cells,  25 layers,  1/1 seqs), K (f16):   50.00 MiB, V (f16):   50.00 MiB\n",
    );
    let load = &session.loads[0];
    let kv = load.kv.as_ref().unwrap();
    assert_eq!(kv.bytes, Some(420 << 20));
    assert_eq!((kv.cells, kv.layers), (Some(8192), Some(30)));
    assert_eq!(kv.window_bytes_cells, Some((100 << 20, 1536)));
    assert_eq!(load.buffer_bytes(BufferKind::Kv, |_| true), 420 << 20);
}

#[test]
fn reserving_again_replaces_the_compute_buffers() {
    let session = read(
        "llama_context: constructing llama_context\n\
         sched_reserve: reserving ...\n\
         sched_reserve:      CUDA0 compute buffer size =   300.00 MiB\n\
         sched_reserve: reserving ...\n\
         sched_reserve:      CUDA0 compute buffer size =   500.00 MiB\n",
    );
    let load = &session.loads[0];
    assert_eq!(load.buffer_bytes(BufferKind::Compute, |_| true), 500 << 20);
}

#[test]
fn a_request_is_put_together_from_slot_and_access_lines() {
    let session = read(
        "slot launch_slot_: id  0 | task 7 | processing task, is_child = 0\n\
         slot   operator(): id  0 | task 7 | new prompt, n_ctx_slot = 8192, n_keep = 0, task.n_tokens = 1000\n\
         slot   operator(): id  0 | task 7 | cached n_tokens = 900, memory_seq_rm [900, end)\n\
         slot print_timing: id  0 | task 7 | prompt eval time =     500.00 ms /   100 tokens (    5.00 ms per token,   200.00 tokens per second)\n\
         slot print_timing: id  0 | task 7 |        eval time =    2000.00 ms /   100 tokens (   20.00 ms per token,    50.00 tokens per second)\n\
         slot print_timing: id  0 | task 7 |       total time =    2500.00 ms /   200 tokens\n\
         slot      release: id  0 | task 7 | stop processing: n_tokens = 1100, truncated = 0\n\
         [GIN] 2026/08/02 - 10:00:03 | 200 |          4.0s |       127.0.0.1 | POST     \"/api/chat\"\n\
         [GIN] 2026/08/02 - 10:00:09 | 200 |       1.2ms |       127.0.0.1 | GET      \"/api/ps\"\n",
    );
    assert_eq!((session.requests.all.count, session.requests.all.other), (1, 1));
    let request = &session.requests.first[0];
    assert_eq!(request.endpoint.as_deref(), Some("/api/chat"));
    assert_eq!((request.cached_tokens, request.prompt_tokens), (Some(900), Some(100)));
    assert_eq!(request.decode_tokens_per_s, Some(50.0));
    assert_eq!(request.wait_ns, Some(1_500_000_000));
    assert_eq!(request.truncated, Some(false));
}

#[test]
fn what_a_server_tells_of_all_requests_is_of_each_that_runs() {
    let line = |running: u32, waiting: u32| {
        format!(
            "INFO 01-15 10:05:00 [loggers.py:111] Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg \
             generation throughput: 240.0 tokens/s, Running: {running} reqs, Waiting: {waiting} reqs, GPU \
             KV cache usage: 97.5%, Prefix cache hit rate: 12.0%\n"
        )
    };
    let session = read(&[line(4, 0), line(3, 5), line(0, 0)].concat());
    let all = &session.requests.all;
    assert_eq!((all.count, all.prompt_tokens_per_s.count), (0, 0));
    let speeds = all.decode_tokens_per_s;
    assert_eq!((speeds.count, speeds.min, speeds.max), (2, 60.0, 80.0));
    assert_eq!((all.waiting.count, all.waiting.max), (3, 5.0));
    assert_eq!((all.kv_used_waiting.count, all.kv_used_waiting.mean()), (1, Some(0.975)));
    assert_eq!(all.waiting_line.map(|l| l.0), Some(2));
}

#[test]
fn timings_of_a_tool_follow_each_other() {
    let session = read(
        "llama_perf_context_print: prompt eval time =     100.00 ms /    10 tokens (   10.00 ms per token,   100.00 tokens per second)\n\
         llama_perf_context_print:        eval time =     500.00 ms /    20 runs   (   25.00 ms per token,    40.00 tokens per second)\n\
         llama_perf_context_print:       total time =     600.00 ms /    30 tokens\n\
         llama_perf_context_print:    graphs reused =         19\n\
         llama_perf_context_print: prompt eval time =      50.00 ms /     5 tokens (   10.00 ms per token,   100.00 tokens per second)\n\
         llama_perf_context_print:        eval time =     inf ms /     0 runs   (     nan ms per token,      inf tokens per second)\n",
    );
    assert_eq!(session.engine, Engine::LlamaCpp);
    assert_eq!(session.requests.all.count, 2);
    assert_eq!(session.requests.first[0].graphs_reused, Some(19));
    assert_eq!(session.requests.first[1].decode_tokens_per_s, None);
}

#[test]
fn a_cut_prompt_and_a_shift_belong_to_the_next_access_line() {
    let session = read(
        "time=2025-02-21T11:00:00.000Z level=WARN source=runner.go:131 msg=\"truncating input prompt\" limit=4096 prompt=9001 keep=4 new=4096\n\
         time=2025-02-21T11:00:09.000Z level=DEBUG source=cache.go:231 msg=\"context limit hit - shifting\" id=0 limit=4096 input=4096 keep=4 discard=2046\n\
         [GIN] 2025/02/21 - 11:00:10 | 200 |       10.1s |       127.0.0.1 | POST     \"/api/generate\"\n",
    );
    let request = &session.requests.first[0];
    assert_eq!(request.truncated_from_to, Some((9001, 4096)));
    assert_eq!((request.shifts, session.requests.all.count), (1, 1));
}

#[test]
fn devices_of_two_lists_are_joined() {
    let session = read(
        "time=2025-03-02T11:00:00.000Z level=INFO source=types.go:130 msg=\"inference compute\" id=GPU-1 library=cuda variant=v12 compute=8.6 driver=12.6 name=\"NVIDIA GeForce RTX 3080\" total=\"9.8 GiB\" available=\"9.1 GiB\"\n\
         time=2025-03-02T11:00:00.000Z level=INFO source=types.go:130 msg=\"inference compute\" id=GPU-2 library=cuda variant=v12 compute=8.6 driver=12.6 name=\"NVIDIA GeForce RTX 3080\" total=\"9.8 GiB\" available=\"9.5 GiB\"\n\
         ggml_cuda_init: found 2 CUDA devices:\n  \
           Device 0: NVIDIA GeForce RTX 3080, compute capability 8.6, VMM: yes\n  \
           Device 1: NVIDIA GeForce RTX 3080, compute capability 8.6, VMM: yes\n",
    );
    let names: Vec<_> =
        session.devices.iter().map(|d| (d.name.as_deref(), d.id.as_deref())).collect();
    assert_eq!(names, vec![(Some("CUDA0"), Some("GPU-1")), (Some("CUDA1"), Some("GPU-2"))]);
}

#[test]
fn fragments_tell_their_program() {
    let of = |log: &str| {
        let session = read(log);
        (session.engine, session.dialect, session.os.map(|os| os.value))
    };
    let store = "llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from \
                 /usr/share/ollama/.ollama/models/blobs/sha256-0 (version GGUF V3 (latest))\n";
    let linux = Some("linux".to_string());
    assert_eq!(of(store), (Engine::Ollama, None, linux.clone()));
    let a = format!("{store}llama_context: n_ctx_per_seq = 4096\n");
    assert_eq!(of(&a), (Engine::Ollama, Some(Dialect::OllamaA), linux.clone()));
    let tool = format!(
        "{store}llama_perf_context_print:        eval time = 5.0 ms /  2 runs   ( 2.5 ms per token, 400.0 tokens per second)\n"
    );
    assert_eq!(of(&tool), (Engine::LlamaCpp, Some(Dialect::LlamaCpp), linux));
    let child = "srv  llama_server: model loaded\n\
                 time=2026-06-05T11:22:56.449Z level=INFO source=llama_server.go:1198 msg=\"llama-server started in 20.44 seconds\"\n";
    assert_eq!(of(child).1, Some(Dialect::OllamaC));
    let versioned = "time=2025-06-03T10:11:12.131Z level=INFO source=routes.go:1292 msg=\"Listening on 127.0.0.1:11434 (version 0.13.1)\"\n";
    assert_eq!(of(versioned).1, Some(Dialect::OllamaB));
}

#[test]
fn memory_is_bounded_for_a_long_log() {
    let access = "[GIN] 2026/08/02 - 10:00:03 | 200 |          4.0s |       127.0.0.1 | POST     \"/api/chat\"\n";
    let load = "llama_model_loader: loaded meta data with 3 key-value pairs and 9 tensors from /m/a\n\
                load_tensors: offloaded 1/2 layers to GPU\n";
    let session = read(&format!("{}{}", access.repeat(3000), load.repeat(1000)));
    assert_eq!(session.requests.all.count, 3000);
    assert_eq!(session.requests.kept().count(), 2 * super::super::Requests::KEPT);
    assert_eq!(session.loads.len() as u64 + session.loads_left_out, 1000);
    let last = session.last_load().unwrap();
    assert_eq!(last.index, 999);
    assert!(session.lines.get(last.line).is_some());
}
