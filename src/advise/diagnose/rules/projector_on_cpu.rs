//! `projector-on-cpu`: pictures are encoded by the CPU, next to a language model on the GPU.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, LineId, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the projector of a vision model runs on the CPU",
    doc: Doc {
        detects: "A vision model whose language part is on a GPU, and whose projector, which turns a \
            picture into tokens, is not.",
        costs: "Every picture costs seconds to minutes on the CPU before the first token; the GPU is \
            idle in that time. Text alone is as fast as ever.",
        evidence: "`CLIP using CPU backend` next to layers on a GPU. `--no-mmproj-offload` asks for it. \
            Builds of llama.cpp between December 2024 and March 2025 (b4361 to b4913, about) could not \
            do otherwise. When the language part is on the CPU as well, that is the question, and not \
            this.",
        fix: "Leave out `--no-mmproj-offload`, unset `LLAMA_ARG_MMPROJ_OFFLOAD`, update a build of that \
            time. Where memory is short, a smaller context makes room for the projector.",
        example: "load_tensors: offloaded 29/29 layers to GPU\n\
            clip_ctx: CLIP using CPU backend\n\
            srv  process_chun: image slice encoded in 5210 ms",
    },
    follows_from: &[
        "build-without-gpu-support",
        "gpu-backend-library-missing",
        "no-gpu-found",
        "setting-disables-gpu",
    ],
    check,
};

const ID: &str = "projector-on-cpu";

/// Builds in which the projector had no GPU: from the one that took it away to the last one before
/// it came back.
const WITHOUT_GPU: (u32, u32) = (4361, 4913);
const OPTION: &str = "--no-mmproj-offload";

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("projector-on-cpu") else { return Verdict::Clear };
    // Loaded once more, and then on a GPU.
    let mended = facts.notice("projector-on-gpu").is_some_and(|gpu| gpu.last > notice.last);
    if mended || !facts.ran_on_gpu() {
        return Verdict::Clear;
    }
    let asked = asked_for(facts);
    let build = facts.version().filter(|_| facts.log.engine == Engine::LlamaCpp);
    let old = build.is_some_and(|Version(b, ..)| (WITHOUT_GPU.0..=WITHOUT_GPU.1).contains(&b));
    let encoded = facts.notice("image-encoded");
    let ms = encoded.and_then(|n| n.fields.get("ms")?.parse::<f64>().ok());
    let title = match ms {
        Some(ms) => format!("pictures are encoded by the CPU: {:.1} s for one", ms / 1000.0),
        None => "the projector runs on the CPU: every picture waits for it".to_string(),
    };
    let reason = if asked.is_some() {
        "It was asked for on the command line."
    } else if old {
        "This build has no GPU for it: that was taken out for some months."
    } else {
        "Nothing in this log asks for it: a variable of the environment may, or no backend that the \
         projector can use was found."
    };
    // Nobody who sends no pictures notices it.
    let impact = if encoded.is_some() { Impact::Slower(0.6) } else { Impact::Slower(0.3) };
    Finding::problem(ID, impact, if asked.is_some() || old { 0.95 } else { 0.85 }, title)
        .because(format!(
            "The language model is on the GPU, but what turns a picture into tokens for it computes on \
             the CPU, many times slower. {reason}"
        ))
        .seen(Evidence::line(notice.first))
        .seen_if(encoded.map(|n| Evidence::line(n.first)))
        .seen_if(asked.map(Evidence::line))
        .fix(fix(facts, asked.is_some(), old))
        .into()
}

/// The command line that asks for it.
fn asked_for(facts: &Facts) -> Option<LineId> {
    let mut all = facts.loads().flat_map(|l| &l.load.requested.other);
    all.find(|o| o.value.starts_with(OPTION)).map(|o| o.line)
}

fn fix(facts: &Facts, asked: bool, old: bool) -> Fix {
    let expected = "`CLIP using CUDA0 backend` (or the name of your GPU)";
    if old {
        let update = Fix::system("update", "a build of llama.cpp of April 2025 or newer");
        return update.why("it lets the projector use the GPU again", expected);
    }
    if asked {
        return Fix::leave_out(OPTION).why("without it the projector goes to the GPU", expected);
    }
    if facts.is_ollama() {
        return Fix::env("LLAMA_ARG_MMPROJ_OFFLOAD", "")
            .why("the child takes it from the server's environment", expected);
    }
    Fix::flag("--mmproj-offload", "").why(
        "it is the default, unless LLAMA_ARG_MMPROJ_OFFLOAD or LLAMA_ARG_NO_MMPROJ_OFFLOAD is set",
        expected,
    )
}
