//! `gpus-take-turns`: GPUs that share a model are each idle part of the time, as they must be.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;

use super::multi_gpu_split_overhead::{best_gpu, split_load};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "GPUs that share a model's layers take turns; each is idle part of the time",
    doc: Doc {
        detects: "A model split by layers over several GPUs that needs more than one of them.",
        costs: "Nothing that a setting of the server would give back. For one conversation the layers \
            are computed in order, so N GPUs are each busy about 1/N of the time, and together they are \
            as fast as one with enough memory.",
        evidence: "Weights on several GPUs, all layers offloaded, and more needed than the largest of \
            them has.",
        fix: "Nothing is wrong. Several conversations at a time keep all GPUs busy. `-sm row` or `-sm \
            tensor` of llama.cpp divide each layer instead, where the connection is fast enough.",
        example: "load_tensors:        CUDA0 model buffer size = 19822.15 MiB\n\
            load_tensors:        CUDA1 model buffer size = 20016.70 MiB",
    },
    follows_from: &[],
    check,
};

const ID: &str = "gpus-take-turns";

fn check(facts: &Facts) -> Verdict {
    let Some((load, gpus)) = split_load(facts) else { return Verdict::Clear };
    let Some(sizes) = load.sizes() else { return Verdict::Clear };
    let need = sizes.whole_if(&sizes.as_is());
    let Some(best) = best_gpu(&load).filter(|&best| best < need) else { return Verdict::Clear };
    let title = format!(
        "{gpus} GPUs take turns: each is busy about {:.0} % of the time",
        100.0 / gpus as f64
    );
    Finding::benign(ID, 0.9, title)
        .because(format!(
            "The model needs {} and the largest GPU has {}, so it has to be split. Every token passes the \
             GPUs one after the other: low use of each of them is what that looks like.",
            Bytes(need),
            Bytes(best)
        ))
        .seen(Evidence::line(sizes.line))
        .fix(Fix::system("use both at a time", "send several requests at once").why(
            "while one token is on the second GPU another one can be on the first",
            "both busier, more tokens per second in all",
        ))
        .into()
}
