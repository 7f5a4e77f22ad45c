//! `gpu-layers-set-by-user`: a number of layers was asked for, so nobody asked what fits.

use crate::advise::diagnose::facts::{Facts, LoadFacts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, LineId};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a number of GPU layers was set that is below what the model has",
    doc: Doc {
        detects: "`num_gpu` of a request or Modelfile, or `-ngl`, with fewer layers than the model has.",
        costs: "The layers above that number run on the CPU, whatever is free on the GPU. `num_gpu: 1` \
            is a common misunderstanding: it means one layer, not one GPU.",
        evidence: "`layers.requested` of the plan, or `-ngl` of the command, equal to the layers that \
            were offloaded. -1 means that the server chose.",
        fix: "Leave `num_gpu` or `-ngl` out, so that the engine places what fits; or set it to all \
            layers.",
        example: "msg=offload layers.requested=1 layers.model=33 layers.offload=1 memory.available=\"[11.0 GiB]\"",
    },
    follows_from: &[],
    check,
};

const ID: &str = "gpu-layers-set-by-user";

fn check(facts: &Facts) -> Verdict {
    facts.loads().rev().find_map(|load| found(facts, &load)).into()
}

fn found(facts: &Facts, load: &LoadFacts) -> Option<Finding> {
    let set = load.layers_set_by_user().filter(|&n| n > 0)?;
    let (share, line) = load.share()?;
    // Otherwise the number is as good as the engine's own choice, or better.
    let fits = load.sizes().filter(|s| !s.free_bytes.is_empty());
    let fits = fits.map(|s| s.layers_that_fit(&s.as_is()).min(share.total));
    if fits.is_some_and(|f| f <= set + 1) {
        return None;
    }
    let one = if set == 1 { " (one layer, not one GPU)" } else { "" };
    let title =
        format!("{set} of {} layers were asked for{one}; the others run on the CPU", share.total);
    let more = fits.map(|f| format!(" By the sizes in the log about {f} would fit."));
    let own = matches!(facts.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
    let fixes = if own {
        let by_itself = facts.fits_by_itself() != Some(false);
        let all = if by_itself { " Newer builds, without the flag, take what fits." } else { "" };
        vec![Fix::flag("-ngl", "99").why(
            format!("more than there are is all of them; n_gpu_layers in bindings.{all}"),
            format!("`offloaded {0}/{0} layers to GPU`", share.total),
        )]
    } else {
        vec![
            Fix::option("num_gpu", "")
                .why("without it the server places what fits", "`layers.requested=-1`"),
        ]
    };
    // What those layers cost; sure that it was set, less so that more would fit.
    let sure = if fits.is_some() { 0.95 } else { 0.8 };
    let time = load.cpu_time_share().unwrap_or(0.5);
    Some(
        Finding::problem(ID, Impact::Slower(time), sure, title)
            .because(format!(
                "With a number given the engine does not ask what fits the GPU. The layers above it are \
                 computed by the CPU and take about {:.0} % of the time of a token.{}",
                100.0 * time,
                more.unwrap_or_default()
            ))
            .seen(Evidence::line(asked_line(load).unwrap_or(line)))
            .seen(Evidence::line(line))
            .fix_all(fixes),
    )
}

fn asked_line(load: &LoadFacts) -> Option<LineId> {
    let estimate =
        load.load.estimate.as_ref().filter(|e| e.layers_requested.is_some_and(|n| n >= 0));
    estimate.map(|e| e.line).or(load.load.requested.gpu_layers.map(|s| s.line))
}
