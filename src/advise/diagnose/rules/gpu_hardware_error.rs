//! `gpu-hardware-error`: the kernel reports an Xid error, or the GPU left the bus.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::lately::{gpu_name, seconds_in};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{Absent, AbsentReason};
use crate::observe::session::Session;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the GPU or its connection reports a fault",
    doc: Doc {
        detects: "The NVIDIA driver reports an Xid error, or CUDA says that the GPU is lost.",
        costs: "Running requests fail, and the GPU may stay unusable until the machine is \
            restarted.",
        evidence: "\"NVRM: Xid (PCI:...): N\" lines of the kernel, or \"GPU is lost\" of CUDA or \
            NVML; of a GPU that is watched, the driver's own report of the error. Xid 79 is a GPU that left the bus, 48 and 63 to 95 are about memory, 13 and 31 \
            usually about software, 43 a process that was stopped.",
        fix: "Xid 79: power supply, cables, riser, heat, or a link speed that is too high. Memory \
            errors: reset the GPU (`nvidia-smi -r`) and have it checked when they return. Xid 13, \
            31 and 43 follow from software: update the engine and the driver.",
        example: r"kernel: NVRM: Xid (PCI:0000:0b:00): 79, pid=4122, name=ollama, GPU has fallen off the bus.",
    },
    follows_from: &[],
    check,
};

const ID: &str = "gpu-hardware-error";

fn check(facts: &Facts) -> Verdict {
    if let Some(finding) = facts.live.and_then(watched) {
        return finding.into();
    }
    let Some(notice) = facts.any_notice(&["nvidia-xid", "cuda-device-lost"]) else {
        return Verdict::Clear;
    };
    let xid: Option<u32> = notice.fields.get("xid").and_then(|x| x.parse().ok());
    let (what, confidence) = meaning(xid);
    let number = xid.map(|x| format!(" (Xid {x})")).unwrap_or_default();
    Finding::problem(ID, Impact::Failure, confidence, what)
        .because(format!(
            "The driver logged an error of the GPU{number}, {} time(s). Processes that use the \
                GPU fail from then on; the engine cannot recover by itself.",
            notice.count
        ))
        .seen(Evidence::line(notice.first))
        .fix_all(fixes())
        .into()
}

/// What an error's number says, and how sure that is.
fn meaning(xid: Option<u32>) -> (&'static str, f64) {
    match xid {
        Some(79) => ("the GPU left the bus (Xid 79): power, cable, riser or heat", 0.95),
        Some(48 | 63..=64 | 92 | 94..=95) => ("the GPU's memory has errors", 0.9),
        // These follow from what a program did as often as from a fault of the card.
        Some(13 | 31 | 43 | 45 | 69) => ("a program did something that the GPU refused", 0.6),
        Some(_) => ("the NVIDIA driver reports an error of the GPU", 0.7),
        None => ("the GPU is lost: CUDA cannot reach it any more", 0.9),
    }
}

fn fixes() -> [Fix; 2] {
    [
        Fix::system("see all of them", "sudo dmesg -T | grep -i xid")
            .why("the number and what came before tell which part failed", ""),
        Fix::system("reset the GPU", "sudo nvidia-smi -r    # or restart the machine")
            .why("the driver starts it anew", "`nvidia-smi` lists the GPU"),
    ]
}

/// An error that the driver reported while the GPU was watched, or the GPU that is gone.
fn watched(session: &Session) -> Option<Finding> {
    let gpus = (0..=u8::MAX).map(Subject::Gpu);
    let xid = gpus.filter_map(|gpu| Some((gpu, session.counters.get(gpu, Counter::Xid)?)));
    if let Some((gpu, series)) = xid.max_by_key(|(_, s)| s.last().at_ns) {
        return Some(reported(session, gpu, series.last().value as u32, series.last().at_ns));
    }
    let lost = session.absent.values().find(|a| is_lost(a));
    lost.map(|absent| lost_gpu(session, absent)).or_else(|| memory_errors(session))
}

fn is_lost(absent: &Absent) -> bool {
    absent.source == Source::Nvml && absent.reason == AbsentReason::DeviceLost
}

fn name_of(session: &Session, subject: Option<Subject>) -> String {
    match subject {
        Some(Subject::Gpu(gpu)) => gpu_name(session, gpu),
        _ => "a GPU".to_string(),
    }
}

fn reported(session: &Session, gpu: Subject, number: u32, at_ns: u64) -> Finding {
    let (what, confidence) = meaning(Some(number));
    let name = name_of(session, Some(gpu));
    let number = format!("Xid {number}");
    let title = if what.contains(&number) {
        format!("{name}: {what}")
    } else {
        format!("{name}: {what} ({number})")
    };
    Finding::problem(ID, Impact::Failure, confidence, title)
        .because(
            "The driver reported the error while the GPU was watched. Work that was on the GPU is lost, \
             and processes that use it may fail from then on.",
        )
        .seen(Evidence::at(
            Place::Counter(gpu, Counter::Xid),
            format!("{number} at {:.1} s", seconds_in(session, at_ns)),
        ))
        .fix_all(fixes())
}

fn lost_gpu(session: &Session, absent: &Absent) -> Finding {
    let name = name_of(session, absent.subject);
    let at = format!("since {:.1} s: {}", seconds_in(session, absent.at_ns), absent.text);
    let evidence = match absent.subject {
        Some(gpu) => Evidence::at(Place::Counter(gpu, Counter::GpuBusy), at),
        None => Evidence::figure(at),
    };
    let finding = Finding::problem(ID, Impact::Failure, 0.95, format!("{name} is lost"))
        .because(format!(
            "The driver cannot reach the GPU any more. Whatever used it fails. {}",
            absent.hint
        ))
        .seen(evidence);
    finding.fix_all(fixes())
}

/// Errors of the memory that could not be corrected, and came while it was watched.
fn memory_errors(session: &Session) -> Option<Finding> {
    let of = Counter::EccUncorrected;
    let grew = session.counters.gpus().find_map(|gpu| {
        let series = session.counters.get(Subject::Gpu(gpu), of)?;
        let more = series.last().value - series.first.value;
        (more > 0.0).then_some((gpu, more))
    });
    let (gpu, more) = grew?;
    let title = format!("the memory of {} has errors", gpu_name(session, gpu));
    Some(
        Finding::problem(ID, Impact::Failure, 0.9, title)
            .because("Errors that the memory's checks could not correct came while it was watched.")
            .seen(Evidence::at(
                Place::Counter(Subject::Gpu(gpu), of),
                format!("{more:.0} more that were not corrected"),
            ))
            .fix_all(fixes()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    const GPU: Subject = Subject::Gpu(1);

    #[test]
    fn an_error_that_the_driver_reports_is_found_at_once() {
        let mut scene = Scene::new();
        scene.sample(GPU, Counter::Power, 100.0);
        assert_eq!(check(&scene.facts()), Verdict::Clear);
        scene.tick().sample(GPU, Counter::Xid, 48.0);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        assert_eq!(found.title, "GPU 1: the GPU's memory has errors (Xid 48)");
        assert_eq!((found.impact, &*found.evidence[0].text), (Impact::Failure, "Xid 48 at 0.2 s"));
    }

    #[test]
    fn a_lost_gpu_is_found_until_it_is_back() {
        let mut scene = Scene::new();
        scene.name(GPU, "Example H100").sample(GPU, Counter::Power, 100.0);
        scene.tick().absent(Source::Nvml, Some(GPU), AbsentReason::DeviceLost);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        assert_eq!(found.title, "GPU 1 (Example H100) is lost");
        scene.tick().sample(GPU, Counter::Power, 100.0);
        assert_eq!(check(&scene.facts()), Verdict::Clear);
    }

    #[test]
    fn a_counter_that_is_missing_is_no_fault() {
        let mut scene = Scene::new();
        scene.absent(Source::Nvml, Some(GPU), AbsentReason::NotSupported);
        scene.absent(Source::Nvml, None, AbsentReason::LibraryMissing);
        for errors in [3.0, 3.0] {
            scene.tick().sample(GPU, Counter::EccUncorrected, errors);
        }
        assert_eq!(check(&scene.facts()), Verdict::Clear);
        scene.tick().sample(GPU, Counter::EccUncorrected, 4.0);
        assert!(check(&scene.facts()).finding().is_some());
    }
}
