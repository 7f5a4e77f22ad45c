//! Generation, memory and events of the whole engine, on the small model that is built in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gpuwhy::base::event::{DeviceIndex, Event, Finish, Span, SpanKind, Track};
use gpuwhy::base::sink::{MemorySink, NullSink, Sink};
use gpuwhy::engine::backend::DeviceSpec;
use gpuwhy::engine::gguf::Gguf;
use gpuwhy::engine::runtime::{
    BatchToken, Engine, GenerationResult, Generator, GpuLayers, Request, RuntimeError,
    RuntimeOptions, SamplerOptions, SeqId,
};
use gpuwhy::engine::sched::placement::{SplitMode, parse_overrides};
use gpuwhy::engine::tensor::DType;

const PROMPTS: [&str; 3] = ["Once upon a time", "The GPU was idle because", "A model"];

fn file() -> Arc<Gguf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/builtin/builtin.gguf");
    Arc::new(Gguf::open(&path).unwrap())
}

fn load_with(
    sink: &Arc<dyn Sink>,
    change: impl FnOnce(&mut RuntimeOptions),
) -> Result<Engine, RuntimeError> {
    let mut options = RuntimeOptions { n_ctx: 512, n_threads: 2, ..RuntimeOptions::default() };
    change(&mut options);
    Engine::load(file(), options, sink, &mut |_| {})
}

fn load(change: impl FnOnce(&mut RuntimeOptions)) -> Engine {
    load_with(&(Arc::new(NullSink) as Arc<dyn Sink>), change).unwrap()
}

fn on(list: &str, gpu_layers: GpuLayers) -> impl FnOnce(&mut RuntimeOptions) + '_ {
    move |o| {
        o.devices = DeviceSpec::parse_list(list).unwrap();
        o.gpu_layers = gpu_layers;
    }
}

fn request(engine: &Engine, id: usize, text: &str, n_predict: usize) -> Request {
    Request {
        id,
        prompt: engine.tokenizer().encode(text, true, false),
        n_predict,
        sampler: SamplerOptions::greedy(),
        ignore_eog: true,
    }
}

fn generate(engine: &mut Engine, texts: &[&str], n: usize) -> Vec<(GenerationResult, String)> {
    let tokenizer = Arc::clone(engine.tokenizer());
    let requests: Vec<Request> =
        texts.iter().enumerate().map(|(i, t)| request(engine, i, t, n)).collect();
    let mut generator = Generator::new(engine, &tokenizer);
    for request in requests {
        generator.push(request).unwrap();
    }
    let mut pieces = vec![String::new(); texts.len()];
    let stop = AtomicBool::new(false);
    let results = generator.run(&stop, &mut |id, text| pieces[id].push_str(text)).unwrap();
    results.into_iter().zip(pieces).collect()
}

/// The likeliest tokens after a prompt, chosen here from all logits.
fn likeliest(engine: &mut Engine, text: &str, n: usize) -> Vec<u32> {
    let mut batch: Vec<BatchToken> = Vec::new();
    for (pos, token) in engine.tokenizer().encode(text, true, false).into_iter().enumerate() {
        batch.push(BatchToken { token, pos: pos as i32, seq: SeqId(0), logits: false });
    }
    batch.last_mut().unwrap().logits = true;
    let mut tokens = Vec::new();
    for pos in batch.len() as i32.. {
        let logits = engine.decode(&batch).unwrap();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let token = logits.iter().position(|&l| l == largest).unwrap() as u32;
        tokens.push(token);
        if tokens.len() == n {
            break;
        }
        batch = vec![BatchToken { token, pos, seq: SeqId(0), logits: true }];
    }
    engine.truncate(SeqId(0), 0);
    tokens
}

#[test]
fn tokens_chosen_on_a_device_are_those_that_the_host_would_choose() {
    for (list, layers) in [("none", 0), ("virtual:64MiB", 99), ("virtual:64MiB/lacks=TOP_K", 99)] {
        let mut engine = load(on(list, GpuLayers::Count(layers)));
        let expected = likeliest(&mut engine, PROMPTS[0], 16);
        let greedy = generate(&mut engine, &[PROMPTS[0]], 16).remove(0).0.tokens;
        assert_eq!(greedy, expected, "{list}");
        // Draws of the same seed, among the 40 likeliest, found on the device or on the host.
        let mut drawn = |top_k: usize| {
            let tokenizer = Arc::clone(engine.tokenizer());
            let draw = SamplerOptions {
                top_k,
                top_p: 1.0,
                min_p: 0.2,
                seed: 5,
                temperature: 1.0,
                ..SamplerOptions::default()
            };
            let one = Request { sampler: draw, ..request(&engine, 0, PROMPTS[1], 24) };
            let mut generator = Generator::new(&mut engine, &tokenizer);
            generator.push(one).unwrap();
            generator.run(&AtomicBool::new(false), &mut |_, _| {}).unwrap().remove(0).tokens
        };
        // Less than a fifth as likely as the likeliest are all beyond the first 60.
        assert_eq!(drawn(60), drawn(0), "{list}");
    }
}

#[test]
fn rows_on_several_devices_give_the_same_text() {
    let expected = generate(&mut load(|_| {}), &PROMPTS[..2], 12);
    let three = "virtual:64MiB,virtual:64MiB,virtual:64MiB";
    for (layers, main_gpu, split) in
        [(99, 0, vec![]), (99, 2, vec![1.0, 0.0, 2.0]), (4, 1, vec![1.0, 1.0, 1.0])]
    {
        let mut engine = load(|o| {
            on(three, GpuLayers::Count(layers))(o);
            o.placement.split_mode = SplitMode::Row;
            (o.placement.main_gpu, o.placement.tensor_split) = (main_gpu, split);
            o.n_ctx = 1024;
        });
        let texts = generate(&mut engine, &PROMPTS[..2], 12);
        for (one, other) in texts.iter().zip(&expected) {
            assert_eq!(one.0.tokens, other.0.tokens);
        }
        // What was predicted is what the devices hold.
        for (device, need) in engine.devices().iter().zip(&engine.setup().budget.devices).take(3) {
            let memory = device.memory();
            let held = memory.total_bytes - memory.free_bytes;
            let needed = need.weight_bytes + need.kv_bytes + need.compute_bytes;
            assert!(held >= needed && held < needed + 64 * 100, "{held} held, {needed} predicted");
        }
    }
}

#[test]
fn requests_with_unlike_samplers_run_together() {
    let mut engine = load(|o| (o.n_ctx, o.n_seq_max) = (1024, 3));
    let tokenizer = Arc::clone(engine.tokenizer());
    let draw = SamplerOptions { seed: 3, ..SamplerOptions::default() };
    let penalised = SamplerOptions { repeat_penalty: 1.3, ..SamplerOptions::greedy() };
    for samplers in [[SamplerOptions::greedy(), draw, draw], [draw, penalised, draw]] {
        let mut run = |ids: &[usize]| {
            let mut generator = Generator::new(&mut engine, &tokenizer);
            for &id in ids {
                let prompt = tokenizer.encode(PROMPTS[id], true, false);
                // They end at different times, so that what is needed changes on the way.
                let n_predict = 6 + 5 * id;
                let sampler = samplers[id];
                generator
                    .push(Request { id, prompt, n_predict, sampler, ignore_eog: true })
                    .unwrap();
            }
            let results = generator.run(&AtomicBool::new(false), &mut |_, _| {}).unwrap();
            results.into_iter().map(|r| r.tokens).collect::<Vec<_>>()
        };
        let together = run(&[0, 1, 2]);
        for id in 0..3 {
            assert_eq!(run(&[id])[0], together[id]);
        }
    }
}

#[test]
fn requests_together_give_what_each_gives_alone() {
    let mut together = load(|o| (o.n_ctx, o.n_seq_max) = (1024, 2));
    let both = generate(&mut together, &PROMPTS, 24);
    assert_eq!(both.len(), 3);
    for (i, prompt) in PROMPTS.iter().enumerate() {
        let alone = generate(&mut load(|_| {}), &[prompt], 24).remove(0);
        assert_eq!(alone.0.tokens, both[i].0.tokens, "{prompt}");
        assert_eq!(alone.1, both[i].1);
        assert_eq!(alone.0.finish, Finish::Length);
        assert_eq!(alone.0.token_ns.len(), 24);
        assert!(!alone.1.is_empty());
    }
}

#[test]
fn a_prompt_in_small_batches_gives_the_same() {
    let text = "Once upon a time there was a model that waited for its weights. It was very slow.";
    let whole = generate(&mut load(|_| {}), &[text], 16).remove(0);
    let mut small = load(|o| (o.n_batch, o.n_ubatch) = (5, 3));
    assert_eq!(generate(&mut small, &[text], 16).remove(0).0.tokens, whole.0.tokens);
}

#[test]
fn a_full_context_ends_the_request_and_says_so() {
    let mut engine = load(|o| o.n_ctx = 32);
    let done = generate(&mut engine, &["Once upon a time"], 1000).remove(0).0;
    assert_eq!(done.finish, Finish::ContextFull);
    // Every token but the last was decoded, so the context is exactly full.
    assert_eq!(done.n_prompt + done.tokens.len() - 1, 32);
    // The cells are free again.
    let again = generate(&mut engine, &["Once upon a time"], 4).remove(0).0;
    assert_eq!(again.tokens[..], done.tokens[..4]);
}

#[test]
fn prompts_that_can_never_run_are_refused() {
    let mut engine = load(|o| o.n_ctx = 8);
    let tokenizer = Arc::clone(engine.tokenizer());
    let long = request(&engine, 7, "a prompt that is much longer than eight tokens can hold", 4);
    let empty = Request { prompt: Vec::new(), ..long.clone() };
    let mut generator = Generator::new(&mut engine, &tokenizer);
    let error = generator.push(long).unwrap_err().to_string();
    assert!(error.starts_with("request 7: the prompt has"), "{error}");
    assert!(generator.push(empty).unwrap_err().to_string().contains("empty"));
}

#[test]
fn stopping_keeps_what_was_generated() {
    let mut engine = load(|_| {});
    let tokenizer = Arc::clone(engine.tokenizer());
    let wanted = request(&engine, 0, PROMPTS[0], 400);
    let mut generator = Generator::new(&mut engine, &tokenizer);
    generator.push(wanted).unwrap();
    let stop = AtomicBool::new(false);
    let mut heard = 0;
    let results = generator.run(&stop, &mut |_, _| {
        heard += 1;
        stop.store(heard >= 5, Ordering::Relaxed);
    });
    let result = results.unwrap().remove(0);
    assert_eq!(result.finish, Finish::Cancelled);
    assert!((5..20).contains(&result.tokens.len()), "{}", result.tokens.len());
}

#[test]
fn every_kv_type_generates_sensible_text() {
    let reference = generate(&mut load(|_| {}), &[PROMPTS[0]], 12).remove(0).0.tokens;
    for kv in [DType::F32, DType::Q8_0, DType::Q4_0] {
        let mut engine = load(|o| (o.type_k, o.type_v) = (kv, kv));
        let tokens = generate(&mut engine, &[PROMPTS[0]], 12).remove(0).0.tokens;
        if kv != DType::Q4_0 {
            assert_eq!(tokens, reference, "{kv}");
        }
    }
}

#[test]
fn the_budget_is_what_the_devices_then_hold() {
    let engine = load(on("virtual:64MiB", GpuLayers::Count(4)));
    let (device, need) = (&engine.devices()[0], &engine.setup().budget.devices[0]);
    let memory = device.memory();
    let held = memory.total_bytes - memory.free_bytes;
    let needed = need.weight_bytes + need.kv_bytes + need.compute_bytes;
    assert!(needed > 0);
    // Each tensor of a buffer begins at a multiple of 64.
    assert!(held >= needed && held < needed + 64 * 100, "{held} held, {needed} predicted");
}

#[test]
fn auto_takes_what_fits_and_says_what_stopped_it() {
    let all = load(on("virtual:64MiB", GpuLayers::Auto));
    assert_eq!((all.setup().fit.gpu_layers, &all.setup().fit.limit), (7, &None));
    let some = load(on("virtual:6MiB", GpuLayers::Auto));
    let fit = some.setup().fit;
    assert!((1..7).contains(&fit.gpu_layers), "{fit:?}");
    let limit = fit.limit.as_ref().unwrap();
    assert!(limit.contains("Virtual0") && limit.contains("short"), "{limit}");
}

#[test]
fn what_does_not_fit_says_what_where_how_much_and_what_would() {
    let sink = Arc::new(NullSink) as Arc<dyn Sink>;
    let Err(error) = load_with(&sink, on("virtual:3MiB", GpuLayers::Count(99))) else {
        panic!("3 MiB cannot hold the model");
    };
    let text = error.to_string();
    for part in ["Virtual0", "needs", "short", "KV cache"] {
        assert!(text.contains(part), "{text}");
    }
    let hint = error.hint().unwrap();
    assert!(hint.contains("-ngl"), "{hint}");
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let sink = Arc::new(NullSink) as Arc<dyn Sink>;
    for (change, part) in [
        (Box::new(|o: &mut RuntimeOptions| o.n_seq_max = 65) as Box<dyn FnOnce(&mut _)>, "-np"),
        (Box::new(|o: &mut RuntimeOptions| o.n_ubatch = 0), "-ub"),
        (Box::new(|o: &mut RuntimeOptions| o.n_ctx = 1 << 30), "-c"),
        (Box::new(|o: &mut RuntimeOptions| o.type_k = DType::Q4_K), "key_length"),
        (Box::new(|o: &mut RuntimeOptions| o.placement.main_gpu = 3), "-mg"),
        (
            Box::new(|o: &mut RuntimeOptions| {
                o.placement.overrides = parse_overrides("matches nothing=CUDA7").unwrap();
            }),
            "no device 'CUDA7'",
        ),
    ] {
        let Err(error) = load_with(&sink, change) else { panic!("{part} must be refused") };
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn spans_nest_and_add_up() {
    let memory = Arc::new(MemorySink::default());
    let sink = Arc::clone(&memory) as Arc<dyn Sink>;
    let mut engine =
        load_with(&sink, on("virtual:64MiB/link=4GB/latency=50us", GpuLayers::Count(3))).unwrap();
    generate(&mut engine, &[PROMPTS[0]], 12);
    let events = memory.take();
    let spans: Vec<&Span> =
        events.iter().filter_map(|e| if let Event::Span(s) = e { Some(s) } else { None }).collect();
    assert!(events.iter().any(|e| matches!(e, Event::Device(d) if d.is_virtual)));
    let mut ubatches = 0;
    for outer in &spans {
        let SpanKind::Ubatch { ubatch, plan, .. } = outer.kind else { continue };
        ubatches += 1;
        let inside = spans.iter().filter(|s| match s.kind {
            SpanKind::Wait { ubatch: u, .. }
            | SpanKind::Copy { ubatch: u, .. }
            | SpanKind::Compute { ubatch: u, .. } => u == ubatch,
            _ => false,
        });
        let mut sum = 0;
        for span in inside {
            assert!(span.start_ns >= outer.start_ns && span.end_ns <= outer.end_ns);
            assert!(span.start_ns <= span.end_ns);
            sum += span.duration_ns();
        }
        assert!(sum <= outer.duration_ns());
        // Copies alone take their modelled latency, so most of the time must be accounted for.
        assert!(sum * 10 >= outer.duration_ns() * 8, "{sum} of {}", outer.duration_ns());
        let known = events.iter().any(|e| matches!(e, Event::Plan(p) if p.id == plan));
        assert!(known, "plan {plan} was not told");
    }
    assert_eq!(ubatches, 12);
    let copies: Vec<&&Span> =
        spans.iter().filter(|s| matches!(s.kind, SpanKind::Copy { .. })).collect();
    assert!(copies.iter().all(|c| c.bytes > 0 && c.duration_ns() >= 50_000));
    assert!(copies.iter().all(|c| c.track == Track::Device(DeviceIndex(0))));
    let host = |kind: &SpanKind| spans.iter().filter(|s| s.kind == *kind).count();
    assert_eq!((host(&SpanKind::Sampling), host(&SpanKind::Detokenise)), (12, 12));
}
