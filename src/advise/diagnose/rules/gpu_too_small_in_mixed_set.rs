//! `gpu-too-small-in-mixed-set`: one of several GPUs gets no layers because it is below the minimum.

use crate::advise::diagnose::facts::{Facts, LoadFacts, Placement, memory_bytes};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::LineId;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "one GPU is too small for a compute buffer and a layer, and gets no layers",
    doc: Doc {
        detects: "Several GPUs, layers on the CPU, and a GPU that takes none of them because it has \
            less free memory than the fixed part that every GPU needs.",
        costs: "The small GPU stands idle, and people expect that its memory counts. Each GPU needs a \
            reserve, a compute buffer of its own and at least a layer before it is of use; below that \
            it only makes the plan more complicated.",
        evidence: "\"gpu has too little memory to allocate any layers\", or a split with 0 layers for a \
            GPU while layers are missing, and free memory of that GPU below the reserve, compute buffer \
            and one layer.",
        fix: "A smaller compute buffer (flash attention, smaller `num_batch`, smaller context) can make \
            it useful; otherwise hide it (`CUDA_VISIBLE_DEVICES`) and plan with the others.",
        example: "msg=\"gpu has too little memory to allocate any layers\" name=\"NVIDIA GeForce GT 1030\" \
            total=\"1.9 GiB\" available=\"1.4 GiB\" minimum_memory=479199232",
    },
    follows_from: &["compute-graph-too-large"],
    check,
};

const ID: &str = "gpu-too-small-in-mixed-set";

fn check(facts: &Facts) -> Verdict {
    let several = facts.log.devices.len() > 1
        || facts
            .loads()
            .any(|l| l.load.estimate.as_ref().is_some_and(|e| e.available_bytes.len() > 1));
    let Some(load) = facts.last_load().filter(|_| several) else { return Verdict::Clear };
    let whole = load.placement() == Some(Placement::Whole);
    let notice = facts.notice("gpu-below-minimum");
    let idle = idle_gpu(&load);
    if whole || (notice.is_none() && idle.is_none()) {
        return Verdict::Clear;
    }
    let small = idle.or_else(|| smallest(facts));
    let size = small.map(|(_, bytes)| format!(" ({} free)", Bytes(bytes))).unwrap_or_default();
    let number = small.map_or("one GPU".to_string(), |(n, _)| format!("GPU {n}"));
    let title = format!("{number}{size} is too small to take any layer");
    let fixed = load.sizes().map(|s| {
        let layer = s.weights_bytes / s.layers.max(1);
        format!(
            " Here that is {} of compute buffer and {} for a layer.",
            Bytes(s.graph_bytes),
            Bytes(layer)
        )
    });
    let why = format!(
        "Before a GPU is of use it must hold the driver's context, a compute buffer of its own and one \
         layer.{} What is left of the model runs on the CPU.",
        fixed.unwrap_or_default()
    );
    let line = notice.map(|n| n.first).or(estimate_line(&load)).unwrap_or(load.load.line);
    // It explains at most the few layers that this GPU could take.
    Finding::problem(ID, Impact::Slower(0.15), 0.85, title)
        .because(why)
        .seen(Evidence::line(line))
        .seen_if(load.share().map(|(_, line)| Evidence::line(line)))
        .fix_all(load.sizes().iter().flat_map(|s| room::smaller_context(&load, s)))
        .fix(Fix::option("num_batch", "128").why(
            "most of the compute buffer is proportional to the batch",
            "layers on every GPU in `layers.split`",
        ))
        .fix(
            Fix::env("CUDA_VISIBLE_DEVICES", "the numbers of the larger GPUs").why(
                "leaves the small one to the desktop",
                "one entry fewer in `memory.available`",
            ),
        )
        .into()
}

/// A GPU with no layers beside others that have some, with its free memory.
fn idle_gpu(load: &LoadFacts) -> Option<(usize, u64)> {
    let estimate = load.load.estimate.as_ref()?;
    let split = &estimate.layers_split;
    if split.len() < 2 || split.len() != estimate.available_bytes.len() {
        return None;
    }
    let idle = split.iter().position(|&n| n == 0)?;
    let sizes = load.sizes()?;
    let free = estimate.available_bytes[idle];
    let needs = sizes.graph_planned_bytes.max(sizes.graph_bytes)
        + (457 << 20)
        + 2 * sizes.weights_bytes / sizes.layers.max(1);
    (free < needs).then_some((idle, free))
}

fn smallest(facts: &Facts) -> Option<(usize, u64)> {
    let devices = facts.log.devices.iter().enumerate();
    let free = devices.filter_map(|(i, d)| Some((i, d.free_bytes.or_else(|| memory_bytes(d))?)));
    free.min_by_key(|(_, bytes)| *bytes)
}

fn estimate_line(load: &LoadFacts) -> Option<LineId> {
    load.load.estimate.as_ref().map(|e| e.line)
}
