//! Recordings of processes that are killed, and of long sessions in bounded memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]
#![cfg(unix)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gpuwhy::base::counter::{Counter, Subject};
use gpuwhy::base::event::{DeviceIndex, Event, Sample, Span, SpanKind, Track};
use gpuwhy::base::sink::Sink;
use gpuwhy::observe::record::export::{chrome, prometheus};
use gpuwhy::observe::record::{Recorder, Recording};

/// Set in a child, to the file that it records into until it is killed.
const CHILD: &str = "GPUWHY_RECORDING_CHILD";

fn sample(number: u64) -> Event {
    let (subject, counter) = (Subject::Gpu(0), Counter::Energy);
    Event::Sample(Sample { at_ns: number * 1000, subject, counter, value: number as f64 })
}

fn record_until_killed(path: &Path) -> ! {
    let recorder = Recorder::create(path, "killed").unwrap();
    for number in 0.. {
        recorder.record(sample(number));
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    unreachable!()
}

#[test]
fn what_a_killed_process_had_written_is_read() {
    if let Some(path) = std::env::var_os(CHILD) {
        record_until_killed(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5_u64 {
        let path = folder.path().join(format!("{round}.gpuwhy"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["what_a_killed_process_had_written_is_read", "--exact", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let given_up = Instant::now() + Duration::from_secs(20);
        let frames = |path: &Path| path.metadata().is_ok_and(|m| m.len() > 20_000);
        while !frames(&path) {
            assert!(Instant::now() < given_up, "nothing was recorded");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Anywhere between two frames, or inside one.
        std::thread::sleep(Duration::from_millis(round * 37));
        child.kill().unwrap();
        child.wait().unwrap();
        let recording = Recording::open(&path).unwrap();
        let mut count = 0;
        for event in recording {
            assert_eq!(event, sample(count));
            count += 1;
        }
        assert!(count > 500, "only {count} events");
    }
}

/// Memory of this process that is present, in bytes.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// An hour of 120 samples and 40 spans a second, as fast as it can be recorded.
#[test]
fn an_hour_is_recorded_and_read_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hour.gpuwhy");
    let recorder = Recorder::create(&path, "an hour").unwrap();
    assert!(Recorder::create(&path, "again").is_err());
    let before = resident_bytes();
    let (mut sent, begin) = (0_u64, Instant::now());
    for second in 0..3600_u64 {
        for part in 0..160_u64 {
            let at_ns = second * 1_000_000_000 + part * 6_000_000;
            recorder.record(if part % 4 == 0 {
                let kind = SpanKind::Compute { ubatch: second, split: 0 };
                let track = Track::Device(DeviceIndex(0));
                let (start_ns, end_ns) = (at_ns, at_ns + 1_000_000);
                Event::Span(Span { track, kind, start_ns, end_ns, bytes: 4096, tokens: 1 })
            } else {
                sample(at_ns / 1000)
            });
            sent += 1;
        }
        // Real sessions are slower; without a pause the queue would overflow, and tell so.
        while recorder.state().events + 20_000 < sent {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    let state = recorder.finish();
    let took = begin.elapsed();
    assert_eq!((state.events, state.lost, &state.stopped), (sent, 0, &None));
    let begin = Instant::now();
    let mut recording = Recording::open(&path).unwrap();
    assert_eq!(recording.by_ref().count() as u64, sent);
    assert_eq!(recording.cut(), None);
    let read = begin.elapsed();
    let begin = Instant::now();
    recording.seek(3_500_000_000_000).unwrap();
    let last = recording.by_ref().count() as u64;
    assert!((16_000..18_000).contains(&last), "{last} events of the last 100 s");
    println!(
        "{sent} events: recorded in {took:?}, {:.1} bytes each, read in {read:?}, seek in {:?}",
        state.bytes as f64 / sent as f64,
        begin.elapsed()
    );
    prometheus(Recording::open(&path).unwrap(), &mut std::io::sink()).unwrap();
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        let grown = after.saturating_sub(before) >> 20;
        println!("memory grew by {grown} MiB");
        assert!(grown < 32, "memory grew by {grown} MiB");
    }
    chrome(Recording::open(&path).unwrap().take(100_000), &mut std::io::sink()).unwrap();
}
