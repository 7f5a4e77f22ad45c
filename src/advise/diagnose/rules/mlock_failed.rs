//! `mlock-failed`: a limit of the system that keeps memory from being locked.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the weights could not be locked in memory",
    doc: Doc {
        detects: "Locking the weights in memory was asked for, and the system's limit does not \
            allow it.",
        costs: "Nothing at first: the weights are used as usual, but the system may page them out \
            when memory is short.",
        evidence: "\"failed to mlock N-byte buffer\".",
        fix: "Raise the limit (`ulimit -l unlimited`, LimitMEMLOCK=infinity in the service, \
            `--ulimit memlock=-1` for docker), or do without --mlock.",
        example: "warning: failed to mlock 536870912-byte buffer (after previously locking 0 \
            bytes): Cannot allocate memory",
    },
    follows_from: &[],
    check,
};

const ID: &str = "mlock-failed";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("mlock-failed") else { return Verdict::Clear };
    Finding::problem(ID, Impact::Risk, 0.7, "the weights could not be locked in memory")
        .because(
            "The limit for locked memory (RLIMIT_MEMLOCK) is smaller than the model. It runs all \
                the same; only when memory gets short may the system page weights out, and \
                answers then stall.",
        )
        .seen(Evidence::line(notice.first))
        .fix(
            Fix::system(
                "raise the limit",
                "ulimit -l unlimited    # service: LimitMEMLOCK=infinity",
            )
            .why("the whole model can then be locked", "the warning is gone"),
        )
        .into()
}
