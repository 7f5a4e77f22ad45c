//! `compute-graph-too-large`: intermediate results, not weights or cache, are what does not fit.

use crate::advise::diagnose::facts::{Cause, Facts, LoadFacts, Oom, OomCause, Shortfall};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Engine};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the compute buffer, not the weights or the cache, is what does not fit",
    doc: Doc {
        detects: "A compute buffer (intermediate results of one batch) that is large beside the \
            weights even with a modest context, and that keeps layers off the GPU or cannot be had.",
        costs: "Every GPU needs a compute buffer of its own before it can take a layer. One of several \
            GiB leaves small GPUs nothing: the model runs on the CPU although its weights would fit.",
        evidence: "A failed allocation of the compute buffer (`ggml_gallocr_reserve_n`) of at least \
            half the weights' size, with a context at which it should be small; or layers that would \
            fit with a compute buffer of an ordinary size. With a long context and no flash attention \
            the context is the cause instead.",
        fix: "Flash attention, which does not keep attention's scores; a smaller batch (`num_batch`, \
            `-ub`), to which most of the buffer is proportional; a newer release, since a buffer of \
            this size for a model this small is often an error of the release.",
        example: "ggml_gallocr_reserve_n: failed to allocate CUDA0 buffer of size 8589934592\n\
            msg=\"offloaded 0/29 layers to GPU\"\n\
            msg=\"model weights\" device=CPU size=\"4.1 GiB\"",
    },
    follows_from: &["context-kv-too-large"],
    check,
};

const ID: &str = "compute-graph-too-large";

fn check(facts: &Facts) -> Verdict {
    let oom = facts.gpu_oom().filter(|o| o.cause() == OomCause::Graph);
    if let Some(finding) = oom.and_then(|oom| refused(&oom)) {
        return finding.into();
    }
    let Some((load, short)) = facts.short_load() else { return Verdict::Clear };
    let share = short.share_of_time(Cause::Graph);
    share.map(|share| partly(&load, &short, share)).into()
}

/// The buffer that could not be had, when it is large beside the weights though the context is not.
fn refused(oom: &Oom) -> Option<Finding> {
    let bytes = oom.bytes?;
    let Some((load, ctx, weights)) =
        oom.load.and_then(|l| Some((l, l.ctx()?, l.sizes()?.weights_bytes)))
    else {
        return Some(huge(oom, bytes));
    };
    let gone_on = load.placement().is_some() && !oom.fatal;
    let on_cpu = load.load.layers.filter(|l| l.offloaded < l.total);
    let title = match on_cpu.filter(|_| gone_on) {
        Some(layers) => format!(
            "a compute buffer of {} does not fit the GPU: {} of {} layers run on the CPU",
            Bytes(bytes),
            layers.total - layers.offloaded,
            layers.total
        ),
        None => {
            format!("a compute buffer of {} does not fit the GPU: the load fails", Bytes(bytes))
        }
    };
    let why = format!(
        "With a context of {ctx} the weights are {} and the compute buffer alone is {}; every GPU needs \
         one before it takes a layer. {}",
        Bytes(weights),
        Bytes(bytes),
        off(&load)
    );
    let impact = match (gone_on, on_cpu) {
        (true, Some(l)) if l.offloaded == 0 => Impact::NoGpu,
        (true, _) => Impact::Slower(load.cpu_time_share().unwrap_or(0.5)),
        (false, _) => Impact::Failure,
    };
    Some(
        Finding::problem(ID, impact, 0.9, title)
            .because(why)
            .seen(Evidence::line(oom.line))
            .seen_if(on_cpu.map(|l| Evidence::line(l.line)))
            .seen_if(graph_line(&load))
            .fix_all(fixes(&load)),
    )
}

/// A buffer that no GPU has room for, in a log that tells little else.
fn huge(oom: &Oom, bytes: u64) -> Finding {
    let device = oom.device.as_ref().map(|d| format!(" on device {d}")).unwrap_or_default();
    let why = format!(
        "The buffer for the intermediate results of one batch would take {}{device}. Nothing about the \
         weights makes it so large: attention's scores of a long context and a large batch do, when \
         flash attention is off, and copies of it for several GPUs that work in turn.",
        Bytes(bytes)
    );
    let title =
        format!("a compute buffer of {} does not fit any GPU: the load fails", Bytes(bytes));
    let fixes = oom.load.as_ref().map(fixes).unwrap_or_default();
    let smaller = Fix::flag("-c", "8192").why(
        "without flash attention the buffer is proportional to context times batch",
        "a smaller `failed to allocate`, or none",
    );
    Finding::problem(ID, Impact::Failure, 0.85, title)
        .because(why)
        .seen(Evidence::line(oom.line))
        .fix_all(fixes)
        .fix(smaller)
}

fn off(load: &LoadFacts) -> &'static str {
    match load.flash_attention() {
        Some(false) => "Flash attention is off, so attention's scores are kept in it.",
        _ => "",
    }
}

fn graph_line(load: &LoadFacts) -> Option<Evidence> {
    let compute = load.load.buffers.iter().filter(|b| b.kind == BufferKind::Compute);
    compute.max_by_key(|b| b.bytes).map(|b| Evidence::line(b.line))
}

fn partly(load: &LoadFacts, short: &Shortfall, share: f64) -> Finding {
    let sizes = &short.sizes;
    let title = format!(
        "a compute buffer of {} per GPU leaves {} of {} layers on the CPU",
        Bytes(sizes.graph_bytes),
        short.missing,
        sizes.layers
    );
    let why = format!(
        "Needed: {}; free: {}. With a compute buffer of an ordinary size {} more would fit, of \
         {} that are missing. {}",
        room::parts(sizes, &sizes.as_is()),
        room::memories(&sizes.free_bytes),
        room::layers(short.by_graph),
        short.missing,
        off(load)
    );
    // Its share of the missing layers' time; an ordinary size is a rule of thumb, hence less sure.
    Finding::problem(ID, Impact::Slower(share), 0.8, title)
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(graph_line(load))
        .fix_all(fixes(load))
}

fn fixes(load: &LoadFacts) -> Vec<Fix> {
    let mut fixes = Vec::new();
    if load.flash_attention() != Some(true) {
        fixes.extend(room::flash_attention(load));
    }
    let batch = load.load.n_ubatch.or(load.load.requested.ubatch).or(load.load.n_batch);
    let batch = batch.map_or(512, |s| s.value);
    if batch > 64 {
        let half = (batch / 4).max(32).to_string();
        let own = matches!(load.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
        let fix = if own { Fix::flag("-ub", half) } else { Fix::option("num_batch", half) };
        fixes.push(fix.why(
            format!(
                "most of the buffer is proportional to the batch, now {batch}; prompts get slower"
            ),
            "a compute buffer of about a quarter",
        ));
    }
    fixes
}
