//! A recorded session gives the same picture and the same findings as the live one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gpuwhy::advise::diagnose::{Diagnosis, Facts, diagnose};
use gpuwhy::app::report::{SourceKind, engine_facts, session_report};
use gpuwhy::base::counter::{Counter, Subject};
use gpuwhy::base::event::{Event, Sample};
use gpuwhy::base::sink::{Fanout, MemorySink, Sink};
use gpuwhy::engine::backend::DeviceSpec;
use gpuwhy::engine::gguf::Gguf;
use gpuwhy::engine::runtime::{
    Engine, Generator, GpuLayers, Request, RuntimeOptions, SamplerOptions,
};
use gpuwhy::observe::record::{Recorder, Recording};
use gpuwhy::observe::session::Session;
use serde_json::Value;

/// Runs the built-in model over two virtual devices and the CPU, into `sink`.
fn run(sink: &Arc<dyn Sink>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/builtin/builtin.gguf");
    let mut options = RuntimeOptions { n_ctx: 256, n_threads: 2, ..RuntimeOptions::default() };
    options.devices = DeviceSpec::parse_list("virtual:256MiB,virtual:256MiB").unwrap();
    options.gpu_layers = GpuLayers::Count(4);
    let mut engine =
        Engine::load(Arc::new(Gguf::open(&path).unwrap()), options, sink, &mut |_| ()).unwrap();
    sink.record(Event::Setup(Arc::new(engine_facts(engine.setup(), None))));
    let tokenizer = Arc::clone(engine.tokenizer());
    let mut generator = Generator::new(&mut engine, &tokenizer);
    let prompt = tokenizer.encode("Once upon a time", true, true);
    let sampler = SamplerOptions::greedy();
    let (id, n_predict, ignore_eog) = (0, 24, true);
    generator.push(Request { id, prompt, n_predict, sampler, ignore_eog }).unwrap();
    generator.run(&AtomicBool::new(false), &mut |_, _| ()).unwrap();
}

fn fold(events: impl IntoIterator<Item = Event>) -> Session {
    let mut session = Session::new();
    for event in events {
        session.take(&event);
    }
    session.log.settle();
    session
}

fn found(session: &Session) -> Diagnosis {
    diagnose(&Facts::of_session(session))
}

#[test]
fn a_recording_folds_to_the_session_that_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.gpuwhy");
    let (memory, recorder) =
        (Arc::new(MemorySink::default()), Arc::new(Recorder::create(&path, "a run").unwrap()));
    let readers: Vec<Arc<dyn Sink>> = vec![memory.clone(), recorder.clone()];
    let sink: Arc<dyn Sink> = Arc::new(Fanout::new(readers));
    run(&sink);
    for at_ns in [1, 250_000_001] {
        let (subject, counter) = (Subject::Gpu(0), Counter::GpuBusy);
        sink.record(Event::Sample(Sample { at_ns, subject, counter, value: 0.1 + 0.2 }));
    }
    let state = recorder.finish();
    assert_eq!((state.lost, &state.stopped), (0, &None));

    let live = fold(memory.take());
    let again = fold(Recording::open(&path).unwrap());
    assert!(live.events > 200 && live.recent.ubatches().len() >= 20, "{} events", live.events);
    assert_eq!(again.events, live.events);
    assert_eq!((again.first_ns, again.last_ns), (live.first_ns, live.last_ns));
    assert_eq!(again.setup, live.setup);
    assert_eq!(again.plans, live.plans);
    assert_eq!(format!("{:?}", again.sums), format!("{:?}", live.sums));
    assert!(again.recent.ubatches().eq(live.recent.ubatches()));
    assert_eq!(format!("{:?}", again.counters), format!("{:?}", live.counters));
    assert_eq!(format!("{:?}", again.requests), format!("{:?}", live.requests));
    assert_eq!(again.log.told(), live.log.told());
    assert_eq!(found(&again), found(&live));

    let report = |mut session| session_report(&mut session, SourceKind::Replay, None).unwrap();
    let (live, again) = (report(live), report(again));
    assert_eq!(again.output[0].tokens_generated, 24);
    assert_eq!(again, live);
}

/// The same through the program: `run --record` and `replay` report the same.
#[test]
fn a_replay_reports_what_the_run_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.gpuwhy");
    let path = path.to_str().unwrap();
    let gpuwhy = |args: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_gpuwhy")).args(args).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {err}"))
    };
    let devices = "virtual:256MiB,virtual:256MiB";
    let mut live = gpuwhy(&[
        "run", "-n", "16", "--seed", "7", "-dev", devices, "-ngl", "4", "--record", path,
        "--format", "json", "-q",
    ]);
    let mut again = gpuwhy(&["replay", path, "--format", "json"]);
    assert_eq!(live["source"]["kind"].take(), "run");
    assert_eq!(again["source"]["kind"].take(), "replay");
    for part in ["verdict", "findings", "open", "facts", "splits", "stalls", "timings", "output"] {
        assert_eq!(again[part], live[part], "{part}");
    }
    assert!(live["splits"].as_array().unwrap().len() >= 3);
    assert_eq!(again, live);
}
