//! `cuda-graphs-off`: every kernel is launched by the host, one after the other.

use crate::advise::diagnose::facts::{Facts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Severity};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "CUDA graphs are not used, so the CPU launches every kernel by itself",
    doc: Doc {
        detects: "A backend that says that it does not record the work of a token as one CUDA graph, for \
            a reason that holds for the whole run.",
        costs: "A token of a small model is a few hundred short kernels. Launched one by one they take \
            the CPU longer than they take the GPU, which waits: one core at 100 %, the GPU half idle. \
            Large models hardly notice.",
        evidence: "\"disabling CUDA graphs due to GPU architecture\" (below compute capability 7.0), or \
            \"due to too many consecutive updates\". Batches of more than one token never use graphs, \
            and the message about them is no fault.",
        fix: "None for an older GPU: larger models and batches make it matter less. For updates: a newer \
            build, which changes its graphs less often.",
        example: "ggml_backend_cuda_graph_compute: disabling CUDA graphs due to GPU architecture",
    },
    follows_from: &["kv-quant-attention-on-cpu", "op-unsupported-on-backend", "model-exceeds-vram"],
    check,
};

const ID: &str = "cuda-graphs-off";

/// Weights above which launches are hidden behind the work: about 10 ms a token on a usual GPU.
const LARGE_BYTES: u64 = 4 << 30;

fn check(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("cuda-graphs-disabled") else { return Verdict::Clear };
    let reason = notice.fields.get("reason").map_or("", |r| r.trim());
    let lasting = ["GPU architecture", "too many"].iter().any(|r| reason.starts_with(r));
    let Some(load) = facts.loads().rev().find(|l| l.placement() == Some(Placement::Whole)) else {
        return Verdict::Clear;
    };
    let weights = load.sizes().map_or(0, |s| s.weights_bytes);
    if !lasting || weights == 0 || weights > LARGE_BYTES {
        return Verdict::Clear;
    }
    let mut finding = Finding::problem(
        ID,
        Impact::Slower(0.2),
        0.7,
        format!("CUDA graphs are off ({reason}): the CPU launches every kernel of a small model"),
    );
    finding.severity = Severity::Info;
    finding
        .because(
            "The work of a token of this model is short, and the CPU hands it over kernel by kernel. The \
             GPU waits between them; one core is busy with nothing but launching.",
        )
        .seen(Evidence::line(notice.first))
        .fix(
            Fix::system("answer several requests at a time", "more slots, or a larger model").why(
                "the same launches then do more work",
                "more tokens per second over all requests",
            ),
        )
        .into()
}
