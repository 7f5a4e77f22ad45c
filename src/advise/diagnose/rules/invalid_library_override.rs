//! `invalid-library-override`: a variable that overrides the choice of library selects nothing.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::{Fault, fix_env, judge_env, knobs};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{LineId, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "OLLAMA_LLM_LIBRARY names a library that does not exist",
    doc: Doc {
        detects: "OLLAMA_LLM_LIBRARY has a value that is no library of this version.",
        costs: "From 0.12.4 on every GPU library is skipped, without a word at the usual log \
            level, and everything runs on the CPU. Releases before that ignore the value, or \
            start the runner for the CPU.",
        evidence: "The variable in the settings that the server prints, compared with the names \
            that the version has (0.3 to 0.5: cuda_v11, cuda_v12, cpu_avx2; then cuda_v12, \
            cuda_v13, rocm, vulkan; from 0.30 on rocm_v7_2 or rocm_v7_1 for rocm), or the \
            server's own \"Invalid OLLAMA_LLM_LIBRARY\". When a GPU does the work all the same, \
            it is only unknown-setting.",
        fix: "Remove the variable: the server chooses by itself. To force one library, use the \
            exact name of a folder under lib/ollama.",
        example: r#"level=INFO source=server.go:166 msg="Invalid OLLAMA_LLM_LIBRARY cuda_v11.3 - not found""#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "invalid-library-override";

fn check(facts: &Facts) -> Verdict {
    let Some((value, line)) = invalid(facts) else { return Verdict::Clear };
    if facts.ran_on_gpu() {
        return Verdict::Clear;
    }
    let without = facts.without_gpu();
    let decides = decides(facts);
    // Where the value is ignored it is a mistake, but not the cause.
    let (impact, confidence) = match (decides, without.is_some()) {
        (true, true) => (Impact::NoGpu, 0.95),
        (true, false) => (Impact::NoGpu, 0.9),
        (false, _) => (Impact::Risk, 0.8),
    };
    let at = facts.version().unwrap_or(Version(u32::MAX, 0, 0));
    let names = knobs().gpu_libraries(at, facts.runs_on("windows") == Some(true));
    let near = names.iter().find(|n| alike(n, value));
    let why = if decides {
        format!(
            "OLLAMA_LLM_LIBRARY={value} selects nothing: this version has {}. The server then \
                skips the libraries that drive GPUs, and goes on with the CPU.",
            names.join(", ")
        )
    } else {
        format!(
            "OLLAMA_LLM_LIBRARY={value} is no library of this version, which has {}. Releases \
                before 0.12.4 ignore such a value, so it is not why no GPU is used; a newer \
                release would use no GPU because of it.",
            names.join(", ")
        )
    };
    Finding::problem(
        ID,
        impact,
        confidence,
        format!("OLLAMA_LLM_LIBRARY={value} is no library of this version"),
    )
    .because(why)
    .seen(Evidence::line(line))
    .seen_if(facts.notice("library-skipped").map(|n| Evidence::line(n.first)))
    .seen_if(without.map(Evidence::line))
    .fix(fix_env(facts.version(), "OLLAMA_LLM_LIBRARY", "").why(
        "without it the server takes the library that fits the GPU and the driver",
        "`inference compute` in the log names the GPU",
    ))
    .fix_all(near.map(|name| {
        Fix::env("OLLAMA_LLM_LIBRARY", (*name).to_string()).why(
            "the name of this version, where the library must be forced",
            "the log names the GPU",
        )
    }))
    .fix(
        Fix::system("names that can be used", "ls /usr/lib/ollama /usr/local/lib/ollama")
            .why("a name must be that of a folder, letter for letter", ""),
    )
    .into()
}

/// Whether a value means a library: the same letters before its version, and its digits, if any.
fn alike(name: &str, value: &str) -> bool {
    let family = |t: &str| t.chars().take_while(char::is_ascii_alphabetic).collect::<String>();
    let digits = |t: &str| t.chars().filter(char::is_ascii_digit).collect::<String>();
    let (known, given) = (digits(name), digits(value));
    family(name) == family(value) && (given.is_empty() || given.starts_with(&known))
}

/// The wrong value, and the line that tells it.
fn invalid<'a>(facts: &Facts<'a>) -> Option<(&'a str, LineId)> {
    if let Some(notice) = facts.notice("invalid-llm-library") {
        return Some((notice.fields.get("value").map_or("", String::as_str), notice.first));
    }
    let setting = facts.setting("OLLAMA_LLM_LIBRARY");
    let value = setting.map(|s| (s.value.as_str(), s.line)).or_else(|| {
        let skipped = facts.notice("library-skipped")?;
        Some((skipped.fields.get("requested")?.as_str(), skipped.first))
    });
    value.filter(|(value, _)| {
        let fault = judge_env("OLLAMA_LLM_LIBRARY", value, facts.version());
        // Libraries for the CPU do what they say: see setting-disables-gpu.
        !value.starts_with("cpu") && matches!(fault, Some(Fault::NoGpu(_) | Fault::Unreadable(_)))
    })
}

/// Whether a wrong value is what keeps the GPU from being used.
pub(super) fn decides(facts: &Facts) -> bool {
    let said = facts.any_notice(&["invalid-llm-library", "library-skipped"]).is_some();
    invalid(facts).is_some()
        && !facts.ran_on_gpu()
        && (said || facts.ollama_since(Version(0, 12, 4)) == Some(true))
}
