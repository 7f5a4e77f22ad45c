//! `multi-gpu-split-overhead`: layers are split over GPUs, which work one after the other.

use crate::advise::diagnose::facts::{Facts, LoadFacts, Placement, memory_bytes, memory_speed};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Device, Dialect, Engine, LibraryKind, LineId, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the layers are split over several GPUs, which costs more than it gains",
    doc: Doc {
        detects: "A model that is wholly on GPUs, split by layers over two or more of them, although \
            one would hold it, or although nothing in the log says that one would not.",
        costs: "A layer split is serial: for one conversation a token passes through the first GPU's \
            layers, then the second's, and each waits while the other works. Two GPUs are no faster \
            than one of them, each is busy at most half of the time, and every border adds a copy and a \
            wait. With unequal GPUs the slow one sets the pace for its part: a fast card with a slow \
            helper is slower than the fast card alone.",
        evidence: "Buffers of weights on more than one GPU with all layers offloaded, and memory of the \
            GPUs: from the log, else by the product. When the model needs both, a split is right and \
            gpus-take-turns says so. When their memory is not known, the finding is less sure, and says \
            what would settle it.",
        fix: "One GPU where it fits: `CUDA_VISIBLE_DEVICES`, `OLLAMA_SCHED_SPREAD` unset, `-sm none -mg \
            0`. Where it does not fit: `-sm row` or `-sm tensor` of llama.cpp let GPUs work on a layer \
            together. Several conversations at a time (`OLLAMA_NUM_PARALLEL`, `-np`) keep both busy.",
        example: "load_tensors: offloaded 41/41 layers to GPU\n\
            load_tensors:        CUDA0 model buffer size =  3920.18 MiB\n\
            load_tensors:        CUDA1 model buffer size =  3744.40 MiB",
    },
    follows_from: &[],
    check,
};

const ID: &str = "multi-gpu-split-overhead";

fn check(facts: &Facts) -> Verdict {
    let Some((load, gpus)) = split_load(facts) else { return Verdict::Clear };
    let Some(need) = need(&load) else { return Verdict::Clear };
    match best_gpu(&load) {
        Some(best) if need <= best => found(&load, gpus, need, Some(best)).into(),
        Some(_) => Verdict::Clear,
        None => found(&load, gpus, need, None).into(),
    }
}

/// The last load, if it is split over GPUs and wholly on them, with their number.
pub(super) fn split_load<'a>(facts: &Facts<'a>) -> Option<(LoadFacts<'a>, usize)> {
    let load = facts.loads().rfind(|l| l.share().is_some())?;
    if load.placement() != Some(Placement::Whole) {
        return None;
    }
    let named = load.gpus_used().unwrap_or(0);
    // Lines of 2023 do not tell devices apart, and all that were found took part.
    let early = load.load.graph.is_none() && load.gpus_with_weights().len() <= 1;
    let found = facts.log.devices.len();
    let early = early && found > 1 && named <= 1 && early_lines(&load);
    let gpus = if early { found } else { named };
    (gpus > 1).then_some((load, gpus))
}

/// Whether the load is in the lines of 2023, `VRAM used`.
fn early_lines(load: &LoadFacts) -> bool {
    let text = |line: LineId| load.log.lines.get(line).map(|l| l.text);
    let lines = load.load.buffers.iter().map(|b| b.line);
    lines.filter_map(text).any(|t| t.to_ascii_lowercase().contains("vram used"))
}

/// What all of it would need on one GPU.
fn need(load: &LoadFacts) -> Option<u64> {
    let sizes = load.sizes()?;
    Some(sizes.whole_if(&sizes.as_is()))
}

/// Memory of the GPU that has most: free where told, else all of it, else by the product. What the
/// load itself needs is not yet counted in any of them.
pub(super) fn best_gpu(load: &LoadFacts) -> Option<u64> {
    let sizes = load.sizes()?;
    let devices = &load.log.devices;
    let several = sizes.free_bytes.len() > 1;
    if several {
        return sizes.free_bytes.iter().copied().max();
    }
    let by_device = |d: &Device| d.free_bytes.or_else(|| Some(memory_bytes(d)? / 16 * 15));
    let best = devices.iter().map(by_device).collect::<Option<Vec<u64>>>()?.into_iter().max();
    // One sum for several GPUs: the largest has at least its part.
    let by_sum = sizes.free_bytes.first().map(|sum| sum / devices.len().max(1) as u64);
    best.or(by_sum.filter(|_| devices.len() > 1))
}

fn found(load: &LoadFacts, gpus: usize, need: u64, best: Option<u64>) -> Finding {
    let sizes = load.sizes();
    let what = sizes.as_ref().map(|s| {
        let one = crate::advise::diagnose::facts::WhatIf { free_bytes: vec![0], ..s.as_is() };
        room::parts(s, &one)
    });
    let what = what.unwrap_or_default();
    let title = match best {
        Some(best) => format!(
            "split over {gpus} GPUs though one would do: {} of {}",
            Bytes(need),
            Bytes(best)
        ),
        None => format!("{gpus} GPUs share the layers and work one after the other"),
    };
    let fits = match best {
        Some(best) => format!(
            "One GPU with {} would hold all of it: {what}, {} with a reserve.",
            Bytes(best),
            Bytes(need)
        ),
        None => format!(
            "The log does not tell how much memory the GPUs have: if one of them has {} free ({what}, and \
             a reserve), it does better alone.",
            Bytes(need)
        ),
    };
    let why = format!(
        "With a layer split every token passes the GPUs one after the other, and each waits while the \
         others work: at most {:.0} % of the time each, whatever `ollama ps` calls \"100% GPU\". The halves \
         do not add up to more speed for one conversation. {fits}{}{}",
        100.0 / gpus as f64,
        unequal(load),
        advice(load),
    );
    let (share, sure) = match best {
        // The borders alone cost something; a slow helper costs the difference of the speeds.
        Some(_) => (slowdown(load).max(0.25), 0.9),
        None => (0.4, 0.6),
    };
    let buffers = load.load.buffers.iter().filter(|b| b.kind == BufferKind::Model && !b.is_host());
    let lines: Vec<LineId> = buffers.map(|b| b.line).collect();
    let mut finding = Finding::problem(ID, Impact::Slower(share), sure, title).because(why);
    for line in lines.into_iter().take(4) {
        finding = finding.seen(Evidence::line(line));
    }
    finding
        .seen_if(load.load.layers.map(|l| Evidence::line(l.line)))
        .seen_if(load.load.graph.map(|g| Evidence::line(g.line)))
        .fix_all(fixes(load, need, best))
}

/// How much slower a split over unequal GPUs is than the fastest alone, by memory speed.
fn slowdown(load: &LoadFacts) -> f64 {
    let speeds: Vec<f64> =
        load.log.devices.iter().filter_map(|d| Some(memory_speed(d)? as f64)).collect();
    if speeds.len() < 2 || speeds.len() != load.log.devices.len() {
        return 0.0;
    }
    // Layers are split by memory; equal parts are near enough for an order of findings.
    let split: f64 = speeds.iter().map(|s| 1.0 / s / speeds.len() as f64).sum();
    let best = speeds.iter().fold(0.0, |a: f64, &b| a.max(b));
    1.0 - (1.0 / best) / split
}

fn unequal(load: &LoadFacts) -> String {
    let slow = slowdown(load);
    if slow < 0.1 {
        return String::new();
    }
    format!(
        " The GPUs are unequal: by their memory speed the split takes about {:.1} times as long as the \
         fastest GPU alone.",
        1.0 / (1.0 - slow)
    )
}

/// The usual advice, and what of it helps here.
fn advice(load: &LoadFacts) -> String {
    let facts = load.facts();
    if !matches!(facts.log.engine, Engine::Ollama | Engine::Unknown) {
        return String::new();
    }
    let library = load.load.buffers.iter().find_map(|b| LibraryKind::from_word(&b.device));
    let mut said = vec![
        format!(
            "`OLLAMA_LLM_LIBRARY` changes nothing: the {} library is loaded and holds all layers",
            library.map_or("GPU", LibraryKind::name)
        ),
        "`OLLAMA_MAX_LOADED_MODELS=1` matters only when another model takes memory, and no layer is \
         missing here"
            .to_string(),
    ];
    let batch = load.load.n_ubatch.or(load.load.n_batch).map(|s| s.value);
    said.push(match batch {
        Some(n) if n < 256 => {
            format!("a batch of {n} is small: 512 makes prompts faster, not answers")
        }
        Some(n) => format!("a batch of {n} is well chosen; more changes prompts only"),
        None => "another batch changes prompts only".to_string(),
    });
    if let Some(ctx) = load.ctx() {
        said.push(if ctx <= 4096 {
            format!("a context of {ctx} is small already; less frees next to nothing")
        } else {
            format!("a smaller context than {ctx} helps if it lets one GPU hold the model")
        });
    }
    if load.load.graph.and_then(|g| g.copies).is_some_and(|n| n > 1) {
        said.push(
            "pipeline parallelism, which is on, lets GPUs overlap in long prompts only".to_string(),
        );
    }
    said.push(match load.flash_attention() {
        Some(true) => "flash attention is on".to_string(),
        _ => "flash attention saves memory and time with long contexts; it does not change the taking \
              of turns"
            .to_string(),
    });
    format!(
        " Of the usual advice: {}; one GPU, if it holds the model, is what helps. That the CPU is busy is \
         not the cause: no layer is left to it.",
        said.join("; ")
    )
}

fn fixes(load: &LoadFacts, need: u64, best: Option<u64>) -> Vec<Fix> {
    let facts = load.facts();
    let fastest = fastest(load).to_string();
    let expected = "weights on one device, two graph splits, and that GPU busy";
    let mut fixes = Vec::new();
    if best.is_none() {
        fixes.push(
            Fix::system(
                "see the GPUs' memory",
                "nvidia-smi --query-gpu=index,name,memory.total,memory.free --format=csv",
            )
            .why(format!("one with {} free holds all of it", Bytes(need)), "free memory of each"),
        );
    }
    fixes.push(Fix::system("see them take turns", "nvidia-smi dmon -s u").why(
        "shows the use of each GPU while an answer is made",
        "the sum over the GPUs stays near 100 % while they take turns",
    ));
    let own = matches!(facts.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
    if own {
        fixes.push(Fix::flag("-sm", "none").why("all layers on one GPU, given by -mg", expected));
        fixes.push(Fix::flag("-mg", fastest).why("the fastest of them", expected));
        fixes.push(Fix::flag("-sm", "row").why(
            "if one does not hold it: both work on every layer; needs a fast connection",
            "both busy at the same time",
        ));
        return fixes;
    }
    let spread = facts.setting_switch("OLLAMA_SCHED_SPREAD") == Some(true);
    if spread {
        fixes.push(Fix::env("OLLAMA_SCHED_SPREAD", "").why(
            "it is set, and makes the server split over all GPUs even if one holds the model",
            expected,
        ));
    }
    let name = match facts.log.devices.first().and_then(|d| d.library) {
        Some(LibraryKind::Rocm) => "ROCR_VISIBLE_DEVICES",
        Some(LibraryKind::Vulkan) => "GGML_VK_VISIBLE_DEVICES",
        _ => "CUDA_VISIBLE_DEVICES",
    };
    fixes.push(Fix::env(name, fastest).why("the server sees this GPU alone", expected));
    let c = facts.log.dialect == Some(Dialect::OllamaC)
        || facts.ollama_since(Version(0, 30, 0)) == Some(true);
    if c {
        fixes.push(Fix::env("LLAMA_ARG_SPLIT_MODE", "row").why(
            "if one does not hold it: the child takes it from the server's environment, and both GPUs work \
             on every layer",
            "both busy at the same time",
        ));
    }
    fixes
}

/// The number of the GPU with the fastest memory, else of the one with most memory.
fn fastest(load: &LoadFacts) -> usize {
    let devices = load.log.devices.iter().enumerate();
    let key = |d: &Device| (memory_speed(d).unwrap_or(0), memory_bytes(d).unwrap_or(0));
    devices.max_by_key(|(i, d)| (key(d), std::cmp::Reverse(*i))).map_or(0, |(i, _)| i)
}
