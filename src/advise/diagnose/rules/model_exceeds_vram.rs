//! `model-exceeds-vram`: layers stay on the CPU because the weights do not fit.

use crate::advise::diagnose::facts::{
    Cause, Facts, LoadFacts, Oom, OomCause, Placement, Share, Shortfall,
};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::advise::diagnose::settle;
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Engine, LoadOutcome, Notice};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the model's weights do not fit into the GPU's memory",
    doc: Doc {
        detects: "A model of which only some layers are on the GPU, and would be even with a modest \
            context, one sequence and a GPU that nothing else uses: the weights themselves are too \
            large.",
        costs: "Every token passes through all layers. The CPU reads its layers' weights from main \
            memory, five to twenty times slower than the GPU reads its own, and the GPU waits \
            meanwhile. A quarter of the layers on the CPU takes most of the time of a token; that the \
            CPU is busy and the GPU nearly idle is what this looks like.",
        evidence: "`offloaded N/M layers to GPU` with N below M, or the server's plan \
            (`layers.offload` below `layers.model`). The log's sizes then tell whose fault it is: \
            layers that a smaller context, fewer sequences, a smaller compute buffer or an idle GPU \
            would bring back are charged to those, and the rest to the weights. Layers that a person \
            asked for (`num_gpu`, `-ngl`) are another rule.",
        fix: "A smaller quantisation or a smaller model; the report says how large the file may be. \
            What helps a little: a smaller context, a KV cache in q8_0 with flash attention, closing \
            other programs on the GPU. A mixture of experts is better split by experts (`-ncmoe`) \
            than by layers.",
        example: "load_tensors: offloading 22 repeating layers to GPU\n\
            load_tensors: offloaded 22/49 layers to GPU\n\
            load_tensors:        CUDA0 model buffer size =  7219.44 MiB\n\
            load_tensors:   CPU_Mapped model buffer size =  9120.10 MiB",
    },
    follows_from: &[],
    check,
};

const ID: &str = "model-exceeds-vram";

fn check(facts: &Facts) -> Verdict {
    if let Some(finding) = vllm(facts) {
        return finding.into();
    }
    if let Some((load, short)) = facts.short_load()
        && let Some(share) = short.share_of_time(Cause::Weights)
    {
        return partly(&load, &short, share).into();
    }
    // llama.cpp does what it is told: with `-ngl` given, it does not ask what fits.
    let oom = facts.gpu_oom().filter(|o| o.fatal && o.cause() == OomCause::Forced);
    if let Some(oom) = oom {
        return failed(&oom).into();
    }
    match facts.last_load().and_then(|load| Some((load, without_sizes(&load)?))) {
        Some((load, share)) => layers_alone(&load, share).into(),
        None => placement_unknown(facts).unwrap_or(Verdict::Clear),
    }
}

/// Something was computed, and no line tells where.
fn placement_unknown(facts: &Facts) -> Option<Verdict> {
    // While a model is being loaded, the lines may still come.
    let ready = |l: LoadFacts| matches!(l.load.outcome, LoadOutcome::Ready(_));
    let computed = facts.log.requests.all.count > 0 || facts.loads().any(ready);
    let told = facts.loads().any(|l| l.share().is_some() || l.on_gpu().is_some());
    let failed = facts.loads().any(|l| l.failure().is_some()) || facts.gpu_oom().is_some();
    let other = matches!(facts.log.engine, Engine::Vllm | Engine::Unknown);
    if !computed || told || failed || other || facts.no_gpu_line().is_some() {
        return None;
    }
    Some(Verdict::need(
        "whether layers are on the CPU: the log has no line about where the weights went",
        settle::load_lines(facts),
    ))
}

/// Layers on the CPU in a part of a log that tells no size.
fn without_sizes(load: &LoadFacts) -> Option<Share> {
    match load.placement()? {
        Placement::Part(share) if load.sizes().is_none() && load.layers_set_by_user().is_none() => {
            Some(share)
        }
        _ => None,
    }
}

fn layers_alone(load: &LoadFacts, share: Share) -> Finding {
    let time = load.cpu_time_share().unwrap_or(0.5);
    let title = format!(
        "{} of {} layers run on the CPU; the weights most likely do not fit the GPU",
        share.missing(),
        share.total
    );
    let why = format!(
        "They take about {:.0} % of the time of a token, and the GPU waits for them. The log's part has \
         no sizes, so that a long context, another program on the GPU or a number that was given \
         (num_gpu, -ngl) may be why as well.",
        100.0 * time
    );
    let finding = Finding::problem(ID, Impact::Slower(time), 0.6, title).because(why);
    finding
        .seen_if(load.share().map(|(_, line)| Evidence::line(line)))
        .fix(Fix::system("a smaller file", "a smaller quantisation of the model").why(
            "all layers on the GPU is the fast case",
            format!("`offloaded {0}/{0} layers to GPU`", share.total),
        ))
        .fix(
            Fix::system("tell which it is", "gpuwhy logs with the whole log of the load")
                .why("the lines of buffers, context and free memory decide it", ""),
        )
}

fn partly(load: &LoadFacts, short: &Shortfall, share: f64) -> Finding {
    let sizes = &short.sizes;
    let on = sizes.layers - short.missing;
    let have = room::memories(&sizes.free_bytes);
    let title = format!(
        "{} of {} layers run on the CPU: the weights ({}) do not fit the GPU",
        short.missing,
        sizes.layers,
        Bytes(sizes.weights_bytes)
    );
    let held = load.on_gpus(BufferKind::Model);
    let held = if held > 0 { format!(", {} of it on GPUs", Bytes(held)) } else { String::new() };
    let free = if short.free_known { format!("free is {have}") } else { format!("used is {have}") };
    let why = format!(
        "Needed: {}{held}; {free}. {on} of {} layers fit. The others are computed by the CPU, which \
         reads weights several times slower, so that they take about {:.0} % of the time of a token, \
         and the GPU waits for them. {} of the {} layers would be missing with a context of 4096 and \
         an idle GPU as well.",
        room::parts(sizes, &sizes.as_is()),
        sizes.layers,
        100.0 * short.time_share,
        short.by_weights,
        short.missing,
    );
    // The share of the time that its layers take. Less sure when free memory is only inferred, or so
    // little that something else may hold the rest.
    let sure = match (short.free_known, short.free_suspicious()) {
        (_, true) => 0.6,
        (true, _) => 0.95,
        (false, _) => 0.85,
    };
    Finding::problem(ID, Impact::Slower(share), sure, title)
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(load.load.estimate.as_ref().map(|e| Evidence::line(e.line)))
        .seen_if(weights_on_cpu(load))
        .fix_all(room::smaller_weights(load, sizes))
        .fix_all(room::experts_on_cpu(load))
        .fix_all(room::smaller_context(load, sizes))
        .fix_all(room::smaller_kv(load, sizes))
}

/// vLLM keeps to a share of the GPU; weights and the intermediate results of one batch come off it,
/// and when nothing is left for the KV cache it ends.
fn vllm(facts: &Facts) -> Option<Finding> {
    let parts = facts.notice("vllm-memory-parts");
    let number = |n: Option<&Notice>, name: &str| n?.fields.get(name)?.parse::<f64>().ok();
    let none = number(parts, "kv").is_some_and(|kv| kv <= 0.0);
    let refused = facts.notice("vllm-no-kv-memory");
    let line = refused.or(parts.filter(|_| none))?.first;
    let may_use = facts.notice("vllm-may-use");
    let share = number(may_use, "share");
    let told = number(parts, "weights").zip(number(parts, "peak")).zip(number(may_use, "use"));
    let sum = told.map_or(String::new(), |((weights, peak), all)| {
        format!(": weights take {weights:.1} GiB, a batch {peak:.1} GiB, of {all:.1} GiB")
    });
    let title = format!("vLLM has no memory left for the KV cache{sum}");
    let finding = Finding::problem(ID, Impact::Failure, 0.9, title).because(
        "vLLM takes a share of the GPU (--gpu-memory-utilization, 0.9 by default) less what others hold. \
         Weights and the largest batch come off it first; what is left is the KV cache, and nothing is.",
    );
    let mut finding = finding
        .seen(Evidence::line(line))
        .seen_if(may_use.map(|n| Evidence::line(n.first)))
        .seen_if(parts.map(|n| Evidence::line(n.first)));
    if share.is_none_or(|s| s < 0.9) {
        let kv = number(may_use, "total").zip(told).and_then(|(total, ((weights, peak), _))| {
            let left = total * 0.95 - weights - peak - number(parts, "other").unwrap_or(0.0);
            (left > 0.0)
                .then(|| format!("{left:.1} GiB of KV cache, if nothing else is on the GPU"))
        });
        finding = finding.fix(
            Fix::flag("--gpu-memory-utilization", "0.95")
                .why("a larger share of the GPU", kv.unwrap_or_else(|| "a KV cache".to_string())),
        );
    }
    Some(
        finding
            .fix(Fix::flag("--max-num-batched-tokens", "2048").why(
                "the batch that is tried at the start, and its intermediate results, get smaller",
                "a smaller `activation peak memory`",
            ))
            .fix(Fix::flag("--enforce-eager", "").why(
                "CUDA graphs take memory of their own; without them decoding is slower",
                "a KV cache",
            ))
            .fix(Fix::system("a smaller file", "AWQ, GPTQ or FP8 weights of the model").why(
                "weights of 4 bits take about a third of those of 16",
                "`Available KV cache memory` above zero",
            )),
    )
}

fn weights_on_cpu(load: &LoadFacts) -> Option<Evidence> {
    let buffers = load.load.buffers.iter();
    let largest = buffers.filter(|b| b.kind == BufferKind::Model && b.is_host());
    largest.max_by_key(|b| b.bytes).map(|b| Evidence::line(b.line))
}

fn failed(oom: &Oom) -> Finding {
    let size = oom.bytes.map(|b| format!(" of {}", Bytes(b))).unwrap_or_default();
    let title = format!("the weights do not fit the GPU: an allocation{size} failed");
    let layers = oom.load.and_then(|l| l.load.requested.gpu_layers);
    let why = "With a number of layers given, llama.cpp allocates them without asking what fits. The \
               load ends when the driver has no more memory.";
    Finding::problem(ID, Impact::Failure, 0.85, title)
        .because(why)
        .seen(Evidence::line(oom.line))
        .seen_if(layers.map(|l| Evidence::line(l.line)))
        .fix(if oom.load.is_some_and(|l| l.facts().fits_by_itself() == Some(false)) {
            Fix::system("fewer layers", "a smaller number for -ngl (n_gpu_layers of a binding)").why(
                "this build takes the number as it is; the largest one that loads is the fastest",
                "`offloaded N/M layers to GPU`",
            )
        } else {
            Fix::flag("-ngl", "auto").why(
                "newer llama.cpp then places as many layers as fit; with an older one, lower the \
                 number until the load succeeds",
                "`offloaded N/M layers to GPU`",
            )
        })
        .fix(Fix::system("a smaller file", "a smaller quantisation of the model").why(
            "all layers on the GPU is the fast case",
            "`offloaded M/M layers to GPU`",
        ))
}
