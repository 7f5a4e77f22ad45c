//! `too-many-threads`: threads that wait for each other on too few processors.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::Placement;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, LineId};

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
            was asked for above the processors that the log names. As many threads as hardware \
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
