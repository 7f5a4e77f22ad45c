//! `build-without-gpu-support`: the binary can compute on the CPU only.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::remedy;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, LineId};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the program was built without support for GPUs",
    doc: Doc {
        detects: "The binary, package or wheel was built for the CPU alone, or the server started \
            a runner for the CPU.",
        costs: "Options for the GPU are ignored and everything runs on the CPU.",
        evidence: "\"not compiled with GPU offload support\", layers that were asked for and a \
            load without any GPU device, or an Ollama whose list of libraries has none for a GPU. \
            \"no usable GPU found, --gpu-layers option will be ignored\" is printed on machines \
            without a GPU, too: it is a problem only next to a sign of a GPU, or of layers that \
            were asked for; so is \"BLAS = 0\", which builds to 2024 print. Next to a GPU that Ollama found, missing files are the more likely \
            cause: see gpu-backend-library-missing.",
        fix: "llama.cpp: a build with -DGGML_CUDA=ON (or GGML_HIP, GGML_VULKAN, GGML_SYCL, \
            GGML_METAL), or the release archive with cuda or vulkan in its name. \
            llama-cpp-python: install with CMAKE_ARGS=\"-DGGML_CUDA=on\". Ollama: the official \
            build, or the package for your GPU.",
        example: "warning: not compiled with GPU offload support, --gpu-layers option will be \
            ignored",
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
        "vulkan-device-selection",
    ],
    check,
};

const ID: &str = "build-without-gpu-support";

fn check(facts: &Facts) -> Verdict {
    if facts.ran_on_gpu() {
        return Verdict::Clear;
    }
    if let Some(notice) = facts.notice("build-without-gpu") {
        return found(facts, 0.97, notice.first, "the program says so").into();
    }
    let gpu_found = facts.gpus().next().is_some();
    if let Some(notice) = facts.notice("no-usable-gpu") {
        return no_usable_gpu(facts, notice.first, gpu_found).into();
    }
    // To 2024 every backend for GPUs counted as a BLAS library.
    if let Some(notice) = facts.notice("built-without-blas").filter(|_| !gpu_found) {
        return no_usable_gpu(facts, notice.first, gpu_found).into();
    }
    if let Some(list) = cpu_libraries_alone(facts) {
        // Official builds for Linux and Windows list libraries for GPUs even without a GPU.
        let confidence = if gpu_found { 0.5 } else { 0.8 };
        return found(facts, confidence, list, "there are libraries for the CPU alone").into();
    }
    let Some(load) = facts.cpu_only_load() else { return Verdict::Clear };
    // The runner's own path tells its kind: .../runners/cpu_avx2/ollama_llama_server.
    if let Some(command) = load.load.requested.command.as_ref() {
        let path = command.value.split(" --").next().unwrap_or_default();
        let runner = path.split(['/', '\\']).find(|part| part.starts_with("cpu"));
        if let (Some(_), Some(plan)) = (runner, load.planned_on_gpu()) {
            let _ = plan;
            return found(facts, 0.6, command.line, "the runner for the CPU was started").into();
        }
    }
    if facts.log.engine == Engine::LlamaCpp && !gpu_found {
        let asked = load.load.requested.gpu_layers.filter(|l| l.value > 0);
        if let Some(asked) = asked {
            let what = "layers for a GPU were asked for, and the load knows none";
            return found(facts, 0.75, asked.line, what).into();
        }
        return Verdict::Clear;
    }
    // A distribution's folder with the CPU's backend alone: the plain package.
    let packaged = facts.cpu_backend_alone().filter(|(_, path)| path.starts_with("/usr/lib/"));
    match packaged.filter(|_| load.planned_on_gpu().is_some()) {
        Some((line, _)) => {
            found(facts, 0.55, line, "a distribution's package with the CPU's backend alone").into()
        }
        None => Verdict::Clear,
    }
}

fn cpu_libraries_alone(facts: &Facts) -> Option<LineId> {
    let libraries = &facts.log.libraries;
    let all_cpu = libraries.iter().all(|l| l.value.starts_with("cpu"));
    // On Intel Macs every build is for the CPU.
    let mac = facts.runs_on("macos") == Some(true);
    libraries.first().filter(|_| all_cpu && !mac).map(|l| l.line)
}

/// An option for GPU layers that is ignored. It is printed for every value, 0 too, and on machines
/// without a GPU: a problem only where something shows that there is one, or that one is meant.
fn no_usable_gpu(facts: &Facts, line: LineId, gpu_found: bool) -> Finding {
    let asked = facts.loads().any(|l| l.load.requested.gpu_layers.is_some_and(|a| a.value > 0));
    if gpu_found || asked || facts.gpu_error().is_some() {
        return found(facts, 0.8, line, "no GPU could be used");
    }
    let title = "this build finds no GPU that it can use; an option for GPU layers is ignored";
    Finding::benign(ID, 0.7, title)
        .because(
            "The program computes on the CPU. On a machine without a GPU that is as it should be. \
                If there is a GPU, this build has no backend for it, or its driver does not work.",
        )
        .seen(Evidence::line(line))
        .fix_all(remedy::reinstall(facts))
}

fn found(facts: &Facts, confidence: f64, line: LineId, said: &str) -> Finding {
    let title = if confidence > 0.7 {
        "this build computes on the CPU only"
    } else {
        "this build, or this package, may be for the CPU only"
    };
    let windows = facts.runs_on("windows") == Some(true);
    let mut finding = Finding::problem(ID, Impact::NoGpu, confidence, title)
        .because(
            "Which devices can be used is decided when the program is built, or when a package is \
                chosen. Without a GPU backend, layers that are asked for with -ngl or num_gpu \
                stay on the CPU, and the program goes on without an error.",
        )
        .seen(Evidence::said(line, said))
        .seen_if(facts.cpu_only_load().map(|l| Evidence::line(l.weights_line())))
        .fix_all(remedy::reinstall(facts));
    if windows && facts.host() == Host::Native && facts.log.engine == Engine::LlamaCpp {
        finding = finding.fix(
            Fix::system(
                "download another archive",
                "take the release archive with cuda, vulkan, hip or sycl in its name; for an \
                    integrated GPU the one with vulkan",
            )
            .why(
                "the one named cpu has no other backend",
                "`llama-server --list-devices` lists it",
            ),
        );
    }
    finding
}
