//! What timing costs: decode with events going nowhere, into the report's accumulator, and with every
//! node timed; and the price of one clock reading and one event. docs/measurements/overhead.md has
//! the figures.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use gpuwhy::app::report::Accumulator;
use gpuwhy::base::clock::now_ns;
use gpuwhy::base::event::{DeviceIndex, Event, Span, SpanKind, Track};
use gpuwhy::base::sink::{NullSink, Sink};
use gpuwhy::engine::backend::DeviceSpec;
use gpuwhy::engine::gguf::Gguf;
use gpuwhy::engine::model::store::builtin;
use gpuwhy::engine::runtime::{BatchToken, Engine, GpuLayers, RuntimeOptions, SeqId};
use gpuwhy::engine::sched::ComputeMode;

/// Tokens decoded before the cache is emptied again.
const RUN: i32 = 64;

fn engine(sink: &Arc<dyn Sink>, mode: ComputeMode) -> Engine {
    let gguf = Arc::new(Gguf::from_static(builtin()).expect("the built-in model is valid"));
    let options = RuntimeOptions {
        n_ctx: 256,
        devices: DeviceSpec::parse_list("virtual:64MiB").expect("a valid list"),
        gpu_layers: GpuLayers::Count(3),
        mode,
        ..RuntimeOptions::default()
    };
    Engine::load(gguf, options, sink, &mut |_| {}).expect("the built-in model fits")
}

fn decode(engine: &mut Engine, tokens: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for i in 0..tokens {
        let pos = i as i32 % RUN;
        if pos == 0 {
            engine.truncate(SeqId(0), 0);
        }
        let token = BatchToken { token: 100 + pos as u32, pos, seq: SeqId(0), logits: true };
        let start = Instant::now();
        black_box(engine.decode(&[token]).expect("one token fits"));
        spent += start.elapsed();
    }
    spent
}

/// Decoding in turns, so that a slow spell of the machine hits all three alike.
fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode one token, 2 splits");
    let sinks: [(&str, Arc<dyn Sink>, ComputeMode); 3] = [
        ("events dropped", Arc::new(NullSink), ComputeMode::Splits),
        ("events accumulated", Arc::new(Accumulator::default()), ComputeMode::Splits),
        ("every node timed", Arc::new(Accumulator::default()), ComputeMode::Nodes),
    ];
    for (name, sink, mode) in sinks {
        let mut engine = engine(&sink, mode);
        group.bench_function(name, |b| b.iter_custom(|n| decode(&mut engine, n)));
    }
    group.finish();
}

fn parts(c: &mut Criterion) {
    c.bench_function("read the clock", |b| b.iter(|| black_box(now_ns())));
    let sink = Accumulator::default();
    let kind = SpanKind::Compute { ubatch: 1, split: 0 };
    let track = Track::Device(DeviceIndex(0));
    let span = Span { track, kind, start_ns: 1, end_ns: 2, bytes: 0, tokens: 1 };
    c.bench_function("record one event", |b| {
        b.iter(|| sink.record(black_box(Event::Span(span.clone()))));
    });
}

criterion_group!(benches, decoding, parts);
criterion_main!(benches);
