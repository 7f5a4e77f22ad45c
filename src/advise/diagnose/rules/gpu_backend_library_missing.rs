//! `gpu-backend-library-missing`: a GPU is there and work was planned for it, but the library that
//! drives it was not loaded.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::remedy;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, LibraryKind, LineId, Notice};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the runner found no GPU backend library",
    doc: Doc {
        detects: "The GPU was found and layers were planned for it, but the process that computes \
            loaded only the backend of the CPU: ggml-cuda, ggml-hip or ggml-vulkan is missing, or \
            could not be loaded.",
        costs: "All layers are computed on the CPU, while `ollama ps` shows \"100% GPU\", because \
            it shows the plan.",
        evidence: "Weights on the CPU alone although the server planned layers for a GPU; only \
            `load_backend: loaded CPU backend`; a list of libraries with only cpu entries next to \
            a GPU that was found; or a library that failed to load. A driver that fails, or a \
            wrong OLLAMA_LLM_LIBRARY, have findings of their own, and this one then follows from \
            them.",
        fix: "Install so that the libraries lie beside the binary: the official installer, the \
            whole archive and not the binary alone, `ollama-cuda` or `ollama-rocm` instead of the \
            plain package of a distribution, the image with the right tag.",
        example: r"msg=offload library=cuda layers.requested=-1 layers.model=33 layers.offload=33 ...
load_backend: loaded CPU backend from /usr/lib/ollama/libggml-cpu-haswell.so
load_tensors:   CPU_Mapped model buffer size =  4437.80 MiB",
    },
    follows_from: &[
        "driver-too-old",
        "driver-container-mismatch",
        "driver-state-lost-after-suspend",
        "nvidia-uvm-not-ready",
        "driver-not-loaded",
        "container-gpu-lost-cgroup",
        "cpu-lacks-avx",
        "gpu-compute-capability-too-low",
        "rocm-gfx-unsupported",
        "rocm-runtime-dep-missing",
        "rocm-device-permission",
        "discovery-timeout",
        "setting-disables-gpu",
    ],
    check,
};

const ID: &str = "gpu-backend-library-missing";

fn check(facts: &Facts) -> Verdict {
    // A wrong name in OLLAMA_LLM_LIBRARY, where it decides, explains the same and is a finding.
    if super::invalid_library_override::decides(facts) {
        return Verdict::Clear;
    }
    if let Some(finding) = other_folder(facts) {
        return finding.into();
    }
    if let Some(finding) = base_folder_alone(facts) {
        return finding.into();
    }
    let broken = facts.any_notice(&["backend-load-failed", "cuda-library-missing"]);
    let broken = broken.filter(|n| {
        let field = |name: &str| n.fields.get(name).map_or("", String::as_str);
        drives_gpu(field("path")) || drives_gpu(field("library"))
    });
    let without = facts.cpu_only_load().map(|l| l.weights_line());
    if let Some(notice) = broken.filter(|_| !facts.ran_on_gpu()) {
        return broken_library(facts, notice, without).into();
    }
    let gpu = facts.gpus().find(|d| d.library.is_some());
    // Older releases list their runners when they start.
    if let (Some(gpu), Some(list), false) = (gpu, cpu_libraries_alone(facts), facts.ran_on_gpu()) {
        let evidence = vec![
            Evidence::said(list, "only libraries for the CPU are installed"),
            Evidence::said(gpu.line, "the GPU that was found"),
        ];
        return found(facts, 0.92, evidence, without).into();
    }
    // A load that was planned for a GPU and lies on the CPU.
    if let Some(load) = facts.cpu_only_load() {
        let ollama = facts.log.engine != Engine::LlamaCpp;
        if let Some(plan) = load.planned_on_gpu().filter(|_| ollama && !by_request(load)) {
            let evidence =
                vec![Evidence::said(plan, "work was planned for the GPU"), weights(load)];
            let backend = facts.cpu_backend_alone().map(|b| b.0);
            return found(facts, 0.9, evidence, backend).into();
        }
    }
    if let Some(finding) = nothing_placed(facts) {
        return finding.into();
    }
    // Nothing but the CPU's backend, by a server that meant to use a GPU.
    let Some((line, _)) = facts.cpu_backend_alone() else { return Verdict::Clear };
    let planned = facts.loads().find_map(|l| l.planned_on_gpu());
    let library = facts.setting("OLLAMA_LLM_LIBRARY").filter(|s| !s.value.starts_with("cpu"));
    let wanted = planned.or(gpu.map(|g| g.line)).or(library.map(|s| s.line));
    match wanted {
        Some(wanted) if !facts.ran_on_gpu() => {
            let evidence = vec![
                Evidence::line(line),
                Evidence::said(wanted, "a GPU was found, asked for or planned with"),
            ];
            let confidence = if planned.is_some() { 0.85 } else { 0.7 };
            found(facts, confidence, evidence, without).into()
        }
        _ => Verdict::Clear,
    }
}

/// A server that measures what fits, sees a GPU with room for the whole model, and places nothing.
fn nothing_placed(facts: &Facts) -> Option<Finding> {
    let load = facts.cpu_only_load().filter(|l| l.load.estimate.is_none() && !by_request(*l))?;
    let gpu = facts.gpus().find(|d| d.library.is_some()).filter(|_| facts.is_ollama())?;
    let short = load.shortfall().filter(|s| s.by_estimate == s.missing)?;
    let evidence = vec![
        Evidence::said(gpu.line, "the GPU that was found"),
        weights(load),
        Evidence::said(short.sizes.line, "nothing was placed there, though it would fit"),
    ];
    Some(found(facts, 0.6, evidence, None))
}

/// Whether the user asked for the CPU: `num_gpu` 0.
fn by_request(load: crate::advise::diagnose::facts::LoadFacts) -> bool {
    load.load.requested.gpu_layers.is_some_and(|l| l.value == 0)
}

fn weights(load: crate::advise::diagnose::facts::LoadFacts) -> Evidence {
    Evidence::said(load.weights_line(), "the weights are on the CPU alone")
}

/// The line that lists libraries when all of them are for the CPU.
fn cpu_libraries_alone(facts: &Facts) -> Option<LineId> {
    let libraries = &facts.log.libraries;
    let all_cpu = libraries.iter().all(|l| l.value.starts_with("cpu"));
    libraries.first().filter(|_| all_cpu).map(|l| l.line)
}

/// Whether a file drives a GPU, by its name.
pub(super) fn drives_gpu(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase();
    let known = ["cuda", "cublas", "cudart", "hip", "rocm", "vulkan", "sycl", "nvrtc", "metal"];
    known.iter().any(|k| name.contains(k))
}

/// From 0.12.4 on the search for GPUs goes through the folders of libraries one by one; the folder
/// above them is searched only when there is none.
fn base_folder_alone(facts: &Facts) -> Option<Finding> {
    let notice = facts.notice("discovery-folder").filter(|n| n.count == 1)?;
    let folders = notice.fields.get("paths")?.trim_matches(['[', ']']);
    let line = facts.no_gpu_line().filter(|_| facts.gpus().next().is_none())?;
    let alone = folders.split_whitespace().count() == 1 && !drives_gpu(folders);
    // Where libraries are skipped by a setting, it is that.
    if !alone || facts.notice("library-skipped").is_some() {
        return None;
    }
    let title = format!("no folder with GPU libraries lies in {folders}");
    Some(
        Finding::problem(ID, Impact::NoGpu, 0.85, title)
            .because(
                "The libraries that drive GPUs lie in folders like cuda_v12, rocm or vulkan. None \
                    was there to be searched, so no GPU can be found, whatever the driver does.",
            )
            .seen(Evidence::line(notice.first))
            .seen(Evidence::line(line))
            .fix_all(remedy::reinstall(facts))
            .fix(
                Fix::system("see what is installed", format!("ls {folders}"))
                    .why("folders named cuda_*, rocm* or vulkan must be there", ""),
            ),
    )
}

/// Libraries that were looked for in the wrong place: none at all, or those of another program.
fn other_folder(facts: &Facts) -> Option<Finding> {
    if let Some(notice) = facts.notice("no-backends") {
        let why = "Backends are libraries of their own (libggml-cpu.so, libggml-cuda.so) that are \
            looked for beside the program. Not even the one of the CPU was found, so nothing can \
            be loaded.";
        let title = "no backend library was found, not even that of the CPU";
        return Some(
            Finding::problem(ID, Impact::Failure, 0.93, title)
                .because(why)
                .seen(Evidence::line(notice.first))
                .fix(
                    Fix::system(
                        "name the folder",
                        "export GGML_BACKEND_PATH=/path/to/libggml-cuda.so",
                    )
                    .why("or put the program and its libraries into one folder", "a model loads"),
                ),
        );
    }
    let notice = facts.notice("library-in-path").filter(|_| facts.without_gpu().is_some())?;
    let place = notice.fields.get("location").map_or("", String::as_str);
    let why = "Another program has put its own copy of ggml on the PATH. Ollama's processes load \
        that one instead of their own, and it does not drive the GPU.";
    let title = format!("{place} of another program is loaded instead of Ollama's own library");
    Some(
        Finding::problem(ID, Impact::NoGpu, 0.85, title)
            .because(why)
            .seen(Evidence::line(notice.first))
            .seen_if(facts.no_gpu_line().map(Evidence::line))
            .fix(
                Fix::system(
                    "take it off the PATH",
                    format!("remove the folder of {place} from PATH"),
                )
                .why("its own library is then found first", "the log names the GPU"),
            ),
    )
}

/// A file that is there and cannot be loaded.
fn broken_library(facts: &Facts, notice: &Notice, without: Option<LineId>) -> Finding {
    let path = notice.fields.get("path");
    let what = path.or_else(|| notice.fields.get("library")).map_or("", String::as_str);
    let windows =
        facts.runs_on("windows") == Some(true) || what.to_ascii_lowercase().contains(".dll");
    let look = if windows {
        "where.exe cudart64_12.dll cublas64_12.dll    # the CUDA runtime beside the program".into()
    } else if path.is_some() {
        format!("ldd {what} | grep 'not found'")
    } else {
        format!("ldconfig -p | grep {what}")
    };
    Finding::problem(
        ID,
        Impact::NoGpu,
        0.93,
        format!("{what} could not be loaded, so the GPU is not used"),
    )
    .because(
        "The library that drives the GPU, or one that it needs, is missing or of another version. \
            The program then goes on with the backend of the CPU.",
    )
    .seen(Evidence::line(notice.first))
    .seen_if(without.map(Evidence::line))
    .fix(
        Fix::system("see what is missing", look)
            .why("what is not found is to be installed, or put on the library path", ""),
    )
    .fix_all(remedy::reinstall(facts).into_iter().take(2))
}

fn found(facts: &Facts, confidence: f64, evidence: Vec<Evidence>, more: Option<LineId>) -> Finding {
    let gpu = facts.gpus().find_map(|d| d.description.as_deref()).unwrap_or("the GPU");
    let amd = facts.gpus().any(|d| d.library == Some(LibraryKind::Rocm));
    let library = if amd { "ggml-hip" } else { "ggml-cuda" };
    let path = facts.cpu_backend_alone().map(|(_, path)| path).filter(|p| !p.is_empty());
    let folder = path.and_then(|p| p.rsplit_once(['/', '\\'])).map(|(folder, _)| folder);
    let searched = folder.map(|f| format!(" It looked in {f}.")).unwrap_or_default();
    let mut finding = Finding::problem(
        ID,
        Impact::NoGpu,
        confidence,
        format!("the process that computes loaded no GPU library, so {gpu} is not used"),
    )
    .because(format!(
        "The server sees the GPU through the driver and plans with it, but the work is done by a \
            library, {library}, which the runner has to find in its own folder. It loaded only \
            the one for the CPU.{searched} `ollama ps` then still shows the plan, not what \
            happens."
    ));
    for one in evidence {
        finding = finding.seen(one);
    }
    let look = if facts.runs_on("windows") == Some(true) {
        let folder = folder.unwrap_or(r"%LOCALAPPDATA%\Programs\Ollama\lib\ollama");
        format!("dir /s /b \"{folder}\" | findstr \"ggml-cuda ggml-hip ggml-vulkan\"")
    } else {
        let folder = folder.unwrap_or("/usr/lib/ollama /usr/local/lib/ollama");
        format!("ls -R {folder} | grep -E 'ggml-(cuda|hip|vulkan)'")
    };
    finding.seen_if(more.map(Evidence::line)).fix_all(remedy::reinstall(facts)).fix(
        Fix::system("see what is installed", look)
            .why("nothing listed means that the libraries are not there", ""),
    )
}
