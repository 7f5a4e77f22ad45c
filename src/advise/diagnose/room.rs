//! Changes that make a load need less of the GPUs' memory, with values computed from its sizes.
//!
//! Several rules propose the same changes for different reasons; here each is written once, with the
//! sum that shows what it gives. A change that gives nothing is not proposed.

use crate::base::units::Bytes;
use crate::observe::logs::{Engine, Version};

use super::facts::{CTX_MODEST, LoadFacts, Q8_0_OF_F16, Sizes, WhatIf};
use super::finding::Fix;

/// `weights 18.20 GiB + KV cache 2.00 GiB + compute buffer 1.30 GiB`.
pub(super) fn parts(sizes: &Sizes, what: &WhatIf) -> String {
    let gpus = what.free_bytes.len().max(1);
    let times = if gpus > 1 { format!("{gpus} x ") } else { String::new() };
    let graph = match sizes.graph_if(what) {
        0 => " + a compute buffer".to_string(),
        bytes => format!(" + compute buffer {times}{}", Bytes(bytes)),
    };
    let weights = Bytes(sizes.weights_bytes);
    match sizes.kv_if(what) {
        0 => format!("weights {weights} + a KV cache{graph}"),
        kv => format!("weights {weights} + KV cache {}{graph}", Bytes(kv)),
    }
}

/// `1 layer`, `3 layers`.
pub(super) fn layers(n: u64) -> String {
    if n == 1 { "1 layer".to_string() } else { format!("{n} layers") }
}

/// `22.60 GiB`, or `4 x 22.60 GiB`, or each of them.
pub(super) fn memories(bytes: &[u64]) -> String {
    match bytes {
        [] => "an unknown amount".to_string(),
        [one] => Bytes(*one).to_string(),
        [first, rest @ ..] if rest.iter().all(|b| b == first) => {
            format!("{} x {}", bytes.len(), Bytes(*first))
        }
        all => all.iter().map(|&b| Bytes(b).to_string()).collect::<Vec<_>>().join(" + "),
    }
}

/// Sets the context of each sequence, in every way that the engine has.
pub(super) fn context(load: &LoadFacts, sizes: &Sizes, tokens: u64) -> Vec<Fix> {
    let facts = load.facts();
    match load.log.engine {
        Engine::Ollama | Engine::Unknown => {
            let mut fixes = vec![Fix::option("num_ctx", tokens.to_string())];
            if facts.ollama_since(Version(0, 5, 13)) != Some(false) {
                fixes.push(Fix::env("OLLAMA_CONTEXT_LENGTH", tokens.to_string()));
            }
            fixes
        }
        // llama.cpp divides its context among the sequences.
        Engine::LlamaCpp | Engine::Gpuwhy => {
            vec![Fix::flag("-c", (tokens * sizes.parallel).to_string())]
        }
        Engine::Vllm => vec![Fix::flag("--max-model-len", tokens.to_string())],
    }
}

/// A smaller context: the largest with which everything fits, else a modest one and what it gives.
pub(super) fn smaller_context(load: &LoadFacts, sizes: &Sizes) -> Vec<Fix> {
    let Some(each) = sizes.ctx_each().filter(|&c| c > 1024) else { return Vec::new() };
    let share = |tokens: u64| tokens as f64 / each as f64;
    let fits = sizes.ctx_that_fits(sizes.parallel, 1.0).filter(|&c| c < each);
    let tokens = fits.unwrap_or(CTX_MODEST);
    if tokens >= each {
        return Vec::new();
    }
    let what = WhatIf { ctx_share: share(tokens), ..sizes.as_is() };
    let layers = sizes.layers_expected(&what);
    if layers <= sizes.offloaded && fits.is_none() {
        return Vec::new();
    }
    let sum = parts(sizes, &what);
    let have = memories(&sizes.free_bytes);
    let reason = if fits.is_some() {
        let spare = spare(sizes, &what);
        let times = sizes.parallel;
        let each = if times > 1 { format!("{times} x {tokens}") } else { tokens.to_string() };
        format!("a context of {each} fits with {spare} to spare: {sum} of {have}")
    } else {
        format!(
            "with {tokens} instead of {each} {layers} of {} layers fit: {sum} of {have}",
            sizes.layers
        )
    };
    let expected = format!("`offloaded {layers}/{} layers to GPU`", sizes.layers);
    let mut fixes = context(load, sizes, tokens);
    for fix in &mut fixes {
        (fix.reason, fix.expected) = (reason.clone(), expected.clone());
    }
    fixes
}

/// What is left free, over all GPUs, when everything is placed.
fn spare(sizes: &Sizes, what: &WhatIf) -> Bytes {
    let gpus = sizes.free_bytes.len().max(1) as u64;
    let one = sizes.whole_if(what);
    let rest = one - sizes.weights_bytes - sizes.kv_if(what);
    let all = sizes.weights_bytes + sizes.kv_if(what) + rest * gpus;
    Bytes(sizes.free_bytes.iter().sum::<u64>().saturating_sub(all))
}

/// One sequence at a time, where there are several.
pub(super) fn fewer_sequences(load: &LoadFacts, sizes: &Sizes) -> Option<Fix> {
    let parallel = sizes.parallel;
    if parallel <= 1 {
        return None;
    }
    let with = |n: u64| WhatIf { ctx_share: n as f64 / parallel as f64, ..sizes.as_is() };
    // As many as fit whole, else one.
    let fitting = (1..parallel).rev().find(|&n| sizes.layers_that_fit(&with(n)) >= sizes.layers);
    let n = fitting.unwrap_or(1);
    let (what, each) = (with(n), sizes.ctx_each().unwrap_or(0));
    let reason = format!(
        "every sequence has its own context of {each}; with {n} instead of {parallel} the cache is {} \
         instead of {}, and {} of {} layers fit",
        Bytes(sizes.kv_if(&what)),
        Bytes(sizes.kv_bytes),
        sizes.layers_expected(&what),
        sizes.layers,
    );
    let expected = format!("`n_ctx = {}`", each * n);
    let fix = match load.log.engine {
        Engine::LlamaCpp | Engine::Gpuwhy => Fix::flag("-np", n.to_string()),
        Engine::Vllm => Fix::flag("--max-num-seqs", n.to_string()),
        Engine::Ollama | Engine::Unknown => Fix::env("OLLAMA_NUM_PARALLEL", n.to_string()),
    };
    Some(fix.why(reason, expected))
}

/// Keys and values in q8_0, where they are f16 and large enough to matter.
pub(super) fn smaller_kv(load: &LoadFacts, sizes: &Sizes) -> Vec<Fix> {
    let (keys, values) = load.kv_types();
    let wide = |t: &str| matches!(t, "f16" | "f32" | "bf16");
    let saved = (sizes.kv_bytes as f64 * (1.0 - Q8_0_OF_F16)) as u64;
    let old = load.facts().ollama_since(Version(0, 5, 0)) == Some(false);
    if !wide(&keys) || !wide(&values) || saved < 256 << 20 || old {
        return Vec::new();
    }
    let what = WhatIf { kv_share: Q8_0_OF_F16, ..sizes.as_is() };
    // A few hundred MiB less can be too little for one layer more.
    if sizes.offloaded < sizes.layers && sizes.layers_expected(&what) <= sizes.offloaded {
        return Vec::new();
    }
    let reason = format!(
        "the KV cache takes {} instead of {}; it needs flash attention",
        Bytes(sizes.kv_if(&what)),
        Bytes(sizes.kv_bytes)
    );
    let expected = format!("{} of {} layers fit", sizes.layers_expected(&what), sizes.layers);
    let mut fixes = match load.log.engine {
        Engine::Ollama | Engine::Unknown => vec![Fix::env("OLLAMA_KV_CACHE_TYPE", "q8_0")],
        Engine::LlamaCpp | Engine::Gpuwhy => {
            vec![Fix::flag("-ctk", "q8_0"), Fix::flag("-ctv", "q8_0")]
        }
        Engine::Vllm => return Vec::new(),
    };
    if load.flash_attention() != Some(true) {
        fixes.extend(flash_attention(load));
    }
    for fix in fixes.iter_mut().filter(|f| f.reason.is_empty()) {
        (fix.reason, fix.expected) = (reason.clone(), expected.clone());
    }
    fixes
}

/// Flash attention on.
pub(super) fn flash_attention(load: &LoadFacts) -> Option<Fix> {
    let fix = match load.log.engine {
        Engine::Ollama | Engine::Unknown => Fix::env("OLLAMA_FLASH_ATTENTION", "1"),
        Engine::LlamaCpp | Engine::Gpuwhy => Fix::flag("-fa", "on"),
        Engine::Vllm => return None,
    };
    Some(fix.why(
        "attention's scores are not kept, so the compute buffer does not grow with the context; a \
         quantised KV cache needs it",
        "`flash_attn = 1` or `enabled` in the log",
    ))
}

/// Smaller weights: how large they may be with the context as it is.
pub(super) fn smaller_weights(load: &LoadFacts, sizes: &Sizes) -> Option<Fix> {
    let what = sizes.as_is();
    let gpus = sizes.free_bytes.len().max(1) as u64;
    let rest = sizes.whole_if(&what) - sizes.weights_bytes - sizes.kv_if(&what);
    let room =
        sizes.free_bytes.iter().sum::<u64>().checked_sub(sizes.kv_if(&what) + rest * gpus)?;
    if room == 0 || room >= sizes.weights_bytes {
        return None;
    }
    let bits = load.model_bits_per_weight(sizes.weights_bytes);
    let needed = bits.map(|b| b * room as f64 / sizes.weights_bytes as f64);
    let advice = match needed {
        Some(bits) if bits >= 2.5 => format!(
            "the same model in a quantisation of at most {bits:.1} bits per weight, {} in all",
            Bytes(room)
        ),
        _ => format!("a model whose file is at most {}", Bytes(room)),
    };
    let beside = match (sizes.kv_bytes, sizes.graph_bytes * gpus) {
        (0, _) => "KV cache and compute buffer".to_string(),
        (kv, 0) => format!("{} of KV cache and a compute buffer", Bytes(kv)),
        (kv, graph) => format!("{} of KV cache and {} of compute buffer", Bytes(kv), Bytes(graph)),
    };
    Some(Fix::system("a smaller file", advice).why(
        format!(
            "beside {beside} there is room for {} of weights; these are {}",
            Bytes(room),
            Bytes(sizes.weights_bytes)
        ),
        format!("`offloaded {0}/{0} layers to GPU`", sizes.layers),
    ))
}

/// Experts of a mixture on the CPU and everything else on the GPU, which llama.cpp can do.
pub(super) fn experts_on_cpu(load: &LoadFacts) -> Option<Fix> {
    let moe = load.load.model.n_expert.is_some_and(|n| n > 0);
    let own = matches!(load.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
    (moe && own && load.load.requested.overrides.is_empty()).then(|| {
        Fix::flag("-ncmoe", "as few layers as fit, beginning with all of them").why(
            "a token uses few of the experts; with their weights on the CPU and attention on the GPU a \
             mixture is much faster than with whole layers on the CPU",
            "all layers offloaded, and experts in the CPU's buffer",
        )
    })
}
