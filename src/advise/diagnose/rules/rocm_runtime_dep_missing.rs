//! `rocm-runtime-dep-missing`: the ROCm runtime misses a part of itself.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::remedy;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a ROCm library or its kernel files are missing",
    doc: Doc {
        detects: "A library that ROCm needs (comgr, HIP, rocBLAS, ...) or rocBLAS's kernel files \
            are not installed.",
        costs: "ROCm finds the GPU and cannot use it; the engine goes on with the CPU, often \
            without a word at the usual log level.",
        evidence: "\"Failed to load COMGR library\", a lib of ROCm that \"cannot open shared \
            object file\", \"unable to verify rocm library\", \"no compatible rocm library \
            found\", or an empty list of supported types, which is what the engine sees when \
            rocBLAS's files are not there. `rocminfo` can work all the same, because it needs \
            none of them.",
        fix: "Install the missing package (comgr: `rocm-comgr` or `comgr`; HIP: \
            `hip-runtime-amd`; rocBLAS: `rocblas`), or use the engine's own archive or image, \
            which bring all of them. AMD_LOG_LEVEL=4 prints what the runtime looks for.",
        example: r":1:comgrctx.cpp:66: Failed to load COMGR library.
ggml_cuda_init: failed to initialize ROCm: no ROCm-capable device is detected",
    },
    follows_from: &[],
    check,
};

const ID: &str = "rocm-runtime-dep-missing";

fn check(facts: &Facts) -> Verdict {
    let missing = facts.notice("rocm-library-missing");
    let unusable = facts.notice("rocm-library-unusable");
    // rocBLAS's files tell which targets it has; an empty list is a folder without files.
    let empty = facts
        .notice("rocm-gfx-unsupported")
        .filter(|n| n.fields.get("supported").is_some_and(|s| !s.contains("gfx")));
    let (notice, confidence) = match (missing, unusable, empty) {
        (Some(n), ..) => (n, 0.96),
        (None, Some(n), _) => (n, 0.88),
        (None, None, Some(n)) => (n, 0.6),
        (None, None, None) => return Verdict::Clear,
    };
    if facts.ran_on_gpu() {
        return Verdict::Clear;
    }
    let library = notice.fields.get("library").filter(|_| missing.is_some());
    let what = match library {
        Some(library) => format!("ROCm cannot load {library}"),
        None => "the ROCm libraries, or rocBLAS's kernel files, are not there".to_string(),
    };
    let package = match library.map(|l| l.to_ascii_lowercase()) {
        Some(l) if l.contains("comgr") => {
            "comgr (Arch: rocm-llvm and comgr; Debian: libamd-comgr2)"
        }
        Some(l) if l.contains("blas") => "rocblas and hipblas",
        Some(l) if l.contains("hip") => "the HIP runtime (hip-runtime-amd)",
        _ => "the ROCm packages that the engine was built with",
    };
    // In a container the image with ROCm is all that it takes; on a machine it is the other way.
    let mut engine: Vec<Fix> = remedy::reinstall(facts).into_iter().take(1).collect();
    let image = if facts.host() == Host::Container { std::mem::take(&mut engine) } else { vec![] };
    Finding::problem(ID, Impact::NoGpu, confidence, what)
        .because(
            "The driver and the card are not at fault: the runtime that compiles and starts \
                kernels misses one of its parts. It then says that there is no device, and the \
                engine uses the CPU.",
        )
        .seen(Evidence::line(notice.first))
        .seen_if(facts.notice("rocm-no-device").map(|n| Evidence::line(n.first)))
        .seen_if(facts.no_gpu_line().map(Evidence::line))
        .fix_all(image)
        .fix(Fix::system("install it", format!("install {package} from your distribution")).why(
            "the runtime loads it by name when it starts",
            "`inference compute` in the log names the GPU",
        ))
        .fix(
            Fix::system("see what it looks for", "AMD_LOG_LEVEL=4 ollama serve 2>&1 | head -n 60")
                .why("the runtime then prints every library that it fails to load", ""),
        )
        .fix_all(engine)
        .into()
}
