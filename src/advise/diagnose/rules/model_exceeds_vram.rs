//! `model-exceeds-vram`: part of the layers stay on the CPU because the weights do not fit.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: "model-exceeds-vram",
    title: "the model's weights do not fit into the GPU's memory",
    doc: Doc { detects: "", costs: "", evidence: "", fix: "", example: "" },
    follows_from: &[],
    check,
};

fn check(_facts: &Facts) -> Verdict {
    Verdict::Clear
}
