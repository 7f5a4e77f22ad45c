//! `numa-placement`: a machine with several memory nodes, with weights on one of them.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::Placement;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "memory and threads are on different NUMA nodes",
    doc: Doc {
        detects: "The machine has several NUMA nodes, and the kernel moves pages between them, or \
            weights lie on one node while threads run on all.",
        costs: "Weights that the CPU reads come through the link between the nodes, at half the \
            speed or less. It matters as far as layers are on the CPU.",
        evidence: "llama.cpp warns that numa_balancing is enabled, which it prints only on a \
            machine with several nodes. How the pages lie the log does not tell: `numastat -p` \
            does. With all layers on GPUs the CPU reads next to no weights.",
        fix: "Drop the page cache, then load with `--numa distribute`; or bind threads and memory \
            to one node (`numactl --cpunodebind=0 --membind=0`), when the model fits there; and \
            turn the balancing off: `sudo sysctl kernel.numa_balancing=0`.",
        example: "WARNING: /proc/sys/kernel/numa_balancing is enabled, this has been observed to \
            impair performance",
    },
    follows_from: &[],
    check,
};

const ID: &str = "numa-placement";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("numa-balancing") else { return Verdict::Clear };
    let whole = facts.last_load().and_then(|l| l.placement()) == Some(Placement::Whole);
    // With everything on GPUs the CPU reads the embedding of one token: nothing to gain.
    let (impact, confidence) = if whole { (Impact::Risk, 0.4) } else { (Impact::Slower(0.4), 0.7) };
    let speed = facts.log.requests.all.decode_tokens_per_s.mean();
    let speed =
        speed.map(|s| format!(" The log shows {s:.1} tokens per second.")).unwrap_or_default();
    Finding::problem(
        ID,
        impact,
        confidence,
        "several NUMA nodes with balancing on: weights may lie on another node than the threads",
    )
    .because(format!(
        "The file is read by one thread, so its pages tend to lie on one memory node. Threads of \
            the other node read them through the link between both, and the kernel's balancing \
            moves pages while they are used.{speed} What the CPU computes can gain up to a factor \
            of two."
    ))
    .seen(Evidence::line(notice.first))
    .fix(
        Fix::system(
            "drop the page cache first",
            "sync; echo 3 | sudo tee /proc/sys/vm/drop_caches",
        )
        .why("pages that are cached stay on the node where they are", ""),
    )
    .fix(Fix::flag("--numa", "distribute").why(
        "threads are spread over the nodes and each touches its part first",
        "more tokens per second; `numastat -p llama-server` shows both nodes",
    ))
    .fix(
        Fix::system("turn the balancing off", "sudo sysctl kernel.numa_balancing=0")
            .why("pages then stay where they were put", "the warning is gone"),
    )
    .into()
}
