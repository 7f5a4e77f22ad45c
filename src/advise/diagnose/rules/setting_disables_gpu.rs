//! `setting-disables-gpu`: a value with which no GPU is used, by intention or not.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::{Fault, judge_env};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::LineId;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a setting keeps the GPU from being used",
    doc: Doc {
        detects: "A variable, option or flag has a value with which no GPU is used: \
            CUDA_VISIBLE_DEVICES=-1, OLLAMA_LLM_LIBRARY=cpu_avx2, num_gpu 0, `-ngl 0`, `-dev \
            none`.",
        costs: "Everything runs on the CPU, without a message.",
        evidence: "The settings that the server printed, the command line, or \"user overrode \
            visible devices\" together with no GPU found. A value that names no library at all is \
            invalid-library-override.",
        fix: "Remove the setting. Services do not read the shell's environment: look into \
            `systemctl cat ollama`, the compose file, or the system variables of Windows.",
        example: r#"level=WARN msg="user overrode visible devices" CUDA_VISIBLE_DEVICES=-1"#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "setting-disables-gpu";

fn check(facts: &Facts) -> Verdict {
    if facts.ran_on_gpu() {
        return Verdict::Clear;
    }
    by_variable(facts)
        .or_else(|| by_layers(facts))
        .or_else(|| by_visible_devices(facts))
        .or_else(|| by_one_library(facts))
        .into()
}

fn by_variable(facts: &Facts) -> Option<Finding> {
    let settings = facts.log.settings.iter();
    let (name, setting, why) =
        settings.filter(|(_, s)| !s.value.is_empty()).find_map(|(n, s)| {
            let wrong_library = n == "OLLAMA_LLM_LIBRARY" && !s.value.starts_with("cpu");
            match judge_env(n, &s.value, facts.version()) {
                Some(Fault::NoGpu(why)) if !wrong_library => Some((n, s, why)),
                _ => None,
            }
        })?;
    let confidence = if facts.without_gpu().is_some() { 0.95 } else { 0.8 };
    let fix = Fix::env(name, "").why("without it all GPUs are seen", "the log names the GPU");
    Some(
        found(facts, &format!("{name}={}", setting.value), &why, setting.line, confidence)
            .seen_if(facts.machine.and_then(|m| {
                let set = m.settings.get(name)?;
                Some(Evidence::figure(format!("{name}={} in {}", set.value, set.from)))
            }))
            .fix(fix),
    )
}

/// 0 layers were asked for.
fn by_layers(facts: &Facts) -> Option<Finding> {
    let load = facts.last_load()?;
    let asked = load.load.requested.gpu_layers.filter(|l| l.value == 0)?;
    // A server that estimates asks its runner for what fits; only a server's own option counts.
    if !facts.is_ollama()
        || load.load.estimate.as_ref().is_some_and(|e| e.layers_offload == Some(0))
    {
        let requested = load.load.estimate.as_ref()?.layers_requested;
        if requested != Some(0) {
            return None;
        }
    }
    let fix = Fix::option("num_gpu", "").why(
        "without it the server puts as many layers on the GPU as fit",
        "the line `offloaded N/N layers to GPU`",
    );
    let why = "the request or the Modelfile asks for 0 layers on the GPU";
    Some(found(facts, "num_gpu 0", why, asked.line, 0.85).fix(fix))
}

/// Only one library is tried, and it found nothing.
fn by_one_library(facts: &Facts) -> Option<Finding> {
    let said = facts.any_notice(&["llm-library-override", "library-skipped"])?;
    let field = |name: &str| said.fields.get(name).map(String::as_str);
    let value = field("value").or_else(|| field("requested"))?;
    let cpu = value.starts_with("cpu");
    let failed = facts.any_notice(&["discovery-failed", "discovery-timed-out"]).is_some();
    // That the library itself failed is another finding; so is a name that selects nothing.
    if !cpu && (failed || super::invalid_library_override::decides(facts)) {
        return None;
    }
    if !cpu && (facts.no_gpu_line().is_none() || facts.gpus().next().is_some()) {
        return None;
    }
    let why = if cpu {
        "this library is for the CPU alone".to_string()
    } else {
        format!("only the library {value} is tried, and it found no GPU")
    };
    let confidence = if cpu { 0.9 } else { 0.65 };
    let fix = Fix::env("OLLAMA_LLM_LIBRARY", "")
        .why("without it every library is tried", "the log names the GPU");
    let what = format!("OLLAMA_LLM_LIBRARY={value}");
    Some(found(facts, &what, &why, said.first, confidence).fix(fix))
}

/// A choice of devices that left none.
fn by_visible_devices(facts: &Facts) -> Option<Finding> {
    let notice = facts.notice("visible-devices-overridden")?;
    facts.no_gpu_line().filter(|_| facts.gpus().next().is_none())?;
    let names = [
        ("cuda", "CUDA_VISIBLE_DEVICES"),
        ("hip", "HIP_VISIBLE_DEVICES"),
        ("rocr", "ROCR_VISIBLE_DEVICES"),
        ("vulkan", "GGML_VK_VISIBLE_DEVICES"),
        ("ordinal", "GPU_DEVICE_ORDINAL"),
    ];
    let (name, value) =
        names.iter().find_map(|(field, name)| Some((*name, notice.fields.get(*field)?)))?;
    let why = "it names a device that does not exist, or none";
    let fix = Fix::env(name, "").why("without it all GPUs are seen", "the log names the GPU");
    Some(found(facts, &format!("{name}={value}"), why, notice.first, 0.85).fix(fix))
}

fn found(facts: &Facts, what: &str, why: &str, line: LineId, confidence: f64) -> Finding {
    Finding::problem(ID, Impact::NoGpu, confidence, format!("{what} keeps the GPU from being used"))
        .because(format!(
            "The engine does what the setting says: {why}. It gives no message about it."
        ))
        .seen(Evidence::line(line))
        .seen_if(facts.without_gpu().map(Evidence::line))
}
