//! What panels say of a foreign server, of what is missing, and before anything has come.

use std::sync::Arc;

use crate::app::tui::tests::script::fold;
use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{Absent, AbsentReason, Event, Line, Sample, ServedModel, ServerFact};

use super::*;

const SIZE: (u16, u16) = (100, 24);

fn server() -> Event {
    let model = ServedModel {
        name: "qwen2.5:7b".into(),
        quantization: "Q4_K_M".into(),
        layers: Some(28),
        bytes: Some(8 << 30),
        vram_bytes: Some(6 << 30),
        ..ServedModel::default()
    };
    Event::Server(Arc::new(ServerFact {
        engine: "ollama".into(),
        models: vec![model],
        ..ServerFact::default()
    }))
}

fn log() -> Vec<Event> {
    let lines = [
        "llama_model_loader: loaded meta data with 34 key-value pairs and 339 tensors from q.gguf",
        "load_tensors: offloading 20 repeating layers to GPU",
        "load_tensors: offloaded 20/29 layers to GPU",
        "load_tensors:        CUDA0 model buffer size =  3000.00 MiB",
        "load_tensors:   CPU_Mapped model buffer size =  1460.00 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =    80.00 MiB",
    ];
    let line = |text: &&str| Event::Line(Line { at_ns: 1, text: (*text).to_string() });
    lines.iter().map(line).collect()
}

#[test]
fn a_server_shows_what_is_known_of_its_layers_and_says_what_is_not() {
    let text = Stage::new(fold(&[server()])).shown(&Layers, SIZE);
    has(&text, &["qwen2.5:7b", "28 layers", "6.00 GiB of 8.00 GiB (75.0 %)"]);
    has(&text, &["Which layer is on which device is not told"]);
    let events: Vec<Event> = std::iter::once(server()).chain(log()).collect();
    let text = Stage::new(fold(&events)).shown(&Layers, SIZE);
    has(&text, &["20 of 29 on GPUs", "CUDA0", "2.93 GiB", "80.00 MiB", "CPU_Mapped", "1.43 GiB"]);
    has(&text, &["does not tell what each layer takes"]);
    let stage = Stage::new(fold(&events));
    has(&stage.shown(&Splits, SIZE), &["does not tell how it cuts its graph"]);
    has(&stage.shown(&Timeline, SIZE), &["does not tell when its devices compute"]);
    has(&stage.shown(&Transfers, SIZE), &["does not tell what it copies"]);
}

#[test]
fn a_server_shows_its_own_counters() {
    let mut events = vec![server()];
    let mut sample = |at_s: u64, subject, counter, value| {
        let at_ns = at_s * 1_000_000_000;
        events.push(Event::Sample(Sample { at_ns, subject, counter, value }));
    };
    for second in 0..3 {
        sample(second, Subject::Server, Counter::SlotsTotal, 4.0);
        sample(second, Subject::Server, Counter::SlotsBusy, 3.0);
        sample(second, Subject::Server, Counter::RequestsQueued, 2.0);
        sample(second, Subject::Server, Counter::DecodeRate, 41.5);
        sample(second, Subject::Server, Counter::DecodedTokens, 30.0 * second as f64);
        sample(second, Subject::Slot(1), Counter::SlotsBusy, 1.0);
        sample(second, Subject::Slot(1), Counter::SlotDecoded, 77.0);
    }
    let text = Stage::new(fold(&events)).shown(&Batch, SIZE);
    has(&text, &["3 of 4 busy", "2 queued", "41.50 tokens/s by its own count"]);
    has(&text, &["30.00 tokens/s of wall time", "busy", "77", "is not told"]);
}

#[test]
fn what_cannot_be_read_is_told_with_its_reason_and_hint() {
    let (reason, text) = (AbsentReason::LibraryMissing, "NVML is not installed here".to_string());
    let hint = "install the NVIDIA driver".to_string();
    let (source, subject, counter) = (Source::Nvml, None, None);
    let absent = Absent { at_ns: 1, source, subject, counter, reason, text, hint };
    let text = Stage::new(fold(&[Event::Absent(absent)])).shown(&Devices, (60, 12));
    has(&text, &["no counters of NVML: NVML is not installed here", "driver)"]);
}

#[test]
fn before_anything_has_come_panels_say_so() {
    let stage = Stage::new(Session::new());
    let said = [
        "No model is loaded yet.",
        "No graph has been cut yet",
        "No ubatch has run yet.",
        "No request yet.",
        "Nothing has been computed yet",
        "No counter has been read yet.",
    ];
    for (panel, words) in PANELS.iter().zip(said) {
        has(&stage.shown(*panel, (60, 12)), &[words]);
        assert_eq!(stage.with(|cx| panel.rows(cx, &PanelState::default())), 0);
    }
}

#[test]
fn the_busiest_threads_of_a_process_stand_first_and_ended_ones_do_not() {
    use crate::base::event::SubjectFact;
    let mut events = Vec::new();
    let mut told = |at_s: u64, subject, counter, value| {
        let at_ns = at_s * 1_000_000_000;
        events.push(Event::Sample(Sample { at_ns, subject, counter, value }));
    };
    let process = Subject::Process(7);
    told(1, Subject::Thread(99), Counter::CpuUsed, 1.0);
    for (thread, used) in [(1, 0.1), (2, 0.8), (3, 0.3)] {
        told(2, Subject::Thread(thread), Counter::CpuUsed, used);
    }
    told(2, process, Counter::CpuUsed, 1.2);
    told(2, process, Counter::Threads, 3.0);
    for (second, faults) in [(2, 10.0), (4, 40.0)] {
        told(second, process, Counter::MajorFaults, faults);
    }
    for thread in [1, 2, 3, 99] {
        let (subject, name) = (Subject::Thread(thread), format!("worker-{thread}"));
        let details = vec![("process".to_string(), "7".to_string())];
        events.push(Event::Subject(Arc::new(SubjectFact { subject, name, details })));
    }
    let text = Stage::new(fold(&events)).shown(&Devices, SIZE);
    has(&text, &["3 threads", "1.20", "15.0 major faults/s"]);
    let order: Vec<usize> =
        ["worker-2", "worker-3", "worker-1"].iter().filter_map(|name| text.find(name)).collect();
    assert!(order.len() == 3 && order.is_sorted(), "{text}");
    assert!(!text.contains("worker-99"), "{text}");
}

#[test]
fn a_device_without_a_part_in_it_does_not_stall() {
    use crate::app::tui::tests::script::{Script, V0};
    use crate::base::event::Track;
    let mut script = Script::loaded();
    script.ubatch(1);
    let stalls = |events: &[Event]| {
        let text = Stage::new(fold(events)).shown(&Timeline, (60, 12));
        let lane = text.lines().find(|l| l.starts_with("Virtual0")).map(str::to_string);
        lane.is_some_and(|l| l.contains('·'))
    };
    assert!(stalls(&script.events));
    let of_v0 = |e: &Event| matches!(e, Event::Span(s) if s.track == Track::Device(V0));
    script.events.retain(|e| !of_v0(e));
    assert!(!stalls(&script.events));
}

#[test]
fn many_processors_fit() {
    let busy = |core: u16| {
        Event::Sample(Sample {
            at_ns: 1,
            subject: Subject::Core(core),
            counter: Counter::CpuBusy,
            value: if core == 191 { 1.0 } else { 0.0 },
        })
    };
    let mut events: Vec<Event> = (0..192).map(busy).collect();
    let (at_ns, subject, counter, value) = (1, Subject::Host, Counter::CpuBusy, 1.0 / 192.0);
    events.push(Event::Sample(Sample { at_ns, subject, counter, value }));
    let text = Stage::new(fold(&events)).shown(&Devices, (60, 12));
    has(&text, &["192 cores"]);
    assert_eq!((text.matches('▁').count(), text.matches('█').count()), (191 + 1, 1), "{text}");
}
