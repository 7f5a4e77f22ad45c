//! `context-kv-too-large`: the context's cache and graph push layers off the GPU, or do not fit.

use crate::advise::diagnose::facts::{
    CTX_MODEST, Cause, Facts, LoadFacts, Oom, OomCause, Shortfall,
};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the context is so large that its KV cache and compute buffer push layers to the CPU",
    doc: Doc {
        detects: "A context whose KV cache (and, without flash attention, compute buffer) takes the \
            memory that layers would need, or for which memory cannot be had at all.",
        costs: "The KV cache is reserved for the whole context when the model is loaded, whether a \
            conversation fills it or not. Layers that have no room run on the CPU, many times slower; \
            an allocation that fails ends the load.",
        evidence: "Sizes of the log's own lines. Counted are the layers that would fit with a context \
            of 4096 and are missing now. The KV cache grows with the context; the compute buffer does \
            so only without flash attention. When the weights alone are too large, most layers stay \
            missing with any context, and model-exceeds-vram is the cause.",
        fix: "A smaller `num_ctx` (request, Modelfile) or `OLLAMA_CONTEXT_LENGTH` (server, 0.5.13 and \
            newer), `-c` for llama.cpp: the report computes the largest that fits. Flash attention and \
            a KV cache in q8_0 halve what a context takes.",
        example: "msg=offload layers.model=33 layers.offload=12 memory.available=\"[7.6 GiB]\" \
            memory.required.kv=\"8.0 GiB\" memory.weights.total=\"4.3 GiB\" memory.graph.full=\"4.2 GiB\"",
    },
    follows_from: &["default-context-tier"],
    check,
};

const ID: &str = "context-kv-too-large";

fn check(facts: &Facts) -> Verdict {
    if let Some(finding) = vllm(facts) {
        return finding.into();
    }
    let oom = facts.gpu_oom().filter(|o| o.fatal && o.cause() == OomCause::Context);
    if let Some(oom) = oom {
        return failed(&oom).into();
    }
    let Some((load, short)) = facts.short_load() else { return Verdict::Clear };
    let share = short.share_of_time(Cause::Context);
    share.map(|share| partly(&load, &short, share)).into()
}

fn partly(load: &LoadFacts, short: &Shortfall, share: f64) -> Finding {
    let sizes = &short.sizes;
    let each = sizes.ctx_each().unwrap_or(0);
    let title = format!(
        "a context of {each} takes {} of KV cache and leaves {} of {} layers on the CPU",
        Bytes(sizes.kv_bytes),
        short.missing,
        sizes.layers
    );
    let graph = if sizes.graph_grows && sizes.graph_bytes > 1 << 30 {
        " Without flash attention the compute buffer grows with the context as well."
    } else {
        ""
    };
    let why = format!(
        "Needed: {}; free: {}. With a context of {} there would be {} more on the GPU, of {} \
         that are missing.{graph} The layers on the CPU take about {:.0} % of the time of a token.",
        room::parts(sizes, &sizes.as_is()),
        room::memories(&sizes.free_bytes),
        CTX_MODEST.min(each),
        room::layers(short.by_context),
        short.missing,
        100.0 * short.time_share,
    );
    // The share of the time that the layers take which a modest context would bring back.
    let sure = if short.free_known { 0.95 } else { 0.85 };
    Finding::problem(ID, Impact::Slower(share), sure, title)
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(ctx_line(load))
        .seen_if(load.load.kv.as_ref().map(|k| Evidence::line(k.line)))
        .fix_all(room::smaller_context(load, sizes))
        .fix_all(room::smaller_kv(load, sizes))
        .fix_all(room::flash_attention(load).filter(|_| sizes.graph_grows))
}

/// vLLM does not start when its KV cache cannot hold one context of the longest kind.
fn vllm(facts: &Facts) -> Option<Finding> {
    let notice = facts.notice("vllm-context-too-long")?;
    let field = |name: &str| notice.fields.get(name).map(String::as_str);
    let asked = field("asked")?;
    let fits = field("fits").and_then(|f| f.parse::<u64>().ok()).filter(|&f| f >= 16);
    let room = match (fits, field("have")) {
        (Some(fits), _) => format!("there is room for {fits} tokens"),
        (None, Some(have)) => format!("there are {have} GiB for it"),
        (None, None) => "there is not enough room".to_string(),
    };
    let title = format!("a context of {asked} does not fit the KV cache: {room}");
    // Blocks of 16 tokens.
    let length = fits.map_or_else(|| "8192".to_string(), |f| (f / 16 * 16).to_string());
    let expected = "the server starts";
    Some(
        Finding::problem(ID, Impact::Failure, 0.95, title)
            .because(
                "vLLM reserves its KV cache from what weights and one batch leave of its share of the GPU, \
                 and does not start when one sequence of the longest context would not fit.",
            )
            .seen(Evidence::line(notice.first))
            .fix(Fix::flag("--max-model-len", length).why("the longest context that fits", expected))
            .fix(Fix::flag("--gpu-memory-utilization", "0.95").why(
                "a larger share of the GPU for the cache (0.9 by default)",
                "a higher `GPU KV cache size`",
            ))
            .fix(
                Fix::flag("--kv-cache-dtype", "fp8")
                    .why("the cache takes half of what 16 bits take", "twice the tokens"),
            ),
    )
}

fn ctx_line(load: &LoadFacts) -> Option<Evidence> {
    let seen = load.load.n_ctx.or(load.load.requested.ctx)?;
    Some(Evidence::line(seen.line))
}

fn failed(oom: &Oom) -> Finding {
    let ctx = oom.load.and_then(|l| l.ctx()).unwrap_or(0);
    let size = oom.bytes.map(|b| format!(" ({})", Bytes(b))).unwrap_or_default();
    let part = oom.part.name();
    let of = if ctx > 0 { format!(" of a context of {ctx}") } else { String::new() };
    let the = if ctx > 0 { format!("the context of {ctx}") } else { "the context".to_string() };
    let title = format!("no memory for {part}{size}{of}: the load fails");
    let why = format!(
        "The weights were placed; then the allocation for {part}{size} failed. Its size follows from \
         {the}: a context of half that needs half of it."
    );
    let load = oom.load;
    let sizes = load.and_then(|l| l.sizes());
    let mut finding = Finding::problem(ID, Impact::Failure, 0.85, title)
        .because(why)
        .seen(Evidence::line(oom.line))
        .seen_if(load.as_ref().and_then(ctx_line));
    if let (Some(load), Some(sizes)) = (load, sizes) {
        let half = (ctx / sizes.parallel / 2).next_power_of_two().max(2048);
        let half = sizes.ctx_that_fits(sizes.parallel, 1.0).unwrap_or(half).min(half);
        let mut fixes = room::context(&load, &sizes, half);
        for fix in &mut fixes {
            fix.reason = format!("{part} shrinks with the context");
            fix.expected = "the load succeeds".to_string();
        }
        finding = finding.fix_all(fixes).fix_all(room::smaller_kv(&load, &sizes));
        finding = finding.fix_all(room::flash_attention(&load).filter(|_| sizes.graph_grows));
    } else if ctx == 0 {
        // What was asked for is not in the log, so no value can be computed from it.
        finding = finding.fix(Fix::flag("-c", "8192").why(
            "without -c (n_ctx of a binding) the model's own longest context may be reserved",
            "`n_ctx` in the log, and a load that succeeds",
        ));
    }
    finding
}
