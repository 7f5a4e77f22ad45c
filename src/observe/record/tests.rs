//! Recordings that end well, that are cut anywhere, and that cannot be written.

use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};

use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{
    Absent, AbsentReason, DeviceFact, DeviceIndex, Event, InputFact, Line, NodeFact, OutputFact,
    PlanFact, RequestStep, Sample, ServerFact, Span, SpanKind, SplitFact, Step, SubjectFact,
    SyncKind, Track, Warning,
};
use crate::base::setup::SetupFact;
use crate::base::sink::Sink;

use super::format::{Body, FRAME_BYTES, HEADER_BYTES, STANDING, frame, header};
use super::*;

/// Memory that takes only so many bytes.
#[derive(Clone)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    bytes_max: usize,
}

impl Disk {
    fn new(bytes_max: usize) -> Self {
        Self { bytes: Arc::default(), bytes_max }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Write for Disk {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.lock().unwrap();
        let fits = data.len().min(self.bytes_max - bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        bytes.extend_from_slice(&data[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Disk {
    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().truncate(bytes as usize);
        Ok(())
    }
}

fn sample(at_ns: u64) -> Event {
    let (subject, counter) = (Subject::Gpu(1), Counter::Power);
    Event::Sample(Sample { at_ns, subject, counter, value: at_ns as f64 })
}

/// One of each kind.
pub(super) fn one_of_each() -> Vec<Event> {
    let device = |index: u8, name: &str| {
        Event::Device(DeviceFact {
            index: DeviceIndex(index),
            name: name.to_string(),
            description: "made up".to_string(),
            is_virtual: false,
            memory_bytes_total: 8,
            memory_bytes_free: 4,
        })
    };
    let node = NodeFact {
        name: "l_out-3".to_string(),
        op: "ADD".to_string(),
        tag: "1.wgt0".to_string(),
        cause: "its weight lives there".to_string(),
        ne: [64, 1, 1, 1],
        weight_bytes: 9,
    };
    let input = InputFact {
        tensor: "l_out-2".to_string(),
        from: DeviceIndex(1),
        bytes: 256,
        cause: "made on CPU".to_string(),
    };
    let split = SplitFact {
        device: DeviceIndex(0),
        nodes: vec![node],
        cause: "the device changes".to_string(),
        inputs: vec![input],
    };
    let output = OutputFact { tensor: "logits".to_string(), from: DeviceIndex(0) };
    let plan =
        PlanFact { id: 7, n_tokens: 1, n_nodes: 1, splits: vec![split], outputs: vec![output] };
    let span = |kind, track, start_ns, end_ns, bytes| {
        Event::Span(Span { track, kind, start_ns, end_ns, bytes, tokens: 1 })
    };
    let gpu = Track::Device(DeviceIndex(0));
    let (from, to) = (DeviceIndex(1), DeviceIndex(0));
    let copy = SpanKind::Copy { ubatch: 3, split: 0, input: 0, from, to, blocking: true };
    let wait = SpanKind::Wait { ubatch: 3, split: 0, sync: SyncKind::Event };
    let ubatch = SpanKind::Ubatch { ubatch: 3, plan: 7, capacity: 8, sequences: 1, prompt: false };
    let name = "Example \"GPU\"".to_string();
    let details = vec![("uuid".to_string(), "GPU-1".to_string())];
    vec![
        device(0, "CUDA0"),
        device(1, "CPU"),
        Event::Plan(Arc::new(plan)),
        Event::Subject(Arc::new(SubjectFact { subject: Subject::Gpu(1), name, details })),
        span(wait, gpu, 1_000, 1_500, 0),
        span(copy, gpu, 1_500, 2_000, 256),
        span(SpanKind::Compute { ubatch: 3, split: 0 }, gpu, 2_000, 4_000, 9),
        span(ubatch, Track::Host, 900, 4_200, 0),
        span(SpanKind::Sampling, Track::Host, 4_300, 4_400, 0),
        sample(4_500),
        Event::Absent(Absent {
            at_ns: 4_600,
            source: Source::Nvml,
            subject: Some(Subject::Gpu(0)),
            counter: Some(Counter::Energy),
            reason: AbsentReason::NotSupported,
            text: "no".to_string(),
            hint: String::new(),
        }),
        Event::Warning(Warning { at_ns: 4_700, text: "slow, \"very\"".to_string() }),
        Event::Setup(Arc::new(SetupFact::default())),
        Event::Server(Arc::new(ServerFact { at_ns: 4_800, ..ServerFact::default() })),
        Event::Line(Line { at_ns: 4_900, text: "offloaded 2/3 layers".to_string() }),
        Event::Request(RequestStep { at_ns: 5_000, request: 1, step: Step::Started { slot: 2 } }),
    ]
}

fn recorded(events: Vec<Event>) -> Vec<u8> {
    let disk = Disk::new(usize::MAX);
    let recorder = Recorder::start(Box::new(disk.clone()), "a test").unwrap();
    let count = events.len() as u64;
    for event in events {
        recorder.record(event);
    }
    let state = recorder.finish();
    assert_eq!((state.events, state.lost, &state.stopped), (count, 0, &None));
    assert_eq!(state.bytes, disk.bytes().len() as u64);
    disk.bytes()
}

#[test]
fn what_is_recorded_is_read() {
    let bytes = recorded(one_of_each());
    let mut recording = Recording::read(Cursor::new(bytes)).unwrap();
    assert_eq!(recording.about().title, "a test");
    let read: Vec<Event> = recording.by_ref().collect();
    assert_eq!(read, one_of_each());
    assert_eq!((recording.cut(), recording.last_ns() >= 4_700), (None, true));
}

#[test]
fn a_file_cut_at_any_byte_or_damaged_gives_what_was_before() {
    // Two frames of events.
    let mut bytes = recorded(one_of_each());
    let first = bytes.len();
    let events = vec![sample(5_000), sample(6_000)];
    bytes.extend(frame(&Body::Events { lost: 0, events }, 0, 6_000).unwrap());
    for length in 0..=bytes.len() {
        let part = bytes[..length].to_vec();
        let Ok(mut recording) = Recording::read(Cursor::new(part)) else {
            assert!(length < HEADER_BYTES);
            continue;
        };
        let read = recording.by_ref().count();
        let whole = one_of_each().len();
        let expected = if length == bytes.len() {
            whole + 2
        } else if length >= first {
            whole
        } else {
            0
        };
        assert_eq!(read, expected, "cut at {length}");
        if let Some(cut) = recording.cut() {
            assert_eq!((cut.bytes_read + cut.bytes_left) as usize, length);
            assert!(cut.bytes_left > 0);
        }
    }
    for at in (HEADER_BYTES..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let mut recording = Recording::read(Cursor::new(damaged)).unwrap();
        let read = recording.by_ref().count();
        assert!(recording.cut().is_some(), "damage at {at} goes unnoticed");
        assert!(read == 0 || (at >= first && read == one_of_each().len()), "{at}: {read}");
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_leaves_it_whole() {
    let disk = Disk::new(400);
    let recorder = Recorder::start(Box::new(disk.clone()), "small").unwrap();
    for at_ns in 0..40 {
        recorder.record(sample(at_ns));
        // So that one frame is written before the one that does not fit.
        while at_ns == 4 && recorder.state().events < 5 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    let state = recorder.finish();
    assert!(
        state.stopped.as_deref().is_some_and(|s| s.contains("could not be written")),
        "{state:?}"
    );
    assert_eq!(state.events + state.lost, 40);
    recorder.record(sample(99));
    assert_eq!(recorder.state().lost, state.lost + 1);
    let mut recording = Recording::read(Cursor::new(disk.bytes())).unwrap();
    assert_eq!(recording.by_ref().count() as u64, state.events);
    assert!(state.events >= 5 && recording.cut().is_none(), "{state:?}");
}

#[test]
fn seeking_keeps_what_stands_for_the_whole_session() {
    let mut bytes = header().to_vec();
    let mut add = |body: &Body, flags, last_ns| bytes.extend(frame(body, flags, last_ns).unwrap());
    add(&Body::About(About::default()), STANDING, 0);
    add(&Body::Events { lost: 0, events: one_of_each() }, STANDING, 5_000);
    for at_ns in [10_000, 20_000, 30_000] {
        add(&Body::Events { lost: 0, events: vec![sample(at_ns)] }, 0, at_ns);
    }
    let mut recording = Recording::read(Cursor::new(bytes)).unwrap();
    for (from_ns, samples) in [(15_000, 2), (20_000, 2), (20_001, 1), (99_000, 0)] {
        recording.seek(from_ns).unwrap();
        let read: Vec<Event> = recording.by_ref().collect();
        // Two devices, a plan, a subject, an absence, a setup and a server come first.
        assert!(matches!(read[0], Event::Device(_)));
        assert_eq!(read.len(), 7 + samples, "{from_ns}");
        assert!(read[7..].iter().all(|e| e.at_ns() >= Some(from_ns)));
    }
    recording.seek(0).unwrap();
    assert_eq!(recording.count(), one_of_each().len() + 3);
}

#[test]
fn other_files_and_other_versions_are_refused() {
    let refused = |bytes: &[u8]| Recording::read(Cursor::new(bytes.to_vec())).unwrap_err();
    assert!(matches!(refused(b"{}"), RecordError::NotARecording));
    assert!(matches!(refused(b"GGUF00000000000000"), RecordError::NotARecording));
    let mut bytes = recorded(vec![]);
    bytes[8] = 9;
    let error = refused(&bytes);
    assert!(matches!(error, RecordError::Version { found: 9 }));
    assert_eq!(error.hint(), Some("use a newer gpuwhy to read it"));
}

#[test]
fn events_that_come_too_fast_are_counted_and_told() {
    /// Takes its time.
    struct Slow(Disk);
    impl Write for Slow {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            std::thread::sleep(std::time::Duration::from_millis(30));
            self.0.write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Storage for Slow {
        fn truncate(&mut self, bytes: u64) -> io::Result<()> {
            self.0.truncate(bytes)
        }
    }
    let disk = Disk::new(usize::MAX);
    let recorder = Recorder::start(Box::new(Slow(disk.clone())), "fast").unwrap();
    for at_ns in 0..200_000 {
        recorder.record(sample(at_ns));
    }
    let state = recorder.finish();
    assert!(state.lost > 0 && state.events + state.lost == 200_000, "{state:?}");
    let recording = Recording::read(Cursor::new(disk.bytes())).unwrap();
    let told = recording
        .filter_map(|e| match e {
            Event::Warning(w) => w.text.split(' ').next()?.parse::<u64>().ok(),
            _ => None,
        })
        .sum::<u64>();
    assert_eq!(told, state.lost);
}

/// Fails when the encoding changes: then [`VERSION`] must change with it.
#[test]
fn the_encoding_is_that_of_the_version() {
    // A setup is JSON, which may grow.
    let mut events = one_of_each();
    events.retain(|e| !matches!(e, Event::Setup(_)));
    let bytes = frame(&Body::Events { lost: 2, events }, 0, 0).unwrap();
    let sum = crc32fast::hash(&bytes[FRAME_BYTES..]);
    assert_eq!((VERSION, bytes.len(), sum), (1, 345, 191_616_578));
}
