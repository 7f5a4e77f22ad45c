//! What observing costs: processor time of one reading of each source on this machine, and of handing
//! an event to a recording.
//!
//! `cargo test --release --test observer -- --ignored --nocapture` prints the figures of
//! docs/measurements/observer.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]
#![cfg(target_os = "linux")]

#[path = "support/nvml.rs"]
mod support;

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use gpuwhy::base::counter::{Counter, Source, Subject};
use gpuwhy::base::event::{Event, Sample};
use gpuwhy::base::sink::{MemorySink, Sink};
use gpuwhy::base::stats::quantile;
use gpuwhy::observe::record::Recorder;
use gpuwhy::observe::telemetry::{Sampler, SamplerOptions};

use support::Emulator;

/// Counter values of a source's readings, by counter.
fn values(events: &[Event], source: Source, counter: Counter) -> Vec<f64> {
    let of = Subject::Observer(source);
    let values = events.iter().filter_map(|e| match e {
        Event::Sample(s) if s.subject == of && s.counter == counter => Some(s.value),
        _ => None,
    });
    values.collect()
}

fn sample(options: &SamplerOptions, time: Duration) -> Vec<Event> {
    let sink = Arc::new(MemorySink::default());
    let theirs: Arc<dyn Sink> = sink.clone();
    let sampler = Sampler::start(options, &theirs);
    std::thread::sleep(time);
    sampler.stop();
    sink.take()
}

fn row(events: &[Event], source: Source, what: &str) -> f64 {
    let cost = values(events, source, Counter::ReadingCost);
    let time = values(events, source, Counter::ReadingTime);
    let (p50, p95) = (quantile(&cost, 0.5) / 1e3, quantile(&cost, 0.95) / 1e3);
    // Four readings a second.
    let share = cost.iter().sum::<f64>() / cost.len() as f64 * 4.0 / 1e9;
    println!(
        "| {what} | {} | {p50:.0} | {p95:.0} | {:.0} | {:.3} % |",
        cost.len(),
        quantile(&time, 0.5) / 1e3,
        100.0 * share
    );
    share
}

#[test]
#[ignore = "measures; takes a minute"]
fn cost_of_sampling() {
    println!(
        "| source | readings | CPU µs, median | CPU µs, p95 | µs from begin to end | share of a core at 4 Hz |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    let time = Duration::from_secs(15);
    let mut sum = 0.0;
    let only = |source| SamplerOptions { sources: vec![source], ..SamplerOptions::default() };
    sum += row(&sample(&only(Source::Host), time), Source::Host, "host");
    let gate = Arc::new(Barrier::new(65));
    let idle: Vec<_> = (0..64)
        .map(|_| {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || gate.wait())
        })
        .collect();
    let options = SamplerOptions { pids: vec![std::process::id()], ..only(Source::Process) };
    sum += row(&sample(&options, time), Source::Process, "process with 67 threads");
    gate.wait();
    for thread in idle {
        thread.join().unwrap();
    }
    row(&sample(&only(Source::Nvml), time), Source::Nvml, "NVML, no library");
    let two = "gpus 2\ngpu * utilisation 9 9\ngpu * memory 9 4\ngpu * link 4 16\n\
               gpu * pcie-bytes 5 5\ngpu * clocks 9 9\ngpu * throttle 0\ngpu * throttled 1 1\n\
               gpu * power 5\ngpu * energy 5\ngpu * temperature 5\ngpu * process 4242 5 5 x\n";
    if let Some(emulator) = Emulator::new(two) {
        let library = Some(emulator.library().into());
        let options = SamplerOptions { nvml_library: library, ..only(Source::Nvml) };
        row(&sample(&options, time), Source::Nvml, "NVML, two emulated GPUs");
    }
    assert!(sum < 0.02, "host and process take {:.2} % of a core", 100.0 * sum);
}

#[test]
#[ignore = "measures"]
fn cost_of_recording() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(&folder.path().join("session"), "a measurement").unwrap();
    let event = |number: u64| {
        let (subject, counter) = (Subject::Gpu(0), Counter::Energy);
        Event::Sample(Sample { at_ns: number, subject, counter, value: number as f64 })
    };
    let mut each_ns = Vec::new();
    for round in 0..200_u64 {
        let begin = Instant::now();
        for number in 0..100 {
            recorder.record(event(round * 100 + number));
        }
        each_ns.push(begin.elapsed().as_nanos() as f64 / 100.0);
        std::thread::sleep(Duration::from_millis(5));
    }
    let state = recorder.finish();
    assert_eq!((state.events, state.lost), (20_000, 0));
    println!(
        "hand one event to the recorder: median {:.0} ns, p95 {:.0} ns; {:.1} bytes each",
        quantile(&each_ns, 0.5),
        quantile(&each_ns, 0.95),
        state.bytes as f64 / state.events as f64
    );
    assert!(quantile(&each_ns, 0.5) < 1000.0, "a sink returns within a microsecond");
}
