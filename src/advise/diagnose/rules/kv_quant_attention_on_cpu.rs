//! `kv-quant-attention-on-cpu`: a quantised KV type has no attention kernel on the GPU.

use crate::advise::diagnose::facts::{Facts, LoadFacts, Placement};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, Graph, LineId};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "attention with this type of KV cache has no GPU kernel and runs on the CPU",
    doc: Doc {
        detects: "A model wholly on the GPU whose attention is computed by the CPU, because the build \
            has no flash attention kernel for the type of the KV cache with this head size.",
        costs: "In every layer the queries and the whole cache go over to the CPU and the result comes \
            back: about two splits of the graph per layer. Prompts get five to ten times slower, long \
            conversations too, and nothing is printed about it.",
        evidence: "All layers offloaded, keys or values quantised, and about twice as many graph \
            splits as layers. `GGML_SCHED_DEBUG=2` with `-v` shows `FLASH_ATTN_EXT` on the CPU. The \
            same splits with f16 keys and values are op-unsupported-on-backend.",
        fix: "f16, or q8_0 or q4_0 for both keys and values alike: the default CUDA build has kernels \
            for these. Other types and mixed ones need a build with `GGML_CUDA_FA_ALL_QUANTS=ON`. For \
            a head size without kernels only f16 helps until a newer release.",
        example: "load_tensors: offloaded 33/33 layers to GPU\n\
            llama_kv_cache: size = 1280.00 MiB ( 16384 cells, 32 layers), K (q5_0): 640.00 MiB, V (q5_0): 640.00 MiB\n\
            llama_context: graph splits = 66",
    },
    follows_from: &[],
    check,
};

const ID: &str = "kv-quant-attention-on-cpu";

fn check(facts: &Facts) -> Verdict {
    facts.loads().rev().find_map(|load| found(facts, &load)).into()
}

fn found(facts: &Facts, load: &LoadFacts) -> Option<Finding> {
    let (keys, values) = load.kv_types();
    if !quantised(&keys) && !quantised(&values) {
        return None;
    }
    if let Some(notice) = facts.notice("flash-attention-converts-kv") {
        return Some(converted(load, &keys, &values, notice.first));
    }
    let on_cpu = facts.notice("flash-attention-on-cpu").map(|n| n.first);
    let by_splits = load.attention_splits();
    let nodes = load.attention_nodes_on_cpu();
    if load.placement() != Some(Placement::Whole)
        || (on_cpu.is_none() && by_splits.is_none() && nodes == 0)
    {
        return None;
    }
    let layers = load.repeating_layers();
    let splits = by_splits.map(|(splits, _)| splits);
    let title = match splits {
        Some(splits) => format!(
            "attention runs on the CPU: {splits} graph splits for {layers} layers with a KV cache of \
             {}",
            types(&keys, &values)
        ),
        None => format!("attention with a KV cache of {} runs on the CPU", types(&keys, &values)),
    };
    let expected = load.splits_expected().unwrap_or(2);
    let why = format!(
        "All layers are on the GPU, so {expected} splits would be normal. About two more for every layer \
         mean that one operation of each layer is done by the CPU; with a quantised cache that is \
         attention, for which this build has no GPU kernel with {} and this head size.{}",
        types(&keys, &values),
        speeds(facts)
    );
    // Prompts of the known cases lost four fifths and more of their speed; certain when the log names
    // the operation.
    let sure = if nodes > 0 || on_cpu.is_some() { 0.97 } else { 0.9 };
    Some(
        Finding::problem(ID, Impact::Slower(0.8), sure, title)
            .because(why)
            .seen_if(by_splits.map(|(_, line)| Evidence::line(line)))
            .seen_if(on_cpu.map(Evidence::line))
            .seen_if(load.load.kv.as_ref().map(|k| Evidence::line(k.line)))
            .seen_if(load.load.layers.map(|l| Evidence::line(l.line)))
            .fix_all(fixes(facts, &keys, &values)),
    )
}

fn converted(load: &LoadFacts, keys: &str, values: &str, line: LineId) -> Finding {
    let title = format!("a KV cache of {} is converted to f16 for every use", types(keys, values));
    // The release says itself that this is slow; the factor is not known.
    Finding::problem(ID, Impact::Slower(0.4), 0.9, title)
        .because(
            "This build has no attention kernel for these types. It converts keys and values to f16 \
             before each use, which costs time and memory with every token.",
        )
        .seen(Evidence::line(line))
        .seen_if(load.load.kv.as_ref().map(|k| Evidence::line(k.line)))
        .fix_all(fixes(&load.facts(), keys, values))
}

/// Speeds of the requests, where they were told.
fn speeds(facts: &Facts) -> String {
    let all = &facts.log.requests.all;
    let prompt = all.prompt_tokens_per_s.mean();
    let decode = all.decode_tokens_per_s.mean();
    match (prompt, decode) {
        (Some(p), Some(d)) => {
            format!(" Measured here: {p:.0} tokens/s for prompts, {d:.1} tokens/s for answers.")
        }
        _ => String::new(),
    }
}

fn quantised(kind: &str) -> bool {
    !matches!(kind, "f16" | "bf16" | "f32" | "")
}

fn types(keys: &str, values: &str) -> String {
    if keys == values { keys.to_string() } else { format!("{keys} keys and {values} values") }
}

fn fixes(facts: &Facts, keys: &str, values: &str) -> Vec<Fix> {
    // q8_0 and q4_0 alike are what default builds have kernels for; when one of them is what fails,
    // it is the head size that has none.
    let default_has = keys == values && matches!(keys, "q8_0" | "q4_0");
    let value = if default_has { "f16" } else { "q8_0" };
    let reason = if default_has {
        "for this head size the build has kernels for f16 alone"
    } else {
        "default builds have GPU kernels for it"
    };
    let expected = "two graph splits on one GPU, and prompts at full speed";
    let mut fixes = match facts.log.engine {
        Engine::Ollama => vec![Fix::env("OLLAMA_KV_CACHE_TYPE", value).why(reason, expected)],
        _ => vec![
            Fix::flag("-ctk", value).why(reason, expected),
            Fix::flag("-ctv", value).why("the same type for both", expected),
        ],
    };
    if !default_has && facts.log.engine != Engine::Ollama {
        fixes.push(
            Fix::system(
                "build with all kernels",
                "cmake -B build -DGGML_CUDA=ON -DGGML_CUDA_FA_ALL_QUANTS=ON",
            )
            .why("keeps the types as they are; compiling takes much longer", expected),
        );
    }
    fixes.push(
        Fix::system(
            "see the operation",
            "GGML_SCHED_DEBUG=2 llama-cli -v … 2>&1 | grep 'FLASH_ATTN.*CPU'",
        )
        .why("shows which operation runs where", "no line"),
    );
    fixes
}

impl LoadFacts<'_> {
    /// Layers without the output.
    pub(crate) fn repeating_layers(&self) -> u64 {
        let told = self.load.model.n_layer;
        told.or_else(|| Some(self.share()?.0.total.saturating_sub(1))).unwrap_or(0)
    }

    /// The larger number of splits, for prompts or one token, when it is about two per layer: one
    /// operation of every layer is elsewhere.
    pub(crate) fn attention_splits(&self) -> Option<(u64, LineId)> {
        let graph = self.load.graph?;
        let splits = most_splits(&graph)?;
        let layers = self.repeating_layers();
        (layers >= 4 && splits * 2 >= layers * 3).then_some((splits, graph.line))
    }

    /// Nodes of attention that a dump shows on the CPU.
    pub(crate) fn attention_nodes_on_cpu(&self) -> u64 {
        let nodes = self.load.nodes_by_device.iter();
        let on_cpu =
            nodes.filter(|(d, op, _)| d.starts_with("CPU") && op.starts_with("FLASH_ATTN"));
        on_cpu.map(|(_, _, n)| n).sum()
    }
}

/// The larger of the splits for a prompt and for one token.
pub(crate) fn most_splits(graph: &Graph) -> Option<u64> {
    graph.splits_prompt.max(graph.splits_decode)
}
