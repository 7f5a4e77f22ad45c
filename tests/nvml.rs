//! Reads scripted GPUs through the real wrapper of NVIDIA's management library.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/nvml.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpuwhy::advise::measure::Witness;
use gpuwhy::base::clock::now_ns;
use gpuwhy::base::counter::{Counter, Source, Subject};
use gpuwhy::base::event::{Absent, AbsentReason, Event};
use gpuwhy::base::sink::{MemorySink, Sink};
use gpuwhy::observe::telemetry::host::Roots;
use gpuwhy::observe::telemetry::nvml::{Library, Reader, XidWatch, throttle};
use gpuwhy::observe::telemetry::{Readings, Sampler, SamplerOptions, Unread};

use support::Emulator;

const BUSY: &str = "gpus 1\ngpu 0 name Example H100\ngpu 0 utilisation 73 41\n\
    gpu 0 memory 85899345920 12000000000\ngpu 0 bar1 137438953472 1048576\ngpu 0 link 5 16\n\
    gpu 0 link-max 5 16\ngpu 0 replays 3\ngpu 0 pcie-bytes 123456 654321\n\
    gpu 0 clocks 1980 2619\ngpu 0 clocks-max 2100 2619\ngpu 0 throttle 0x4\n\
    gpu 0 throttled 5000 7000\ngpu 0 power 350123\ngpu 0 power-limit 700000\n\
    gpu 0 energy 987654\ngpu 0 temperature 61\ngpu 0 state 0\ngpu 0 ecc 2 1\n\
    gpu 0 process 4242 1073741824 80 python3\n";

fn open(emulator: &Emulator) -> Library {
    Library::open_at(Some(emulator.library().as_os_str())).unwrap()
}

fn failure(emulator: &Emulator) -> Unread {
    match Library::open_at(Some(emulator.library().as_os_str())) {
        Ok(library) => library.count().unwrap_err(),
        Err(why) => why,
    }
}

/// A machine that numbers processes as the driver does, and has none of its own.
fn empty_machine(folder: &Path) -> Roots {
    let ns = folder.join("proc/self/ns");
    fs::create_dir_all(&ns).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("pid:[4026531836]", ns.join("pid")).unwrap();
    Roots::under(folder)
}

/// A reader with its own state, and the events of its readings.
struct Eyes<'a> {
    library: &'a Library,
    reader: Reader,
    readings: Readings,
    at_ns: u64,
    _folder: tempfile::TempDir,
}

impl<'a> Eyes<'a> {
    fn new(library: &'a Library) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let reader = Reader::new(empty_machine(folder.path()), 1);
        let readings = Readings::new(Source::Nvml);
        Self { library, reader, readings, at_ns: now_ns(), _folder: folder }
    }

    fn look(&mut self) -> Seen {
        self.look_after(250_000_000)
    }

    fn look_after(&mut self, ns: u64) -> Seen {
        self.at_ns += ns;
        self.readings.begin(self.at_ns);
        self.reader.read(self.library, &mut self.readings).unwrap();
        Seen(self.readings.take())
    }
}

struct Seen(Vec<Event>);

impl Seen {
    /// The last value of a counter.
    fn value(&self, subject: Subject, counter: Counter) -> Option<f64> {
        let mut values = self.0.iter().rev().filter_map(|e| match e {
            Event::Sample(s) if s.subject == subject && s.counter == counter => Some(s.value),
            _ => None,
        });
        values.next()
    }

    fn absent(&self) -> Vec<&Absent> {
        let absent = self.0.iter().filter_map(|e| match e {
            Event::Absent(absent) => Some(absent),
            _ => None,
        });
        absent.collect()
    }
}

const GPU: Subject = Subject::Gpu(0);

#[test]
fn every_counter_of_a_gpu_is_read() {
    let Some(emulator) = Emulator::new(BUSY) else { return };
    let library = open(&emulator);
    assert_eq!(library.driver_version().unwrap(), "580.95.05");
    let mut eyes = Eyes::new(&library);
    let seen = eyes.look();
    for (counter, value) in [
        (Counter::GpuBusy, 0.73),
        (Counter::GpuMemoryBusy, 0.41),
        (Counter::VramTotal, 85_899_345_920.0),
        (Counter::VramUsed, 12e9),
        (Counter::VramFree, 85_899_345_920.0 - 12e9),
        (Counter::Bar1Total, 137_438_953_472.0),
        (Counter::Bar1Used, 1_048_576.0),
        (Counter::PcieGeneration, 5.0),
        (Counter::PcieWidth, 16.0),
        (Counter::PcieGenerationMax, 5.0),
        (Counter::PcieWidthMax, 16.0),
        (Counter::PcieReplays, 3.0),
        (Counter::PcieSent, 123_456.0),
        (Counter::PcieReceived, 654_321.0),
        (Counter::GpuClock, 1.98e9),
        (Counter::VramClock, 2.619e9),
        (Counter::GpuClockMax, 2.1e9),
        (Counter::VramClockMax, 2.619e9),
        (Counter::ThrottleReasons, 4.0),
        (Counter::ThrottledByPower, 5000.0),
        (Counter::ThrottledByHeat, 7000.0),
        (Counter::Power, 350.123),
        (Counter::PowerLimit, 700.0),
        (Counter::Energy, 987.654),
        (Counter::Temperature, 61.0),
        (Counter::PerformanceState, 0.0),
        (Counter::EccCorrected, 2.0),
        (Counter::EccUncorrected, 1.0),
    ] {
        assert_eq!(seen.value(GPU, counter), Some(value), "{counter:?}");
    }
    assert!(seen.absent().is_empty(), "{:?}", seen.absent());
    let process = Subject::GpuProcess { gpu: 0, pid: 4242 };
    assert_eq!(seen.value(process, Counter::VramUsed), Some(f64::from(1 << 30)));
    assert_eq!(seen.value(process, Counter::GpuBusy), Some(0.8));
    let names: Vec<(Subject, &str)> = seen
        .0
        .iter()
        .filter_map(
            |e| if let Event::Subject(f) = e { Some((f.subject, &f.name[..])) } else { None },
        )
        .collect();
    assert_eq!(names, [(GPU, "Example H100"), (process, "python3")]);
    // Told once.
    assert!(!eyes.look().0.iter().any(|e| matches!(e, Event::Subject(_))));
}

#[test]
fn a_gpu_that_tells_little_is_told_once() {
    let Some(emulator) = Emulator::new("gpus 1\ngpu 0 memory 100 40\n") else { return };
    let library = open(&emulator);
    let mut eyes = Eyes::new(&library);
    let seen = eyes.look();
    assert_eq!(seen.value(GPU, Counter::VramFree), Some(60.0));
    let absent = seen.absent();
    assert!(absent.len() > 15 && absent.iter().all(|a| a.reason == AbsentReason::NotSupported));
    assert!(absent.iter().any(|a| a.counter == Some(Counter::GpuBusy)));
    assert!(eyes.look().absent().is_empty());
    // What comes later is found later.
    emulator.follow("gpus 1\ngpu 0 memory 100 40\ngpu 0 power 5000\n");
    assert_eq!(eyes.look().value(GPU, Counter::Power), None);
    assert_eq!(eyes.look_after(20_000_000_000).value(GPU, Counter::Power), Some(5.0));
}

#[test]
fn rates_of_pcie_are_read_where_totals_are_missing() {
    let Some(emulator) = Emulator::new("gpu 0 memory 2 1\ngpu 0 pcie-rates 7 9\n") else { return };
    let library = open(&emulator);
    let seen = Eyes::new(&library).look();
    assert_eq!(seen.value(GPU, Counter::PcieSentRate), Some(7000.0));
    assert_eq!(seen.value(GPU, Counter::PcieReceivedRate), Some(9000.0));
}

#[test]
fn the_drivers_own_samples_are_denser_than_asking() {
    let script = "gpu 0 utilisation 1 1\ngpu 0 samples 10 20 30 40\n";
    let Some(emulator) = Emulator::new(script) else { return };
    let library = open(&emulator);
    let mut eyes = Eyes::new(&library);
    let shares = |seen: &Seen| -> Vec<(u64, f64)> {
        let busy = |e: &Event| match e {
            Event::Sample(s) if s.counter == Counter::GpuBusy => Some((s.at_ns, s.value)),
            _ => None,
        };
        seen.0.iter().filter_map(busy).collect()
    };
    let first = shares(&eyes.look());
    assert_eq!((first.len(), first[0].1), (1, 0.4));
    std::thread::sleep(Duration::from_millis(400));
    let next = shares(&eyes.look_after(400_000_000));
    assert!(next.len() >= 2 && next.windows(2).all(|w| w[0].0 < w[1].0), "{next:?}");
    assert!(next[0].0 > first[0].0, "{first:?} {next:?}");
}

#[test]
fn a_lost_gpu_is_told_at_once_and_the_others_go_on() {
    let two = "gpus 2\ngpu * memory 100 40\ngpu * power 1000\n";
    let Some(emulator) = Emulator::new(two) else { return };
    let library = open(&emulator);
    let mut eyes = Eyes::new(&library);
    eyes.look();
    emulator.follow(&format!("{two}gpu 1 lost\n"));
    let seen = eyes.look();
    let [absent] = seen.absent()[..] else { panic!("{:?}", seen.absent()) };
    assert_eq!((absent.subject, absent.counter), (Some(Subject::Gpu(1)), None));
    assert_eq!(absent.reason, AbsentReason::DeviceLost);
    assert!(absent.hint.contains("dmesg"), "{absent:?}");
    assert_eq!(seen.value(GPU, Counter::Power), Some(1.0));
    assert_eq!(seen.value(Subject::Gpu(1), Counter::Power), None);
    assert!(eyes.look().absent().is_empty());
    emulator.follow(two);
    let back = eyes.look_after(20_000_000_000);
    assert_eq!(back.value(Subject::Gpu(1), Counter::Power), Some(1.0));
    emulator.follow(&format!("{two}gpu 1 lost\n"));
    assert_eq!(eyes.look().absent().len(), 1);
}

#[test]
fn a_gpu_that_is_lost_while_it_is_read_is_one_fact() {
    let script = "gpu 0 utilisation 9 9\ngpu 0 memory 2 1\ngpu 0 power 5000\n\
                  fail nvmlDeviceGetMemoryInfo_v2 15\n";
    let Some(emulator) = Emulator::new(script) else { return };
    let library = open(&emulator);
    let mut eyes = Eyes::new(&library);
    let seen = eyes.look();
    let lost: Vec<_> =
        seen.absent().into_iter().filter(|a| a.reason == AbsentReason::DeviceLost).collect();
    assert!(lost.len() == 1 && lost[0].counter.is_none(), "{lost:?}");
    assert_eq!(seen.value(GPU, Counter::Power), None);
    // Although some of it can be read each time.
    let again = eyes.look_after(20_000_000_000);
    assert_eq!(again.value(GPU, Counter::GpuBusy), Some(0.09));
    assert!(again.absent().is_empty(), "{:?}", again.absent());
}

#[test]
fn throttling_a_falling_link_and_a_foreign_process_show_in_the_next_reading() {
    let calm = "gpu 0 memory 100 10\ngpu 0 link 4 16\ngpu 0 throttle 0x1\n";
    let Some(emulator) = Emulator::new(calm) else { return };
    let library = open(&emulator);
    let mut eyes = Eyes::new(&library);
    let bits = |seen: &Seen| seen.value(GPU, Counter::ThrottleReasons).unwrap() as u64;
    assert_eq!(throttle::disturbing(bits(&eyes.look())), 0);
    emulator.follow(
        "gpu 0 memory 100 90\ngpu 0 link 1 4\ngpu 0 throttle 0x48\n\
         gpu 0 process 77 - 5 blender\n",
    );
    let seen = eyes.look();
    let words: Vec<&str> = throttle::reasons(bits(&seen)).map(|r| r.id).collect();
    assert_eq!(words, ["hardware-slowdown", "hardware-thermal"]);
    assert_eq!(seen.value(GPU, Counter::PcieWidth), Some(4.0));
    assert_eq!(seen.value(GPU, Counter::VramFree), Some(10.0));
    let process = Subject::GpuProcess { gpu: 0, pid: 77 };
    assert_eq!(seen.value(process, Counter::GpuBusy), Some(0.05));
    assert_eq!(seen.value(process, Counter::VramUsed), None);
    emulator.follow(calm);
    assert_eq!(eyes.look().value(process, Counter::VramUsed), Some(0.0));
}

#[test]
fn every_way_to_fail_is_a_reason_with_a_hint() {
    let missing = Library::open_at(Some("/nowhere/libnvidia-ml.so.1".as_ref())).unwrap_err();
    assert_eq!(missing.reason, AbsentReason::LibraryMissing);
    assert!(missing.hint.contains("NVIDIA_DRIVER_CAPABILITIES"), "{missing:?}");
    for (script, reason) in [
        ("fail nvmlInit_v2 9", AbsentReason::DriverNotLoaded),
        ("fail nvmlInit_v2 4", AbsentReason::NoPermission),
        ("fail nvmlInit_v2 18", AbsentReason::VersionMismatch),
        ("fail nvmlInit_v2 17", AbsentReason::NoPermission),
        ("fail nvmlInit_v2 999", AbsentReason::Unreadable),
        ("gpus 0", AbsentReason::NoDevice),
    ] {
        let Some(emulator) = Emulator::new(script) else { return };
        let why = failure(&emulator);
        assert_eq!(why.reason, reason, "{script}: {why:?}");
        assert!(!why.hint.is_empty(), "{script}");
    }
}

#[test]
fn a_counter_that_may_not_be_read_is_one_fact() {
    let script = "gpu 0 memory 2 1\nfail nvmlDeviceGetPowerUsage 4\n";
    let Some(emulator) = Emulator::new(script) else { return };
    let library = open(&emulator);
    let seen = Eyes::new(&library).look();
    let power = seen.absent().into_iter().find(|a| a.counter == Some(Counter::Power)).unwrap();
    assert_eq!(power.reason, AbsentReason::NoPermission);
}

#[test]
fn a_library_that_lacks_what_its_wrapper_needs_to_end_does_not_end_us() {
    let Some(emulator) = Emulator::without_shutdown("gpu 0 memory 2 1\n") else { return };
    let library = open(&emulator);
    assert_eq!(library.count().unwrap(), 1);
    drop(library);
}

#[test]
fn errors_are_waited_for() {
    let Some(emulator) = Emulator::new("gpus 2\n") else { return };
    let library = open(&emulator);
    let watch = XidWatch::new(&library).unwrap();
    assert_eq!(watch.wait(20).unwrap(), None);
    emulator.follow("gpus 2\ngpu 1 xid 79\n");
    assert_eq!(watch.wait(20).unwrap(), Some((1, 79)));
    assert_eq!(watch.wait(20).unwrap(), None);
    emulator.follow("gpus 2\ngpu 0 lost\n");
    assert_eq!(watch.wait(20).unwrap_err().reason, AbsentReason::DeviceLost);
}

#[test]
fn what_a_gpu_is_connected_to_is_told() {
    let script = "gpus 2\ngpu * memory 2 1\ngpu 0 path 20\ngpu 0 peer 0 5\ngpu 0 numa 1\n\
                  gpu 0 mig 1 2\ngpu 0 bus 00000000:C1:00.0\n";
    let Some(emulator) = Emulator::new(script) else { return };
    let library = open(&emulator);
    let seen = Eyes::new(&library).look();
    let fact = seen.0.iter().find_map(|e| match e {
        Event::Subject(fact) if fact.subject == GPU => Some(Arc::clone(fact)),
        _ => None,
    });
    let fact = fact.unwrap();
    let detail = |name: &str| {
        let detail = fact.details.iter().find(|d| d.0 == name);
        detail.map_or_else(|| panic!("{name}: {fact:?}"), |d| d.1.as_str())
    };
    assert_eq!(detail("pci_bus_id"), "00000000:C1:00.0");
    assert_eq!(detail("path_to_gpu_1"), "several PCIe switches");
    assert_eq!(detail("peer_access_to_gpu_1"), "PCIe");
    assert_eq!((detail("numa_node"), detail("mig"), detail("mig_devices")), ("1", "on", "2"));
}

#[test]
fn a_witness_tells_what_went_on_on_the_targets_gpu() {
    let me = std::process::id();
    let script = format!(
        "gpus 2\ngpu 0 throttle 0x20\ngpu 1 throttle 0x80\ngpu 0 process {me} 1048576 50 us\n\
         gpu 0 process 4242 1073741824 50 python3\ngpu 1 process 4343 5 5 other\n"
    );
    let Some(emulator) = Emulator::new(&script) else { return };
    let folder = tempfile::tempdir().unwrap();
    let roots = empty_machine(folder.path());
    let proc = folder.path().join("proc");
    fs::create_dir_all(proc.join(me.to_string())).unwrap();
    fs::write(proc.join("stat"), "cpu0 1 0 0 9 0 0 0 0\n").unwrap();
    let stat = format!("{me} (x) R 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 9\n");
    fs::write(proc.join(format!("{me}/stat")), stat).unwrap();
    fs::write(proc.join(format!("{me}/status")), "Cpus_allowed_list:\t0\n").unwrap();
    let witness = Witness::of(roots, Some(open(&emulator)));
    let watch = witness.begin(&[]);
    std::thread::sleep(Duration::from_millis(400));
    let conditions = watch.end();
    let told = "python3 (process 4242) on GPU 0 with 1.00 GiB";
    assert_eq!(conditions.foreign_gpu_processes, [told]);
    let [text] = &conditions.throttled[..] else { panic!("{conditions:?}") };
    assert!(text.starts_with("GPU 0: temperature limit, in "), "{text}");
}

#[test]
fn the_sampler_shows_what_happens_within_two_readings() {
    let calm = "gpu 0 memory 100 10\ngpu 0 throttle 0x1\n";
    let Some(emulator) = Emulator::new(calm) else { return };
    let sink = Arc::new(MemorySink::default());
    let options = SamplerOptions {
        every: Duration::from_millis(50),
        sources: vec![Source::Nvml],
        nvml_library: Some(emulator.library().into()),
        ..SamplerOptions::default()
    };
    let theirs: Arc<dyn Sink> = sink.clone();
    let sampler = Sampler::start(&options, &theirs);
    let mut events = Vec::new();
    // Readings that began after a time, up to the first event of a kind.
    let mut readings_until = |from_ns: u64, wanted: &dyn Fn(&Event) -> bool| {
        let given_up = Instant::now() + Duration::from_secs(20);
        let at = loop {
            events.extend(sink.take());
            match events.iter().position(wanted) {
                Some(at) => break at,
                None => assert!(Instant::now() < given_up, "{events:?}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let reading = |e: &&Event| matches!(e, Event::Sample(s) if s.counter == Counter::ReadingTime && s.at_ns > from_ns);
        events[..at].iter().filter(reading).count()
    };
    let reason = |bits: f64| {
        move |e: &Event| {
            matches!(e, Event::Sample(s)
                if s.counter == Counter::ThrottleReasons && s.value == bits)
        }
    };
    readings_until(0, &reason(1.0));
    emulator.follow("gpu 0 memory 100 10\ngpu 0 throttle 0x40\ngpu 0 xid 48\n");
    assert!(readings_until(now_ns(), &reason(64.0)) < 2);
    readings_until(
        0,
        &|e| matches!(e, Event::Sample(s) if s.counter == Counter::Xid && s.value == 48.0),
    );
    emulator.follow("gpu 0 lost\n");
    let lost = |e: &Event| matches!(e, Event::Absent(a) if a.reason == AbsentReason::DeviceLost);
    assert!(readings_until(now_ns(), &lost) < 2);
    sampler.stop();
}
