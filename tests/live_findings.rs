//! What happens to a GPU while it is watched becomes a finding within two readings: the scripted
//! management library, read as it is read live, folded into a session, judged by all rules.
//!
//! Readings are counted, not timed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/nvml.rs"]
mod support;

use std::fs;
use std::sync::Arc;

use gpuwhy::advise::diagnose::{Diagnosis, Facts, Finding, Kind, diagnose};
use gpuwhy::base::counter::{Counter, Source, Subject};
use gpuwhy::base::event::{AbsentReason, Event, Sample, ServerFact};
use gpuwhy::observe::session::Session;
use gpuwhy::observe::telemetry::Readings;
use gpuwhy::observe::telemetry::host::Roots;
use gpuwhy::observe::telemetry::nvml::{Library, Reader, XidWatch};

use support::Emulator;

/// The process that is watched.
const OURS: u32 = 4242;

const CALM: &str = "gpus 2\ngpu * memory 85899345920 12000000000\ngpu * link 5 16\n\
    gpu * link-max 5 16\ngpu * clocks 1980 2619\ngpu * clocks-max 2100 2619\n\
    gpu * temperature 61\ngpu * utilisation 93 41\ngpu * throttle 0x1\ngpu * power 350123\ngpu * power-limit 700000\n\
    gpu 0 process 4242 10737418240 80 llama-server\n";

/// A watched server on a machine with two scripted GPUs.
struct Watch {
    emulator: Emulator,
    library: Library,
    reader: Reader,
    readings: Readings,
    session: Session,
    at_ns: u64,
    _folder: tempfile::TempDir,
}

impl Watch {
    /// Two readings of GPUs that are well; `None` where no emulator can be built.
    fn begin() -> Option<Self> {
        let emulator = Emulator::new(CALM)?;
        let library = Library::open_at(Some(emulator.library().as_os_str())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ns = folder.path().join("proc/self/ns");
        fs::create_dir_all(&ns).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("pid:[4026531836]", ns.join("pid")).unwrap();
        let mut watch = Self {
            emulator,
            library,
            // Processes are counted by their own readings, which are fewer live.
            reader: Reader::new(Roots::under(folder.path()), 1),
            readings: Readings::new(Source::Nvml),
            session: Session::new(),
            at_ns: 1_000_000_000,
            _folder: folder,
        };
        let server = ServerFact {
            at_ns: watch.at_ns,
            engine: "llama.cpp".to_string(),
            pid: Some(OURS),
            working_pids: vec![OURS],
            ..ServerFact::default()
        };
        watch.session.take(&Event::Server(Arc::new(server)));
        watch.read();
        watch.read();
        let said = watch.diagnosis();
        assert!(said.findings.is_empty(), "{:?}", said.findings);
        Some(watch)
    }

    fn read(&mut self) {
        self.at_ns += 250_000_000;
        self.readings.begin(self.at_ns);
        self.reader.read(&self.library, &mut self.readings).unwrap();
        for event in self.readings.take() {
            self.session.take(&event);
        }
    }

    fn diagnosis(&self) -> Diagnosis {
        diagnose(&Facts::of_session(&self.session))
    }

    fn finding(&self, rule: &str) -> Option<Finding> {
        let said = self.diagnosis();
        let all = said.findings.into_iter().chain(said.consequences.into_iter().map(|c| c.0));
        all.chain(said.benign).find(|f| f.rule == rule)
    }

    /// What a rule finds after the script has changed, within two readings.
    fn within_two(&mut self, script: &str, rule: &str) -> Finding {
        assert_eq!(self.finding(rule), None, "before");
        self.emulator.follow(script);
        for _ in 0..2 {
            self.read();
            if let Some(found) = self.finding(rule) {
                return found;
            }
        }
        panic!("{rule} was not found within two readings: {:?}", self.diagnosis().findings)
    }
}

/// The calm script with one line changed, or added.
fn with(line: &str) -> String {
    format!("{CALM}{line}\n")
}

#[test]
fn throttling_is_found_within_two_readings_and_gone_after_it() {
    let Some(mut watch) = Watch::begin() else { return };
    let hot = with("gpu 1 throttle 0x48\ngpu 1 clocks 990 2619\ngpu 1 temperature 91");
    let found = watch.within_two(&hot, "gpu-power-cap");
    assert!(found.title.starts_with("GPU 1 "), "{}", found.title);
    assert!(found.title.contains("hardware slowdown by heat"), "{}", found.title);
    let told: Vec<&str> = found.evidence.iter().map(|e| &*e.text).collect();
    assert!(told.contains(&"clock 990 of 2100 MHz") && told.contains(&"91 °C"), "{told:?}");
    watch.emulator.follow(CALM);
    watch.read();
    assert_eq!(watch.finding("gpu-power-cap"), None);
}

#[test]
fn a_width_that_falls_is_found_within_two_readings() {
    let Some(mut watch) = Watch::begin() else { return };
    let found = watch.within_two(&with("gpu 0 link 5 4"), "pcie-link-degraded");
    assert!(found.title.ends_with("fell from 16 to 4 lanes"), "{}", found.title);
}

#[test]
fn a_link_that_sleeps_is_no_fault() {
    let Some(mut watch) = Watch::begin() else { return };
    let asleep = with("gpu 0 link 1 16\ngpu 0 utilisation 0 0");
    let found = watch.within_two(&asleep, "pcie-link-degraded");
    assert_eq!(found.kind, Kind::Benign, "{found:?}");
    watch.emulator.follow(&with("gpu 0 link 1 16"));
    watch.read();
    watch.read();
    let found = watch.finding("pcie-link-degraded").unwrap();
    assert_eq!(found.kind, Kind::Problem, "{found:?}");
}

#[test]
fn a_lost_gpu_is_found_within_two_readings() {
    let Some(mut watch) = Watch::begin() else { return };
    let found = watch.within_two(&with("gpu 1 lost"), "gpu-hardware-error");
    assert!(found.title.ends_with("is lost"), "{}", found.title);
    assert!(watch.session.absent.values().any(|a| a.reason == AbsentReason::DeviceLost));
    assert_eq!(watch.diagnosis().findings[0].rule, "gpu-hardware-error", "it comes first");
}

#[test]
fn an_error_of_the_driver_is_found_at_once() {
    let Some(mut watch) = Watch::begin() else { return };
    watch.emulator.follow(&with("gpu 1 xid 79"));
    let xid = XidWatch::new(&watch.library).unwrap();
    let (gpu, number) = xid.wait(20).unwrap().unwrap();
    let (subject, counter, value) = (Subject::Gpu(gpu), Counter::Xid, number as f64);
    let sample = Sample { at_ns: watch.at_ns, subject, counter, value };
    watch.session.take(&Event::Sample(sample));
    let found = watch.finding("gpu-hardware-error").unwrap();
    assert!(found.title.contains("left the bus (Xid 79)"), "{}", found.title);
}

#[test]
fn a_foreign_process_is_found_within_two_readings_and_gone_with_it() {
    let Some(mut watch) = Watch::begin() else { return };
    let script = with("gpu 0 process 77 4294967296 35 blender");
    let found = watch.within_two(&script, "vram-used-by-other-process");
    let told = "blender (process 77) has taken 4.00 GiB of GPU 0";
    assert!(found.title.starts_with(told), "{}", found.title);
    watch.emulator.follow(CALM);
    watch.read();
    assert_eq!(watch.finding("vram-used-by-other-process"), None);
}
