//! `cpu-used-by-others`: other programs, or the hypervisor, take processors that threads need.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::lately::{growth, mean, watched_pids};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::counter::{Counter, Subject};
use crate::observe::session::Session;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "other programs or other machines use the processors meanwhile",
    doc: Doc {
        detects: "A watched process whose threads wait for a processor because others use it: other \
            programs of the machine, or other virtual machines of the host.",
        costs: "The threads of one computation wait for each other at every operation, so one that does \
            not get a processor holds up all of them for a slice of the scheduler.",
        evidence: "The share of the processors' time that other processes used while the watched \
            threads stood in the run queue, or the share that the hypervisor took (steal), over the last \
            seconds. A machine that is busy while the watched threads never wait is none.",
        fix: "End or move the other program, or give it a lower priority (`nice`); fewer threads (`-t`) \
            leave it a processor. Steal: a virtual machine with processors of its own.",
        example: "other programs use 48 % of the processors, and the threads wait for them",
    },
    follows_from: &["too-many-threads", "cpu-quota-throttled"],
    check,
};

const ID: &str = "cpu-used-by-others";

/// What others may use without being felt.
const OTHERS_MIN: f64 = 0.2;
const STOLEN_MIN: f64 = 0.05;

/// Threads in the run queue, on average, from which on others are felt.
const WAITING_MIN: f64 = 0.2;

/// Samples from which on a mean tells something.
const SAMPLES_MIN: usize = 4;

fn check(facts: &Facts) -> Verdict {
    let Some(session) = facts.live else { return Verdict::Clear };
    let stolen = mean(session, Subject::Host, Counter::CpuStolen);
    let Some((busy, samples)) = mean(session, Subject::Host, Counter::CpuBusy) else {
        return Verdict::Clear;
    };
    if samples < SAMPLES_MIN {
        let missing = "whether other programs use the processors";
        return Verdict::need(missing, "a second more of samples");
    }
    if let Some((share, _)) = stolen.filter(|(share, _)| *share >= STOLEN_MIN) {
        return by_hypervisor(share).into();
    }
    by_programs(session, busy).into()
}

fn by_hypervisor(share: f64) -> Finding {
    let title = format!("the hypervisor runs other machines in {:.0} % of the time", 100.0 * share);
    Finding::problem(ID, Impact::Slower(share.min(0.9)), 0.85, title)
        .because(
            "This is a virtual machine, and the host gives its processors to others meanwhile. Nothing \
             inside of it can change that; threads that wait for each other lose more than the share.",
        )
        .seen(Evidence::at(
            Place::Counter(Subject::Host, Counter::CpuStolen),
            format!("{:.0} % of the last seconds stolen", 100.0 * share),
        ))
        .fix(
            Fix::system("processors of its own", "a machine type with dedicated processors")
                .why("shared processors are given to whoever asks", "no time stolen"),
        )
}

fn by_programs(session: &Session, busy: f64) -> Option<Finding> {
    let cores =
        session.counters.subjects().filter(|s| matches!(s, Subject::Core(_))).count() as f64;
    let pids = watched_pids(session);
    let sum = |counter: Counter| -> Option<f64> {
        let all = pids.iter().filter_map(|pid| mean(session, Subject::Process(*pid), counter));
        all.map(|m| m.0).reduce(|a, b| a + b)
    };
    let used = sum(Counter::CpuUsed)?;
    let waits = pids.iter().filter_map(|pid| {
        Some((*pid, growth(session, Subject::Process(*pid), Counter::RunQueueWait)?.per_s() / 1e9))
    });
    let (pid, waiting) = waits.max_by(|a, b| a.1.total_cmp(&b.1))?;
    if cores < 1.0 {
        return None;
    }
    let others = (busy - used / cores).max(0.0);
    if others < OTHERS_MIN || waiting < WAITING_MIN {
        return None;
    }
    let share = (waiting / (waiting + used)).clamp(0.0, 0.9);
    let title = format!(
        "other programs use {:.0} % of the processors, and the threads wait for them",
        100.0 * others
    );
    Some(
        Finding::problem(ID, Impact::Slower(share), 0.8, title)
            .because(format!(
                "On average {waiting:.1} of the watched threads could have run but had no processor, and \
                 {used:.1} ran. The threads of one computation wait for each other at every operation."
            ))
            .seen(Evidence::at(
                Place::Counter(Subject::Host, Counter::CpuBusy),
                format!(
                    "{:.0} % of the processors busy, {:.0} % by what is watched",
                    100.0 * busy,
                    100.0 * used / cores
                ),
            ))
            .seen(Evidence::at(
                Place::Counter(Subject::Process(pid), Counter::RunQueueWait),
                format!("{waiting:.1} threads in the run queue on average"),
            ))
            .fix(
                Fix::system("see who it is", "top -o %CPU")
                    .why("it lists the programs that use the processors", "the program to end or move"),
            )
            .fix(Fix::flag("-t", format!("{:.0}", (cores - others * cores).floor().max(1.0))).why(
                "threads that have a processor do not hold up the others",
                "the threads no longer wait",
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    fn scene(samples: u64, busy: f64, stolen: f64, used: f64, waiting: f64) -> Scene {
        let mut scene = Scene::new();
        let process = Subject::Process(7);
        for i in 0..samples {
            scene.tick().sample(Subject::Host, Counter::CpuBusy, busy);
            scene.sample(Subject::Host, Counter::CpuStolen, stolen);
            for core in 0..4 {
                scene.sample(Subject::Core(core), Counter::CpuBusy, busy);
            }
            scene.sample(process, Counter::CpuUsed, used);
            scene.sample(process, Counter::RunQueueWait, waiting * 0.25e9 * i as f64);
        }
        scene
    }

    #[test]
    fn other_programs_that_threads_wait_for_are_found() {
        let found = check(&scene(8, 1.0, 0.0, 2.0, 2.0).facts()).finding().cloned().unwrap();
        assert!(found.title.starts_with("other programs use 50 %"), "{}", found.title);
        assert_eq!(found.impact, Impact::Slower(0.5));
    }

    #[test]
    fn a_hypervisor_that_takes_time_is_found() {
        let found = check(&scene(8, 0.5, 0.12, 2.0, 0.0).facts()).finding().cloned().unwrap();
        assert!(found.title.starts_with("the hypervisor runs other machines in 12 %"));
    }

    #[test]
    fn busy_processors_that_nobody_waits_for_are_no_fault() {
        assert_eq!(check(&scene(8, 1.0, 0.0, 2.0, 0.0).facts()), Verdict::Clear);
        // The watched process itself fills the machine.
        assert_eq!(check(&scene(8, 1.0, 0.0, 3.9, 2.0).facts()), Verdict::Clear);
    }

    #[test]
    fn a_few_samples_do_not_tell() {
        assert!(matches!(check(&scene(2, 1.0, 0.0, 2.0, 2.0).facts()), Verdict::NeedMore(_)));
    }
}
