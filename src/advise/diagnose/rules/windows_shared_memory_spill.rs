//! `windows-shared-memory-spill`: the driver moves GPU memory to main memory without an error.

use crate::advise::diagnose::facts::{Facts, LoadFacts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Engine, LibraryKind, LineId};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the GPU's memory is filled so far that the driver moves part of it to main memory",
    doc: Doc {
        detects: "On Windows, a load that takes all or more of the free GPU memory and does not fail: \
            NVIDIA's driver then puts what does not fit into \"shared GPU memory\", which is main \
            memory behind the PCIe bus.",
        costs: "Whatever lies there is read over the bus for every token. Speed falls to a tenth, the \
            GPU shows 100 %, its memory hardly works, and nothing is printed.",
        evidence: "The projected or allocated size leaves less free memory than a few hundred MiB, or \
            is above what was free, and there is no \"out of memory\". llama.cpp says \"cannot meet \
            free memory target\" when the user's context or layers leave no room. On Linux the same \
            load would fail instead.",
        fix: "Leave about 1 GiB free: a smaller context, fewer layers, a KV cache in q8_0; \
            `OLLAMA_GPU_OVERHEAD`. In NVIDIA's control panel \"CUDA - Sysmem Fallback Policy: Prefer No \
            Sysmem Fallback\" turns the silence into an error. Task Manager shows the shared memory.",
        example: "projected to use 7890 MiB of device memory vs. 7930 MiB of free device memory\n\
            cannot meet free memory target of 1024 MiB, need to reduce device memory by 984 MiB\n\
            context size set by user to 32768 -> no change",
    },
    follows_from: &[],
    check,
};

const ID: &str = "windows-shared-memory-spill";

/// Less than this left free and the desktop, the driver's context and the libraries' workspaces do
/// not fit beside it.
const HEADROOM_BYTES: u64 = 400 << 20;

fn check(facts: &Facts) -> Verdict {
    if facts.runs_on("linux") == Some(true) || facts.runs_on("macos") == Some(true) {
        return Verdict::Clear;
    }
    if facts.gpu_oom().is_some_and(|o| o.fatal) || !nvidia_or_unknown(facts) {
        return Verdict::Clear;
    }
    let Some((load, filled)) = facts.loads().rev().find_map(|l| Some((l, filled(&l)?))) else {
        return spill_suspected(facts).unwrap_or(Verdict::Clear);
    };
    finding(facts, &load, &filled).into()
}

/// On Windows, a model that is wholly on the GPU and far slower than it should be.
fn spill_suspected(facts: &Facts) -> Option<Verdict> {
    let load = facts.last_load().filter(|_| facts.runs_on("windows") == Some(true))?;
    let speed = load.memory_speed_used().filter(|s| s.share() < 0.25)?;
    Some(Verdict::need(
        format!(
            "whether the driver moved memory of the GPU to main memory: all layers are on the GPU, and \
             {:.1} tokens/s are {:.0} % of what its memory allows",
            speed.tokens_per_s,
            100.0 * speed.share()
        ),
        "Task Manager, Performance, GPU: \"Shared GPU memory\" grows when the model is loaded",
    ))
}

struct Filled {
    used: u64,
    free: u64,
    line: LineId,
    ctx_fixed: Option<u64>,
}

/// A load that leaves no headroom on its GPUs.
fn filled(load: &LoadFacts) -> Option<Filled> {
    if let Some(fit) = load.load.fit.as_ref().filter(|f| !f.on_host) {
        let (used, free) = (fit.projected_bytes?, fit.free_bytes?);
        // Nothing was changed although the target is missed: the user had fixed what could be.
        let kept = fit.ctx_from_to.is_none() && fit.devices.is_empty();
        let fixed = fit.ctx_fixed.is_some() || load.facts().notice("fit-given-up").is_some();
        let full = used + HEADROOM_BYTES > free;
        return (full && kept && fixed && fit.deficit_bytes.is_some_and(|d| d > 0))
            .then_some(Filled { used, free, line: fit.line, ctx_fixed: fit.ctx_fixed });
    }
    // Allocated more than there was: only possible where the driver gives main memory instead.
    let windows = load.facts().runs_on("windows") == Some(true);
    let free: u64 = load.sizes()?.free_bytes.iter().sum();
    let kinds = [BufferKind::Model, BufferKind::Kv, BufferKind::Compute, BufferKind::Recurrent];
    let used: u64 = kinds.iter().map(|&k| load.on_gpus(k)).sum();
    let line = load.load.layers?.line;
    (windows && free > 0 && used > free).then_some(Filled { used, free, line, ctx_fixed: None })
}

fn nvidia_or_unknown(facts: &Facts) -> bool {
    facts
        .log
        .devices
        .iter()
        .all(|d| d.integrated != Some(true) && !matches!(d.library, Some(LibraryKind::Metal)))
}

fn finding(facts: &Facts, load: &LoadFacts, filled: &Filled) -> Finding {
    let title = format!(
        "{} of {} free GPU memory are filled: the driver moves the rest to main memory",
        Bytes(filled.used),
        Bytes(filled.free)
    );
    let fixed = filled
        .ctx_fixed
        .map(|c| format!(" The context of {c} is set by the user, so it was not reduced."));
    let windows = facts.runs_on("windows") == Some(true);
    let os = if windows {
        String::new()
    } else {
        " That is so on Windows; the log does not say which system it is. On Linux an allocation would \
         fail instead."
            .to_string()
    };
    let why = format!(
        "The driver's context, the libraries' workspaces and the desktop need some hundred MiB more.{} \
         On Windows NVIDIA's driver does not refuse then: it puts what does not fit into main memory, and \
         every token reads it over PCIe.{os}",
        fixed.unwrap_or_default()
    );
    // The known cases lost nine tenths. Not on Windows it is a risk of another kind, hence less sure.
    let sure = if windows { 0.9 } else { 0.65 };
    let mut finding = Finding::problem(ID, Impact::Slower(0.8), sure, title)
        .because(why)
        .seen(Evidence::line(filled.line))
        .seen_if(load.load.n_ctx.map(|s| Evidence::line(s.line)));
    let weights = load.sizes().map_or(0, |s| s.weights_bytes);
    if weights > filled.free {
        finding = finding.fix_all(fewer_layers(facts, load));
    } else if let Some(ctx) = filled.ctx_fixed.or(load.ctx()).filter(|&c| c > 4096) {
        let half = (ctx / 2).to_string();
        let fix = match facts.log.engine {
            Engine::Ollama => Fix::option("num_ctx", half),
            _ => Fix::flag("-c", half),
        };
        finding = finding.fix(fix.why(
            "the cache and, without flash attention, the compute buffer shrink with it",
            "a projected use about 1 GiB below the free memory",
        ));
    }
    if let Some(sizes) = load.sizes() {
        finding = finding.fix_all(room::smaller_kv(load, &sizes));
    }
    finding
        .fix(Fix::system(
            "no silent spill",
            "NVIDIA Control Panel > Manage 3D settings > CUDA - Sysmem Fallback Policy > Prefer No Sysmem \
             Fallback",
        )
        .why("a load that is too large fails visibly", "an error instead of a slow answer"))
        .fix(Fix::system("see it", "Task Manager > Performance > GPU > Shared GPU memory").why(
            "it grows when the driver moves memory",
            "near zero when all is well",
        ))
}

/// Layers as many as fit, where the weights alone are too large.
fn fewer_layers(facts: &Facts, load: &LoadFacts) -> Vec<Fix> {
    let Some(sizes) = load.sizes() else { return Vec::new() };
    let fit = sizes.layers_that_fit(&sizes.as_is());
    let number = fit.to_string();
    let own = matches!(facts.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
    let fix = if own { Fix::flag("-ngl", number) } else { Fix::option("num_gpu", number) };
    let set = if fit == 0 { "no layer fits" } else { "so many layers fit what was free" };
    let fix = fix.why(
        format!("{set}; with the number left out the engine places what fits by itself"),
        "a GPU whose shared memory stays near zero",
    );
    std::iter::once(fix).chain(room::smaller_weights(load, &sizes)).collect()
}
