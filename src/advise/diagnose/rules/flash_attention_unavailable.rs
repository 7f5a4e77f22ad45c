//! `flash-attention-unavailable`: flash attention was asked for and is off.

use crate::advise::diagnose::facts::{Facts, LoadFacts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{LineId, LoadOutcome, Notice};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "flash attention was asked for but is off",
    doc: Doc {
        detects: "Flash attention, or a KV cache type that needs it, that was set and is not used: the \
            GPU, the model or the setting prevents it.",
        costs: "The compute buffer keeps attention's scores and grows with the context. A quantised KV \
            cache is ignored (f16 is used, twice or four times as large), or the load fails. Both can \
            push layers to the CPU.",
        evidence: "\"flash attention enabled but not supported by gpu\" or \"by model\", \"quantized kv \
            cache requested but flash attention disabled\", \"forcing off\", \"V cache quantization \
            requires flash_attn\"; or the setting is on and the load says off. A KV type that is empty \
            in \"kv cache type not supported by model\" is a message without meaning.",
        fix: "GPUs from compute capability 7.0 on (6.0 in part) have it; most models do, some \
            architectures do not. Where the KV type needs it: `OLLAMA_FLASH_ATTENTION=1`, `-fa on`. \
            Where it cannot be had, leave the KV type at f16 and make the context smaller.",
        example: "msg=\"quantized kv cache requested but flash attention disabled\" type=q8_0",
    },
    follows_from: &[],
    check,
};

const ID: &str = "flash-attention-unavailable";

fn check(facts: &Facts) -> Verdict {
    if let Some(notice) = facts.notice("quantised-v-refused") {
        return refused(facts, notice).into();
    }
    if let Some(notice) = facts.notice("kv-type-ignored") {
        return ignored(facts, notice).into();
    }
    let kv = facts.notice("kv-type-refused").filter(|n| kind(n).is_some());
    if let Some(notice) = facts.notice("flash-attention-refused").or(kv) {
        return off(facts, notice.first, &why_of(notice)).into();
    }
    contradicted(facts).into()
}

fn kind(notice: &Notice) -> Option<&str> {
    let kind = notice.fields.get("type")?.trim_matches('"');
    (!kind.is_empty() && kind != "f16").then_some(kind)
}

/// A quantised V cache without flash attention ends the load.
fn refused(facts: &Facts, notice: &Notice) -> Finding {
    let failed = facts.last_load().is_none_or(|l| {
        !matches!(l.load.outcome, LoadOutcome::Ready(_)) || l.load.line < notice.first
    });
    let impact = if failed { Impact::Failure } else { Impact::Risk };
    Finding::problem(ID, impact, 0.95, "a quantised V cache needs flash attention, which is off")
        .because(
            "Without flash attention values are read across the cache, which quantised blocks do not \
             allow, so llama.cpp refuses the combination.",
        )
        .seen(Evidence::line(notice.first))
        .fix_all(facts.last_load().and_then(|l| room::flash_attention(&l)).or_else(|| {
            Some(Fix::flag("-fa", "on").why("a quantised V cache needs it", "the load succeeds"))
        }))
        .fix(Fix::flag("-ctv", "f16").why("needs no flash attention", "the load succeeds"))
}

/// The KV type is dropped without an error.
fn ignored(facts: &Facts, notice: &Notice) -> Finding {
    let asked = kind(notice).unwrap_or("quantised").to_string();
    let load = facts.last_load();
    let size = load.and_then(|l| l.sizes()).map(|s| s.kv_bytes).filter(|&b| b > 0);
    let size = size.map(|b| format!(" of {}", Bytes(b))).unwrap_or_default();
    let title = format!("the KV cache type {asked} is ignored because flash attention is off");
    Finding::problem(ID, impact(facts), 0.95, title)
        .because(format!(
            "Ollama uses {asked} only together with flash attention. The cache{size} is f16 instead, \
             and the compute buffer grows with the context.{}",
            turned_off(facts)
        ))
        .seen(Evidence::line(notice.first))
        .seen_if(facts.setting("OLLAMA_KV_CACHE_TYPE").map(|s| Evidence::line(s.line)))
        .seen_if(facts.setting("OLLAMA_FLASH_ATTENTION").map(|s| Evidence::line(s.line)))
        .fix(Fix::env("OLLAMA_FLASH_ATTENTION", "1").why(
            format!("{asked} takes effect with it"),
            format!("`K ({asked})` in the line of the KV cache"),
        ))
}

fn turned_off(facts: &Facts) -> &'static str {
    match facts.setting_switch("OLLAMA_FLASH_ATTENTION") {
        Some(false) => " `OLLAMA_FLASH_ATTENTION` turns it off.",
        _ => "",
    }
}

fn why_of(notice: &Notice) -> String {
    match (notice.id.as_str(), notice.fields.get("why")) {
        (_, Some(why)) => format!("flash_attn {why}"),
        ("kv-type-refused", _) => {
            format!("the model does not take a KV cache of {}", kind(notice).unwrap_or("that type"))
        }
        _ => "the GPU or the model does not support it".to_string(),
    }
}

fn off(facts: &Facts, line: LineId, why: &str) -> Finding {
    Finding::problem(ID, impact(facts), 0.9, "flash attention was asked for and is not used")
        .because(format!(
            "The engine turned it off: {why}. Attention's scores are kept in the compute buffer, which \
             grows with the context, and a quantised KV cache is not used either."
        ))
        .seen(Evidence::line(line))
        .seen_if(facts.setting("OLLAMA_FLASH_ATTENTION").map(|s| Evidence::line(s.line)))
        .fix(Fix::env("OLLAMA_KV_CACHE_TYPE", "").why(
            "without flash attention it has no effect",
            "no warning about the type of the cache",
        ))
        .fix_all(smaller(facts))
}

fn smaller(facts: &Facts) -> Vec<Fix> {
    let load = facts.short_load();
    load.map(|(load, short)| room::smaller_context(&load, &short.sizes)).unwrap_or_default()
}

/// Set on by a person, and the load says off.
fn contradicted(facts: &Facts) -> Option<Finding> {
    let asked = |load: &LoadFacts| {
        let flag = load.load.requested.flash_attention.as_ref();
        let flag = flag.filter(|f| matches!(f.value.as_str(), "on" | "1" | "true")).map(|f| f.line);
        let on = facts.setting_switch("OLLAMA_FLASH_ATTENTION") == Some(true);
        flag.or(facts.setting("OLLAMA_FLASH_ATTENTION").filter(|_| on).map(|s| s.line))
    };
    let load = facts.loads().rfind(|l| l.flash_attention() == Some(false))?;
    let asked = asked(&load)?;
    let line = load.load.flash_attention?.line;
    let finding = off(facts, line, "the load says that it is off");
    Some(Finding { confidence: 0.8, ..finding }.seen(Evidence::line(asked)))
}

/// It costs memory; that matters when layers are missing, and is slower by some tenths at most
/// otherwise.
fn impact(facts: &Facts) -> Impact {
    if facts.short_load().is_some() { Impact::Slower(0.2) } else { Impact::Slower(0.05) }
}
