//! `vram-used-by-other-process`: something else holds the memory that layers would need.

use crate::advise::diagnose::facts::{Cause, Facts, LoadFacts, Shortfall};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::advise::diagnose::settle;
use crate::base::units::Bytes;
use crate::observe::logs::{Device, LibraryKind, LineId, LoadOutcome};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "another program holds memory of the GPU",
    doc: Doc {
        detects: "A GPU of which much less was free when the model was loaded than it has, so that \
            layers stay on the CPU that would fit an idle GPU.",
        costs: "Layers without room run on the CPU, many times slower. The engine plans with what is \
            free at that moment and does not plan anew when the other program ends.",
        evidence: "Free and total memory of the GPU in the log, and layers that would fit if it were \
            idle. When the total is not told, hardly 3 GiB free on a CUDA GPU that was found usable \
            make it likely. Memory that this server's own earlier model holds is another rule.",
        fix: "See who holds it (`nvidia-smi`, `rocm-smi --showpids`), end that program or give it less, \
            and load the model again.",
        example: "msg=\"inference compute\" library=cuda total=\"23.6 GiB\" available=\"4.1 GiB\"\n\
            msg=offload layers.model=41 layers.offload=9 memory.available=\"[4.1 GiB]\"",
    },
    follows_from: &["vram-not-released", "models-share-vram"],
    check,
};

const ID: &str = "vram-used-by-other-process";

fn check(facts: &Facts) -> Verdict {
    let Some((load, short)) = facts.short_load() else { return at_discovery(facts).into() };
    if let Some(share) = short.share_of_time(Cause::Others) {
        return told(&load, &short, share).into();
    }
    if !short.free_suspicious() || !discrete(facts) {
        let asks = !short.free_known && discrete(facts) && short.by_weights < short.missing;
        return if asks { free_unknown(facts, &short) } else { Verdict::Clear };
    }
    let most = short.sizes.free_bytes.iter().copied().max().unwrap_or(0);
    guessed(&load, &short, most).into()
}

/// Much memory of a GPU in use in a log without any load: whoever loads a model now finds it taken.
fn at_discovery(facts: &Facts) -> Option<Finding> {
    const MUCH_BYTES: u64 = 4 << 30;
    if facts.log.loads.iter().any(|l| l.layers.is_some() || l.estimate.is_some())
        || !discrete(facts)
    {
        return None;
    }
    let held = |d: &Device| Some(d.total_bytes?.saturating_sub(d.free_bytes?));
    let device = facts.gpus().max_by_key(|d| held(d))?;
    let (held, total) = (held(device)?, device.total_bytes?);
    if held < MUCH_BYTES || held < total / 4 {
        return None;
    }
    let title = format!(
        "{} of {} of GPU memory were in use when the server looked, with no model loaded in this log",
        Bytes(held),
        Bytes(total)
    );
    Some(
        Finding::problem(ID, Impact::Risk, 0.7, title)
            .because(
                "Layers are placed by what is free when a model is loaded. What another program, another \
                 server or an earlier start of this one holds is missing then, and layers that do not fit \
                 run on the CPU. The load itself is not in this log.",
            )
            .seen(Evidence::line(device.line))
            .fix(
                Fix::system(
                    "see who holds it",
                    "nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv",
                )
                .why("it lists the programs on the GPU", "the program that holds the memory"),
            ),
    )
}

fn free_unknown(facts: &Facts, short: &Shortfall) -> Verdict {
    Verdict::need(
        format!(
            "how much memory of the GPU was free when the model was loaded: {} are missing on it, and \
             something else may hold what they need",
            room::layers(short.missing)
        ),
        settle::gpu_memory(facts),
    )
}

fn discrete(facts: &Facts) -> bool {
    facts.log.devices.iter().all(|d| {
        d.integrated != Some(true)
            && matches!(d.library, None | Some(LibraryKind::Cuda | LibraryKind::Rocm))
    })
}

fn told(load: &LoadFacts, short: &Shortfall, share: f64) -> Finding {
    let sizes = &short.sizes;
    // As the log tells it, whatever was reckoned with.
    let told = load.sizes().map(|s| s.free_bytes).filter(|f| !f.is_empty());
    let told = told.unwrap_or_else(|| sizes.free_bytes.clone());
    let free: u64 = told.iter().sum();
    let total: u64 = sizes.total_bytes.iter().sum();
    let title = format!(
        "only {} of {} of GPU memory were free: {} of {} layers run on the CPU",
        Bytes(free),
        Bytes(total),
        short.missing,
        sizes.layers
    );
    let why = format!(
        "Free as the load began: {}; the GPUs have {}. Something else held {}. On idle GPUs {} \
         more would fit.",
        room::memories(&told),
        room::memories(&sizes.total_bytes),
        Bytes(total.saturating_sub(free)),
        room::layers(short.by_others),
    );
    // The share of the time that the layers take which an idle GPU would bring back.
    Finding::problem(ID, Impact::Slower(share), 0.95, title)
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(free_line(load).map(Evidence::line))
        .seen_if(load.log.devices.first().map(|d| Evidence::line(d.line)))
        .fix_all(fixes(load))
}

fn guessed(load: &LoadFacts, short: &Shortfall, free: u64) -> Finding {
    let sizes = &short.sizes;
    let title = format!(
        "only {} of GPU memory were free: {} of {} layers run on the CPU",
        Bytes(free),
        short.missing,
        sizes.layers
    );
    let why = format!(
        "The GPU is good enough to be used, and hardly any such GPU has so little memory: most of it was \
         probably held by another program as the load began. The model needs {}. The log does not tell \
         how much the GPU has in all; `nvidia-smi` does, and it lists who holds it.",
        room::parts(sizes, &sizes.as_is()),
    );
    // All missing layers may be its fault; that the GPU is just small is the other possibility.
    let others = Finding::problem(ID, Impact::Slower(short.time_share), 0.9, title);
    let sure = if short.by_weights > 0 { 0.85 } else { 0.7 };
    Finding { confidence: sure, ..others }
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(free_line(load).map(Evidence::line))
        .fix_all(fixes(load))
}

fn free_line(load: &LoadFacts) -> Option<LineId> {
    let estimate = load.load.estimate.as_ref().map(|e| e.line);
    estimate.or(load.load.gpu_free.first().map(|g| g.line))
}

fn fixes(load: &LoadFacts) -> Vec<Fix> {
    let amd = load.log.devices.iter().any(|d| d.library == Some(LibraryKind::Rocm));
    let list = if amd {
        "rocm-smi --showpids --showmeminfo vram"
    } else {
        "nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv"
    };
    let resident = load
        .facts()
        .loads()
        .any(|l| l.load.index < load.load.index && matches!(l.load.outcome, LoadOutcome::Ready(_)));
    let mut fixes = vec![Fix::system("see who holds it", list).why(
        "it lists the programs on the GPU and what each of them holds",
        "the program that holds the memory",
    )];
    fixes.push(
        Fix::system("load anew", "end that program or limit its memory, then load the model again")
            .why("layers are placed by what is free at that moment", "more layers offloaded"),
    );
    if resident {
        fixes.push(Fix::system("ollama ps", "ollama ps; ollama stop MODEL").why(
            "earlier models of this server hold memory as well until they are unloaded",
            "one model in the list",
        ));
    }
    fixes
}
