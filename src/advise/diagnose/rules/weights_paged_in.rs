//! `weights-paged-in`: weights are read from storage, or from swap, while text is generated.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::lately::{Growth, decoding_since, growth_since, watched_pids};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::counter::{Counter, Subject};
use crate::base::units::Bytes;
use crate::observe::session::Session;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "weights are read from storage while text is generated",
    doc: Doc {
        detects: "A watched process that reads from storage, or gets pages back from swap, all the time \
            while it generates text.",
        costs: "Every token needs all weights that the CPU computes with. When main memory does not \
            hold them, the system drops some and reads them again for the next token: storage is ten to \
            a hundred times slower than memory.",
        evidence: "Pages that had to be read (major faults) and bytes read from storage, or bytes read \
            back from swap, that rise in several samples while tokens are generated. Reading while a \
            model loads, or the first tokens after it, is how mapped files work and is none.",
        fix: "Weights that fit memory: a smaller quantisation, more layers on the GPU, a smaller \
            context, or other programs closed. `--mlock` keeps what fits; `--no-mmap` makes a load fail \
            instead of a run being slow.",
        example: "820 MiB/s are read from storage while text is generated",
    },
    follows_from: &[],
    check,
};

const ID: &str = "weights-paged-in";

/// Less than this is a log file or the like.
const READ_MIN_PER_S: f64 = 4e6;

/// Faults that are felt.
const FAULTS_MIN_PER_S: f64 = 50.0;

/// Samples in which it must rise.
const STEPS_MIN: usize = 3;

fn check(facts: &Facts) -> Verdict {
    let Some(session) = facts.live else { return Verdict::Clear };
    let Some(since_ns) = decoding_since(session) else { return Verdict::Clear };
    let pids = watched_pids(session);
    let mut told = false;
    for pid in pids {
        let process = Subject::Process(pid);
        let faults = growth_since(session, process, Counter::MajorFaults, since_ns);
        let Some(faults) = faults else { continue };
        told |= faults.seconds >= 1.0;
        let read = growth_since(session, process, Counter::DiskRead, since_ns);
        if let Some(finding) = from_storage(session, process, faults, read) {
            return finding.into();
        }
    }
    let swap = growth_since(session, Subject::Host, Counter::SwapIn, since_ns);
    match swap {
        Some(swap) if swap.steps >= STEPS_MIN && swap.per_s() >= READ_MIN_PER_S => {
            from_swap(session, swap).into()
        }
        _ if told => Verdict::Clear,
        _ => Verdict::need(
            "whether weights are read from storage while text is generated",
            "a second more of samples of the process while it generates",
        ),
    }
}

fn from_storage(
    session: &Session,
    process: Subject,
    faults: Growth,
    read: Option<Growth>,
) -> Option<Finding> {
    let bytes = read.map(|r| r.per_s());
    let by_bytes = bytes.is_some_and(|b| b >= READ_MIN_PER_S);
    // Only the owner of a process may see what it reads; then the faults must do.
    if faults.steps < STEPS_MIN
        || faults.per_s() < FAULTS_MIN_PER_S
        || (bytes.is_some() && !by_bytes)
    {
        return None;
    }
    let rate = match bytes {
        Some(b) => format!("{}/s are read from storage", Bytes(b as u64)),
        None => format!("{:.0} pages a second are read from storage", faults.per_s()),
    };
    let finding = Finding::problem(
        ID,
        Impact::Slower(share(session)),
        if by_bytes { 0.9 } else { 0.7 },
        format!("{rate} while text is generated"),
    )
    .because(format!(
        "Mapped weights that main memory does not hold are read again for every token. {}",
        memory_words(session)
    ))
    .seen(Evidence::at(
        Place::Counter(process, Counter::MajorFaults),
        format!("{:.0} pages had to be read in {:.1} s", faults.amount, faults.seconds),
    ))
    .seen_if(read.map(|r| {
        Evidence::at(
            Place::Counter(process, Counter::DiskRead),
            format!("{} read from storage in {:.1} s", Bytes(r.amount as u64), r.seconds),
        )
    }));
    Some(finding.fix_all(fixes()))
}

fn from_swap(session: &Session, swap: Growth) -> Finding {
    let rate = Bytes(swap.per_s() as u64);
    Finding::problem(
        ID,
        Impact::Slower(share(session)),
        0.8,
        format!("{rate}/s come back from swap while text is generated"),
    )
    .because(format!(
        "Main memory does not hold what is needed, so parts of it go to swap and come back. {}",
        memory_words(session)
    ))
    .seen(Evidence::at(
        Place::Counter(Subject::Host, Counter::SwapIn),
        format!("{} in {:.1} s", Bytes(swap.amount as u64), swap.seconds),
    ))
    .fix_all(fixes())
}

/// What the system itself says that tasks waited for storage, else a guess.
fn share(session: &Session) -> f64 {
    let pressure = session.value(Subject::Host, Counter::PressureIo);
    pressure.map_or(0.5, |p| p.clamp(0.2, 0.95))
}

fn memory_words(session: &Session) -> String {
    let host = |counter| session.value(Subject::Host, counter).map(|v| Bytes(v as u64));
    let limit = host(Counter::CgroupMemoryMax).zip(host(Counter::CgroupMemory));
    match (limit, host(Counter::MemoryAvailable)) {
        (Some((max, used)), _) => format!("The control group uses {used} of its {max}."),
        (None, Some(free)) => format!("{free} of memory are available."),
        (None, None) => String::new(),
    }
}

fn fixes() -> Vec<Fix> {
    vec![
        Fix::system("a smaller file", "a smaller quantisation, or fewer layers on the CPU").why(
            "weights that fit memory are read once",
            "nothing is read while text is generated",
        ),
        Fix::system("see who needs memory", "free -h; ps aux --sort=-rss | head")
            .why("other programs, and a container's limit, count", "more memory available"),
        Fix::flag("--mlock", "")
            .why("keeps weights that fit from being dropped", "no major faults"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::{Scene, computes, split_of};

    /// `faults` and `read` grow by as much for each quarter of a second.
    fn scene(prompt: bool, faults: f64, read: f64, swap: f64) -> Scene {
        let mut scene = Scene::new();
        let process = Subject::Process(7);
        scene.devices(&["CPU"]).plan(vec![split_of(0, 0..4, &[])]);
        for i in 0..8_u32 {
            scene.ubatches(1, prompt, &[computes(250_000)]);
            let i = f64::from(i);
            scene.sample(process, Counter::MajorFaults, 1e6 + faults * i);
            scene.sample(process, Counter::DiskRead, 1e9 + read * i);
            scene.sample(Subject::Host, Counter::SwapIn, swap * i);
        }
        scene.sample(Subject::Host, Counter::MemoryAvailable, f64::from(1 << 28));
        scene
    }

    #[test]
    fn reading_at_every_token_is_found() {
        let found = check(&scene(false, 500.0, 50e6, 0.0).facts()).finding().cloned().unwrap();
        assert!(found.title.ends_with("are read from storage while text is generated"));
        assert!(found.explanation.contains("256.00 MiB of memory are available"), "{found:?}");
    }

    #[test]
    fn swap_that_comes_back_is_found() {
        let found = check(&scene(false, 0.0, 0.0, 20e6).facts()).finding().cloned().unwrap();
        assert!(found.title.contains("come back from swap"), "{}", found.title);
    }

    #[test]
    fn loading_and_a_log_file_are_no_fault() {
        assert_eq!(check(&scene(true, 500.0, 50e6, 0.0).facts()), Verdict::Clear);
        assert_eq!(check(&scene(false, 2.0, 1e3, 0.0).facts()), Verdict::Clear);
    }

    #[test]
    fn without_samples_of_the_process_it_asks() {
        let mut scene = Scene::new();
        scene.devices(&["CPU"]).plan(vec![split_of(0, 0..4, &[])]);
        scene.ubatches(4, false, &[computes(1000)]);
        assert!(matches!(check(&scene.facts()), Verdict::NeedMore(_)));
    }
}
