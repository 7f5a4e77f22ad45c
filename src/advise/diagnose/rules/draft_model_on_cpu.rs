//! `draft-model-on-cpu`: the small model that guesses ahead is on the CPU.

use crate::advise::diagnose::facts::{Facts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the draft model runs on the CPU and holds up the model on the GPU",
    doc: Doc {
        detects: "Speculative decoding in which the model that answers is on a GPU, and the draft \
            model, which guesses ahead of it, has layers on the CPU.",
        costs: "Each round waits for several tokens of the draft model, one after the other. On the \
            CPU that takes longer than the large model needs without any guesses, so that the means \
            against waiting becomes the cause of it.",
        evidence: "`offloaded 0/N layers` (or fewer than N) after `loading draft model`, next to layers \
            of the main model on a GPU. The number of layers of the draft model is set apart from that \
            of the main model.",
        fix: "`--spec-draft-ngl all` (`-ngld 99` in older builds); where it does not fit next to the \
            main model, a smaller draft model, or none.",
        example: "srv    load_model: loading draft model './small.gguf'\n\
            load_tensors: offloaded 0/25 layers to GPU",
    },
    follows_from: &["build-without-gpu-support", "gpu-backend-library-missing", "no-gpu-found"],
    check,
};

const ID: &str = "draft-model-on-cpu";

fn check(facts: &Facts) -> Verdict {
    let Some(draft) = facts.drafts().next_back() else { return Verdict::Clear };
    let main_on_gpu = facts.loads().any(|l| l.on_gpu() == Some(true));
    let (Some((share, line)), true) = (draft.share(), main_on_gpu) else { return Verdict::Clear };
    if draft.placement() == Some(Placement::Whole) {
        return Verdict::Clear;
    }
    let asked = draft.load.requested.other.iter().find(|o| {
        ["-ngld", "--n-gpu-layers-draft", "--spec-draft-ngl"].iter().any(|f| o.value.starts_with(f))
    });
    let title = format!(
        "{} of {} layers of the draft model are on the CPU, the model that it drafts for is on the GPU",
        share.missing(),
        share.total
    );
    let newer = facts.version().is_none_or(|v| v.0 >= SPEC_NAMES_SINCE);
    let fix = if newer { Fix::flag("--spec-draft-ngl", "all") } else { Fix::flag("-ngld", "99") };
    Finding::problem(ID, Impact::Slower(0.5), 0.9, title)
        .because(
            "The draft model makes its guesses one token after the other, and the GPU checks them only \
             then. A draft model on the CPU takes most of the time of every round.",
        )
        .seen(Evidence::line(line))
        .seen_if(asked.map(|a| Evidence::line(a.line)))
        .fix(fix.why(
            "the draft model is small; its layers belong next to those of the main model",
            format!("`offloaded {0}/{0} layers to GPU` for it as well", share.total),
        ))
        .fix(
            Fix::leave_out("-md")
                .why("without a draft model: faster than with one on the CPU", "no draft model is loaded"),
        )
        .into()
}

/// Builds that certainly know the options of drafting by their newer names.
const SPEC_NAMES_SINCE: u32 = 10_000;
