//! `vram-not-released`: the next model is planned while the last one's memory still counts as used.

use crate::advise::diagnose::facts::{Cause, Facts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "memory of the previous model is not seen as free when the next one is planned",
    doc: Doc {
        detects: "A model that is loaded after the server warned that memory did not come back, with \
            less free memory than the GPU has, and with layers on the CPU for that reason.",
        costs: "The new model gets fewer layers than fit, and keeps running slowly until it is loaded \
            again.",
        evidence: "\"gpu VRAM usage didn't recover within timeout\" before the load, and layers that \
            would fit if the GPU's memory were free. Without such layers the warning is harmless: see \
            vram-wait-warning-benign.",
        fix: "Load the model again (`ollama stop MODEL`, then use it). When it happens often: one model \
            at a time (`OLLAMA_MAX_LOADED_MODELS=1`), and a newer release, which waits better.",
        example: "msg=\"gpu VRAM usage didn't recover within timeout\" seconds=5.2 model=/models/a\n\
            msg=offload layers.model=33 layers.offload=11 memory.available=\"[3.0 GiB]\"",
    },
    follows_from: &[],
    check,
};

const ID: &str = "vram-not-released";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("vram-not-recovered") else { return Verdict::Clear };
    // A load after it, not the one that was ending then.
    let short = facts.short_load().filter(|(load, _)| {
        load.load.line > notice.first || load.load.index >= notice.loads_before
    });
    let Some((_, short)) = short else { return Verdict::Clear };
    let Some(share) = short.share_of_time(Cause::Others) else { return Verdict::Clear };
    let sizes = &short.sizes;
    let free: u64 = sizes.free_bytes.iter().sum();
    let total: u64 = sizes.total_bytes.iter().sum();
    let title = format!(
        "{} of {} GPU memory counted as free after the last model: {} of {} layers run on the CPU",
        Bytes(free),
        Bytes(total),
        short.missing,
        sizes.layers
    );
    let why = format!(
        "The server waited for the memory of the last model and gave up, then planned this one with {} \
         free. With the GPU empty {} more would fit.",
        room::memories(&sizes.free_bytes),
        room::layers(short.by_others)
    );
    // The share of the time that those layers take; another program could hold it as well.
    Finding::problem(ID, Impact::Slower(share), 0.85, title)
        .because(why)
        .seen(Evidence::line(notice.first))
        .seen(Evidence::line(sizes.line))
        .fix(Fix::system("load it again", "ollama stop MODEL").why(
            "by now the memory is free, and the plan will see that",
            "more layers offloaded at the next load",
        ))
        .fix(Fix::env("OLLAMA_MAX_LOADED_MODELS", "1").why(
            "no model is loaded while another one is still there",
            "loads begin after the unload has ended",
        ))
        .into()
}
