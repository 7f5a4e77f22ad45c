//! `served-model-on-cpu`: a watched server holds a part of a loaded model in main memory.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::event::{ServedModel, ServerFact, ServerState};
use crate::base::units::Bytes;
use crate::observe::session::Session;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a server holds part of a loaded model in main memory",
    doc: Doc {
        detects: "A server that is watched and says itself that a model is not, or only partly, in the \
            memory of GPUs.",
        costs: "Every token passes through all layers, and the CPU computes those whose weights are in \
            main memory, five to twenty times slower.",
        evidence: "`size_vram` below `size` in Ollama's `/api/ps`, which `ollama ps` shows as a share of \
            CPU and GPU. That a model is wholly on the CPU of a machine without a GPU is none. Why it is \
            there the server does not say; its log does, and then this follows from that.",
        fix: "A smaller context, fewer parallel requests, a KV cache in q8_0 with flash attention, \
            other programs off the GPU, or a smaller quantisation. The log of the load tells which.",
        example: "llama3:70b is to 43 % in main memory: 17.1 GiB of 39.9 GiB",
    },
    follows_from: &[
        "model-exceeds-vram",
        "context-kv-too-large",
        "parallel-multiplies-kv",
        "default-context-tier",
        "compute-graph-too-large",
        "output-layer-too-large",
        "memory-estimate-too-high",
        "vram-used-by-other-process",
        "models-share-vram",
        "vram-not-released",
        "gpu-layers-set-by-user",
        "ngl-not-set",
        "no-gpu-found",
        "driver-not-loaded",
        "container-no-gpu-access",
        "setting-disables-gpu",
        "gpu-backend-library-missing",
        "build-without-gpu-support",
    ],
    check,
};

const ID: &str = "served-model-on-cpu";

/// A few buffers are always in main memory.
const CPU_MIN: f64 = 0.02;

/// How much faster a GPU reads weights than a CPU, at least: the lower end, so as not to promise.
const GPU_TIMES: f64 = 5.0;

fn check(facts: &Facts) -> Verdict {
    let Some(session) = facts.live else { return Verdict::Clear };
    let Some(server) = session.server.as_deref() else { return Verdict::Clear };
    if server.state != ServerState::Up {
        return Verdict::Clear;
    }
    if server.models.is_empty() && server.engine == "ollama" {
        return Verdict::need(
            "where the server puts a model: none is loaded now",
            "send a request, or `ollama run MODEL`, while it is watched",
        );
    }
    let parts = server.models.iter().filter_map(|m| Some((m, m.bytes?, m.vram_bytes?)));
    let short = parts.filter(|(_, all, vram)| cpu_share(*all, *vram) > CPU_MIN);
    let Some((model, all, vram)) = short.max_by_key(|(_, all, vram)| all - vram) else {
        return Verdict::Clear;
    };
    if vram == 0 && session.counters.gpus().next().is_none() {
        return Verdict::Clear; // as it must be without a GPU
    }
    found(session, server, model, (all, vram)).into()
}

fn cpu_share(all: u64, vram: u64) -> f64 {
    all.saturating_sub(vram) as f64 / all.max(1) as f64
}

fn found(
    session: &Session,
    server: &ServerFact,
    model: &ServedModel,
    (all, vram): (u64, u64),
) -> Finding {
    let cpu = cpu_share(all, vram);
    let (title, impact) = if vram == 0 {
        let title = format!("{} is wholly in main memory, though there is a GPU", model.name);
        (title, Impact::NoGpu)
    } else {
        // Of the time, what the CPU's part takes more than it would on the GPU.
        let time = cpu * GPU_TIMES / (cpu * GPU_TIMES + 1.0 - cpu);
        let title = format!(
            "{} is to {:.0} % in main memory: {} of {}",
            model.name,
            100.0 * cpu,
            Bytes(all - vram),
            Bytes(all)
        );
        (title, Impact::Slower(time * (1.0 - 1.0 / GPU_TIMES)))
    };
    let context =
        model.context_tokens.map(|n| format!(" It has {n} tokens of context for each slot."));
    let free: Vec<String> = session
        .counters
        .gpus()
        .filter_map(|gpu| {
            use crate::base::counter::{Counter, Subject};
            let free = session.value(Subject::Gpu(gpu), Counter::VramFree)?;
            Some(format!("{} are free on GPU {gpu}", Bytes(free as u64)))
        })
        .collect();
    let free = if free.is_empty() { String::new() } else { format!(" {}.", free.join(", ")) };
    Finding::problem(ID, impact, 0.9, title)
        .because(format!(
            "The layers that are in main memory are computed by the CPU, and the GPU waits meanwhile.{}{free} \
             The server does not say what the memory was needed for; the log of the load does.",
            context.unwrap_or_default()
        ))
        .seen(Evidence::at(
            Place::Server,
            format!("{} says: {} of {} on GPUs", server.url, Bytes(vram), Bytes(all)),
        ))
        .fix_all(fixes(server, model))
}

/// Tokens of context that most conversations need.
const CTX_MODEST: u64 = 8192;

fn fixes(server: &ServerFact, model: &ServedModel) -> Vec<Fix> {
    let expected = "more of it on the GPU (`ollama ps`)";
    let mut fixes = vec![
        Fix::system("see why", "gpuwhy logs")
            .why("the log of the load has the sizes, and with them the cause", "the cause"),
    ];
    if server.engine == "ollama" {
        if model.context_tokens.is_some_and(|n| n > CTX_MODEST) {
            fixes.push(
                Fix::option("num_ctx", CTX_MODEST.to_string()).why(
                    "the KV cache grows with the context and takes room from layers",
                    expected,
                ),
            );
        }
        fixes.push(
            Fix::env("OLLAMA_NUM_PARALLEL", "1")
                .why("the KV cache is for all parallel requests together", expected),
        );
    }
    fixes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;
    use crate::base::counter::{Counter, Subject};

    fn scene(bytes: u64, vram: u64, gpu: bool) -> Scene {
        let mut scene = Scene::new();
        let model = ServedModel {
            name: "llama3:70b".to_string(),
            bytes: Some(bytes),
            vram_bytes: Some(vram),
            context_tokens: Some(32768),
            ..ServedModel::default()
        };
        let engine = "ollama".to_string();
        scene.server(ServerFact { engine, models: vec![model], ..ServerFact::default() });
        if gpu {
            scene.sample(Subject::Gpu(0), Counter::VramFree, 1e9);
        }
        scene
    }

    #[test]
    fn a_part_in_main_memory_is_found() {
        let found = check(&scene(40 << 30, 20 << 30, true).facts()).finding().cloned().unwrap();
        assert_eq!(found.title, "llama3:70b is to 50 % in main memory: 20.00 GiB of 40.00 GiB");
        assert_eq!(found.evidence[0].place, Some(Place::Server));
        assert!(found.fixes.iter().any(|f| f.name == "num_ctx"));
        let whole = check(&scene(40 << 30, 0, true).facts()).finding().cloned().unwrap();
        assert_eq!(whole.impact, Impact::NoGpu);
    }

    #[test]
    fn whole_models_and_machines_without_gpu_are_as_they_should_be() {
        assert_eq!(check(&scene(40 << 30, 40 << 30, true).facts()), Verdict::Clear);
        assert_eq!(check(&scene(40 << 30, 0, false).facts()), Verdict::Clear);
    }

    #[test]
    fn while_nothing_is_loaded_it_asks() {
        let mut scene = Scene::new();
        let engine = "ollama".to_string();
        scene.server(ServerFact { engine, ..ServerFact::default() });
        assert!(matches!(check(&scene.facts()), Verdict::NeedMore(_)));
    }
}
