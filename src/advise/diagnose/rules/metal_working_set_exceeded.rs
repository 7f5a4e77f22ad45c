//! `metal-working-set-exceeded`: more is allocated on an Apple or Intel GPU of a Mac than it should.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Engine, LibraryKind};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "more is allocated with Metal than the recommended working set",
    doc: Doc {
        detects: "Buffers of Metal whose sum is above what the system recommends for the GPU \
            (`recommendedMaxWorkingSetSize`, about two thirds to three quarters of the memory).",
        costs: "The system moves pages in and out of the GPU's reach while it computes, or refuses the \
            work. Generation becomes many times slower, without an error.",
        evidence: "\"current allocated size is greater than the recommended max working set size\", or \
            a sum of the Metal buffers above the recommended size.",
        fix: "A smaller model or context, fewer layers on the GPU; on Macs with little memory or an \
            Intel GPU `-ngl 0` can be faster. On Apple silicon the limit can be raised: `sudo sysctl \
            iogpu.wired_limit_mb=N`.",
        example: "ggml_metal_init: recommendedMaxWorkingSetSize  = 11453.25 MB\n\
            ggml_metal_log_allocated_size: warning: current allocated size is greater than the \
            recommended max working set size",
    },
    follows_from: &[],
    check,
};

const ID: &str = "metal-working-set-exceeded";

fn check(facts: &Facts) -> Verdict {
    let device = facts.log.devices.iter().find(|d| d.library == Some(LibraryKind::Metal));
    let limit = device.and_then(|d| d.total_bytes);
    let held = facts.loads().map(|l| {
        let kinds = [BufferKind::Model, BufferKind::Kv, BufferKind::Compute];
        kinds.iter().map(|&k| l.on_gpus(k)).sum::<u64>()
    });
    let held = held.max().unwrap_or(0);
    let notice = facts.notice("metal-above-working-set");
    let above = device.is_some() && limit.is_some_and(|l| held > l);
    if notice.is_none() && !above {
        return Verdict::Clear;
    }
    let mib = |name: &str| {
        let text = notice?.fields.get(name)?;
        text.parse::<f64>().ok().map(|m| (m * 1048576.0) as u64)
    };
    let limit = mib("limit").or(limit);
    let used = Some(held).filter(|&b| b > 0).max(mib("used"));
    let title = match (used, limit) {
        (Some(used), Some(limit)) => {
            format!("{} allocated with Metal where {} are recommended", Bytes(used), Bytes(limit))
        }
        _ => "more allocated with Metal than is recommended".to_string(),
    };
    let intel = device.and_then(|d| d.description.as_deref()).is_some_and(|d| d.contains("Intel"));
    let hint = if intel {
        " An Intel GPU shares the memory of the host and is slower than its CPU cores for this work; \
         without it the model runs faster."
    } else {
        ""
    };
    // Paging at every token: the known cases lost most of their speed.
    let fails = facts.gpu_oom().is_some_and(|o| o.fatal);
    let impact = if fails { Impact::Failure } else { Impact::Slower(0.85) };
    let finding = Finding::problem(ID, impact, 0.9, title)
        .because(format!(
            "Beyond that size the system moves pages of the buffers in and out while the GPU computes. \
             Every token reads all weights, so all of them are moved for every token.{hint}"
        ))
        .seen_if(notice.map(|n| Evidence::line(n.first)))
        .seen_if(device.map(|d| Evidence::line(d.line)))
        .seen_if(facts.last_load().and_then(|l| l.load.layers).map(|l| Evidence::line(l.line)));
    let ollama = facts.log.engine == Engine::Ollama;
    let layers = if intel { "0" } else { "fewer than all" };
    let fewer = if ollama { Fix::option("num_gpu", layers) } else { Fix::flag("-ngl", layers) };
    let finding = finding
        .fix(fewer.why("what is not allocated with Metal is not paged", "no warning in the log"))
        .fix(Fix::system("a smaller file", smaller(limit)).why(
            "weights, cache and compute buffer have to stay below the limit together",
            "no warning in the log",
        ));
    if intel {
        return finding.into();
    }
    finding
        .fix(Fix::system("raise the limit", "sudo sysctl iogpu.wired_limit_mb=N").why(
            "on Apple silicon; N in MiB, leave 4 to 8 GiB for the system; lasts until the next start",
            "a larger recommendedMaxWorkingSetSize",
        ))
        .into()
}

fn smaller(limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!("a model file of at most {}", Bytes(limit / 10 * 8)),
        None => "a smaller quantisation or model".to_string(),
    }
}
