//! `vram-wait-warning-benign`: "VRAM usage didn't recover" is only a warning.

use crate::advise::diagnose::facts::{Cause, Facts};
use crate::advise::diagnose::finding::{Evidence, Finding};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "\"VRAM usage didn't recover within timeout\" is a warning without effect",
    doc: Doc {
        detects: "The warning that memory did not come back in time after a model was unloaded, in a \
            log in which no layer is missing because of it.",
        costs: "Nothing but the wait of about five seconds before the next load.",
        evidence: "The warning alone. It would matter if a model loaded after it had fewer layers than \
            fit an empty GPU: then vram-not-released says so.",
        fix: "Nothing to do. Ollama 0.5.11 and newer print it less often.",
        example: "level=WARN msg=\"gpu VRAM usage didn't recover within timeout\" seconds=5.01",
    },
    follows_from: &[],
    check,
};

const ID: &str = "vram-wait-warning-benign";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("vram-not-recovered") else { return Verdict::Clear };
    let hurt = facts.short_load().is_some_and(|(_, s)| s.share_of_time(Cause::Others).is_some());
    if hurt {
        return Verdict::Clear;
    }
    let times = if notice.count > 1 { format!(" ({} times)", notice.count) } else { String::new() };
    Finding::benign(ID, 0.95, format!("the warning about memory that did not recover{times} is harmless"))
        .because(
            "After a model was unloaded the server watched the GPU's free memory for five seconds and \
             did not see all of it come back: drivers report late, and other programs use the GPU too. \
             It then goes on. No load in this log has fewer layers because of it.",
        )
        .seen(Evidence::line(notice.first))
        .into()
}
