//! `too-many-threads`: threads that wait for each other on too few processors.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::Placement;
use crate::advise::diagnose::facts::lately::{growth, mean, processors, watched_pids};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::counter::{Counter, Subject};
use crate::observe::logs::{Engine, LineId};
use crate::observe::session::Session;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "more threads than the CPU can run",
    doc: Doc {
        detects: "The program computes with more threads than there are processors that it may \
            use.",
        costs: "All threads meet after every operation. When they cannot all run at once, each \
            meeting waits for the scheduler: speeds fall to a small part, even with all layers on \
            the GPU, because a small part stays on the CPU.",
        evidence: "`system_info: n_threads = A / B` with A above B, or a number of threads that \
            was asked for above the processors that the log names. Of a process that is watched: more \
            threads at work than processors, and threads that stand in the run queue. As many threads as hardware \
            threads is usual, and costs a little at most.",
        fix: "As many threads as there are physical cores, or less in a container or virtual \
            machine with a quota: `-t`, `num_thread`. With all layers on the GPU a few are enough.",
        example: "system_info: n_threads = 48 / 12 | AVX = 1 | AVX2 = 1 | ",
    },
    follows_from: &[],
    check,
};

const ID: &str = "too-many-threads";

fn check(facts: &Facts) -> Verdict {
    if let Some(finding) = facts.live.and_then(|session| watched(facts, session)) {
        return finding.into();
    }
    let Some(seen) = facts.log.threads_and_cores else { return Verdict::Clear };
    let load = facts.last_load();
    let (threads, cores) = seen.value;
    let asked = load.and_then(|l| l.load.n_threads.or(l.load.requested.threads));
    let threads = asked.map_or(threads, |asked| asked.value.max(threads));
    if cores == 0 || threads < cores {
        return Verdict::Clear;
    }
    if threads == cores {
        return every_hardware_thread(facts, threads, seen.line).into();
    }
    let times = threads as f64 / cores as f64;
    let whole = load.and_then(|l| l.placement()) == Some(Placement::Whole);
    // A factor of two costs more than half of the time: a thread that is not running holds up all
    // others for a slice of the scheduler, at every operation.
    let share = (1.0 - 1.0 / (times * times)).clamp(0.3, 0.95);
    let wanted = if whole { cores.min(8) } else { cores };
    let option = if facts.log.engine == Engine::Ollama {
        Fix::option("num_thread", wanted.to_string())
    } else {
        Fix::flag("-t", wanted.to_string())
    };
    let where_work_is = if whole {
        " All layers are on the GPU, so few threads are needed: only the embedding and the \
            sampling are left to the CPU."
    } else {
        ""
    };
    Finding::problem(
        ID,
        Impact::Slower(share),
        0.95,
        format!("{threads} threads on {cores} processors"),
    )
    .because(format!(
        "The threads of one computation wait for each other after every operation, several \
            hundred times per token. With {threads} of them on {cores} processors some are always \
            waiting to run at all, and all others wait for them.{where_work_is}",
    ))
    .seen(Evidence::line(seen.line))
    .seen_if(asked.map(|a| Evidence::line(a.line)))
    .fix(option.why(
        "no more threads than processors, so that none waits to run",
        "tokens per second rise by a multiple; try one less and half as many, too",
    ))
    .into()
}

/// One thread for each hardware thread of a large processor: with two of them on a core, both wait
/// for the same memory, and every meeting of so many takes longer.
fn every_hardware_thread(facts: &Facts, threads: u64, line: LineId) -> Option<Finding> {
    /// Smaller processors lose little by it.
    const LARGE: u64 = 24;
    let whole = facts.last_load().and_then(|l| l.placement()) == Some(Placement::Whole);
    if threads < LARGE || whole {
        return None;
    }
    let half = (threads / 2).to_string();
    let option = if facts.log.engine == Engine::Ollama {
        Fix::option("num_thread", half)
    } else {
        Fix::flag("-t", half)
    };
    let title =
        format!("{threads} threads, one for each hardware thread: half as many may be faster");
    // Whether there are two hardware threads on a core the log does not tell.
    Some(
        Finding::problem(ID, Impact::Slower(0.2), 0.45, title)
            .because(
                "What the CPU computes is bound by memory, so the second hardware thread of a \
                    core adds nothing but waiting: all threads meet after every operation.",
            )
            .seen(Evidence::line(line))
            .fix(option.why("one thread for each core", "compare tokens per second of both")),
    )
}

/// A thread with less is not one of those that compute.
const AT_WORK_MIN: f64 = 0.1;

/// Threads in the run queue, on average, from which on they hold each other up.
const WAITING_MIN: f64 = 0.5;

/// More threads at work than processors, of which some are always waiting.
fn watched(facts: &Facts, session: &Session) -> Option<Finding> {
    let cpus = processors(session)?;
    let used = |subject| mean(session, subject, Counter::CpuUsed).map(|m| m.0);
    let threads = session.counters.subjects().filter(|s| matches!(s, Subject::Thread(_)));
    let at_work = threads.filter(|s| used(*s).is_some_and(|u| u >= AT_WORK_MIN)).count();
    let pids = watched_pids(session);
    let waits = pids.iter().filter_map(|pid| {
        let process = Subject::Process(*pid);
        Some((process, growth(session, process, Counter::RunQueueWait)?))
    });
    let (process, wait) = waits.max_by(|a, b| a.1.per_s().total_cmp(&b.1.per_s()))?;
    let (waiting, ran) = (wait.per_s() / 1e9, used(process)?);
    // Others who use the processors make threads wait as well; then these are not too many.
    if at_work as f64 <= cpus || waiting < WAITING_MIN || ran < 0.6 * cpus {
        return None;
    }
    let wanted = format!("{:.0}", cpus.floor().max(1.0));
    let option = match session.server.as_ref().map(|s| s.engine.as_str()) {
        Some("ollama") => Fix::option("num_thread", wanted),
        _ if facts.log.engine == Engine::Ollama => Fix::option("num_thread", wanted),
        _ => Fix::flag("-t", wanted),
    };
    let share = (waiting / (waiting + ran)).clamp(0.1, 0.9);
    let title = format!("{at_work} threads work on {cpus} processors");
    Some(
        Finding::problem(ID, Impact::Slower(share), 0.9, title)
            .because(format!(
                "On average {ran:.1} of them run and {waiting:.1} wait for a processor. The threads of one \
                 computation wait for each other at every operation, so those that do not run hold up \
                 those that do."
            ))
            .seen(Evidence::at(
                Place::Counter(process, Counter::RunQueueWait),
                format!("{waiting:.1} threads in the run queue on average, over {:.1} s", wait.seconds),
            ))
            .seen(Evidence::at(
                Place::Counter(process, Counter::CpuUsed),
                format!("{ran:.1} processors used of {cpus}"),
            ))
            .fix(option.why("no more threads than processors, so that none waits to run", "no waiting")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    /// Threads that each use `each`, and as many waiting on average; `samples` of them on 2 processors.
    fn scene(samples: u64, threads: u32, each: f64, waiting: f64) -> Scene {
        let mut scene = Scene::new();
        for i in 0..samples {
            scene.tick().sample(Subject::Host, Counter::CgroupCpus, 2.0);
            for thread in 0..threads {
                scene.sample(Subject::Thread(thread), Counter::CpuUsed, each);
            }
            let process = Subject::Process(7);
            scene.sample(process, Counter::CpuUsed, each * f64::from(threads));
            scene.sample(process, Counter::RunQueueWait, waiting * 0.25e9 * i as f64);
        }
        scene
    }

    #[test]
    fn threads_that_wait_for_each_others_processors_are_found() {
        let found = check(&scene(8, 8, 0.25, 6.0).facts()).finding().cloned().unwrap();
        assert_eq!(
            (found.title.as_str(), found.impact),
            ("8 threads work on 2 processors", Impact::Slower(0.75))
        );
        assert_eq!((found.fixes[0].name.as_str(), found.fixes[0].value.as_str()), ("-t", "2"));
    }

    #[test]
    fn idle_threads_and_as_many_as_processors_are_none() {
        assert_eq!(check(&scene(8, 40, 0.05, 0.0).facts()), Verdict::Clear);
        assert_eq!(check(&scene(8, 2, 1.0, 0.1).facts()), Verdict::Clear);
        // Somebody else has the processors.
        assert_eq!(check(&scene(8, 4, 0.15, 3.0).facts()), Verdict::Clear);
    }

    #[test]
    fn one_sample_tells_nothing() {
        assert_eq!(check(&scene(1, 8, 0.25, 6.0).facts()), Verdict::Clear);
    }
}
