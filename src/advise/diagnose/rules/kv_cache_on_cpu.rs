//! `kv-cache-on-cpu`: the layers are on the GPU, their cache is in main memory.

use crate::advise::diagnose::facts::{Facts, LoadFacts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Engine};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the KV cache is in main memory although all layers are on the GPU",
    doc: Doc {
        detects: "All layers offloaded, and a KV cache that lies in buffers of the host.",
        costs: "Attention of every layer then runs on the CPU, or copies its cache over; the graph is \
            cut about twice a layer. The longer the conversation, the slower.",
        evidence: "`CPU KV buffer size` (or `CUDA_Host`) next to `offloaded M/M layers`. It is made so \
            by `-nkvo`, `--no-kv-offload`, or `LLAMA_ARG_NO_KV_OFFLOAD` in the server's environment. \
            With layers missing on the GPU, their part of the cache is on the host as well: no fault.",
        fix: "Leave `-nkvo` out and the variable unset; make room with a smaller context or a KV cache \
            in q8_0.",
        example: "load_tensors: offloaded 33/33 layers to GPU\n\
            llama_kv_cache_unified:        CPU KV buffer size =  4096.00 MiB\n\
            llama_context: graph splits = 66",
    },
    follows_from: &[],
    check,
};

const ID: &str = "kv-cache-on-cpu";

fn check(facts: &Facts) -> Verdict {
    facts.loads().rev().find_map(|load| found(facts, &load)).into()
}

fn found(facts: &Facts, load: &LoadFacts) -> Option<Finding> {
    let host = load.on_host(BufferKind::Kv);
    let gpu = load.on_gpus(BufferKind::Kv);
    if load.placement() != Some(Placement::Whole) || host == 0 || host < gpu {
        return None;
    }
    let line = load.load.buffers.iter().find(|b| b.kind == BufferKind::Kv && b.is_host())?.line;
    let title =
        format!("the KV cache ({}) is in main memory, the layers are on the GPU", Bytes(host));
    let fix = match facts.log.engine {
        Engine::Ollama => Fix::env("LLAMA_ARG_NO_KV_OFFLOAD", "")
            .why("the child takes it from the server's environment", "`CUDA0 KV buffer size`"),
        _ => Fix::leave_out("-nkvo").why(
            "without it the cache lies with its layers; make room with a smaller -c or -ctk q8_0 -ctv \
             q8_0 if needed",
            "`CUDA0 KV buffer size`",
        ),
    };
    // Reading the cache from main memory and two cuts a layer; the share grows with the conversation.
    Some(
        Finding::problem(ID, Impact::Slower(0.6), 0.9, title)
            .because(
                "Attention reads the whole cache for every token. In main memory it is computed by the \
                 CPU, layer by layer, and the GPU waits in each of them.",
            )
            .seen(Evidence::line(line))
            .seen_if(load.load.requested.kv_on_host.map(Evidence::line))
            .seen_if(load.load.graph.map(|g| Evidence::line(g.line)))
            .fix(fix),
    )
}
