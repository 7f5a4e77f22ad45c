//! `gpu-compute-capability-too-low`: the build has no code for so old a GPU.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{LibraryKind, Notice, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the GPU is older than the build supports",
    doc: Doc {
        detects: "The GPU's compute capability is below the lowest that the build of the engine \
            has code for.",
        costs: "The GPU is passed over, or a load fails when it calls the first kernel.",
        evidence: "Ollama's \"CUDA GPU is too old\" or \"compute capability not in compiled \
            architectures\", CUDA's \"no kernel image is available for execution on the device\", \
            or a device below 5.0 in a log in which no GPU does any work. Official builds: 5.0 \
            with CUDA 11 and 12 libraries, 7.5 with CUDA 13; releases of Ollama before 0.1.22 \
            asked for 6.0.",
        fix: "A release that supports the card (some raised the limit and lowered it again); a \
            build of one's own with -DCMAKE_CUDA_ARCHITECTURES for the card and an older CUDA \
            toolkit (CUDA 11 for 3.5 to 5.2); or the Vulkan backend, which asks for Vulkan 1.2 \
            only.",
        example: r#"level=INFO source=gpu.go:301 msg="[1] CUDA GPU is too old. Compute Capability detected: 3.5""#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "gpu-compute-capability-too-low";

fn check(facts: &Facts) -> Verdict {
    let said = facts.any_notice(&["cuda-compute-too-low", "cuda-no-kernel-image"]);
    let amd = facts.gpus().any(|d| d.library == Some(LibraryKind::Rocm));
    if said.is_none()
        && let Some(notice) = facts.notice("cuda-invalid-device-function").filter(|_| !amd)
        && notice.fields.get("library").is_some_and(|l| l == "CUDA")
    {
        return no_function(notice).into();
    }
    if let Some(notice) = said {
        let compute = notice.fields.get("compute").map(|c| dotted(c));
        let fails = notice.id == "cuda-no-kernel-image";
        // When another GPU does the work, the old one is only left out.
        let impact = match (fails, facts.ran_on_gpu()) {
            (true, _) => Impact::Failure,
            (false, true) => Impact::Risk,
            (false, false) => Impact::NoGpu,
        };
        let compute = compute.or_else(|| lowest(facts).map(|(_, c)| c));
        return found(facts, compute.as_deref(), impact, 0.95, Evidence::line(notice.first)).into();
    }
    if facts.ran_on_gpu() {
        return Verdict::Clear;
    }
    let Some((device, compute)) = lowest(facts) else { return Verdict::Clear };
    // 5.0 is the lowest that any official build of Ollama or llama.cpp since 2024 has code for.
    let number: f64 = compute.parse().unwrap_or(f64::MAX);
    if number < 5.0 {
        let evidence = Evidence::line(device.line);
        return found(facts, Some(&compute), Impact::NoGpu, 0.75, evidence).into();
    }
    // The library of CUDA 13 has no code below 7.5.
    match facts.notice("device-filtered").filter(|_| number < 7.5) {
        Some(n) if n.fields.get("libdir").is_some_and(|l| l.contains("cuda_v13")) => {
            found(facts, Some(&compute), Impact::NoGpu, 0.6, Evidence::line(n.first)).into()
        }
        _ => Verdict::Clear,
    }
}

/// The build has no code for this GPU, of whichever maker: ggml for AMD says CUDA as well.
fn no_function(notice: &Notice) -> Finding {
    let why = "The kernel that was called is not in the build for this GPU's architecture. Builds for \
        AMD of before August 2024 print \"CUDA error\", too: for an AMD card, the build lacks its \
        target (gfx…), or HSA_OVERRIDE_GFX_VERSION names one that does not suit it.";
    Finding::problem(ID, Impact::Failure, 0.7, "this build has no code for this GPU")
        .because(why)
        .seen(Evidence::line(notice.first))
        .fix(
            Fix::system(
                "NVIDIA: build for this GPU",
                "cmake -B build -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native",
            )
            .why("native is the GPU of the machine that builds", "the model answers"),
        )
        .fix(
            Fix::system(
                "AMD: build for this GPU",
                "rocminfo | grep gfx; cmake -B build -DGGML_HIP=ON -DAMDGPU_TARGETS=gfxNNNN",
            )
            .why("the target that rocminfo names has to be among those of the build", "the same"),
        )
}

/// The CUDA device with the lowest compute capability.
fn lowest<'a>(facts: &Facts<'a>) -> Option<(&'a crate::observe::logs::Device, String)> {
    let cuda = facts.gpus().filter(|d| d.library == Some(LibraryKind::Cuda));
    let with = cuda.filter_map(|d| Some((d, d.compute.clone()?)));
    let number = |c: &str| c.parse::<f64>().unwrap_or(f64::MAX);
    with.min_by(|a, b| number(&a.1).total_cmp(&number(&b.1)))
}

/// `350` is how newer releases write 3.5.
fn dotted(compute: &str) -> String {
    match compute.parse::<u32>() {
        Ok(n) if n >= 100 => format!("{}.{}", n / 100, n / 10 % 10),
        _ => compute.to_string(),
    }
}

fn found(
    facts: &Facts,
    compute: Option<&str>,
    impact: Impact,
    confidence: f64,
    evidence: Evidence,
) -> Finding {
    let capability = compute.map(|c| format!(" (compute capability {c})"));
    let capability = capability.unwrap_or_default();
    let number: f64 = compute.and_then(|c| c.parse().ok()).unwrap_or(0.0);
    let architecture = compute.map_or_else(|| "native".to_string(), |c| c.replace('.', ""));
    let limit = match facts.ollama_since(Version(0, 1, 22)) {
        Some(false) => "6.0",
        _ => "5.0",
    };
    let title = if compute.is_some() || impact != Impact::Failure {
        format!("the GPU{capability} is older than this build supports")
    } else {
        "this build has no code for the GPU: it is older, or newer, than what it was built for"
            .to_string()
    };
    let finding = Finding::problem(ID, impact, confidence, title).because(format!(
        "A CUDA build carries code for the architectures that it was built for. This one has none \
            for a GPU{capability}: official builds start at {limit}, or at 7.5 with the CUDA 13 \
            library; a build of one's own may have those of one machine only."
    ))
    .seen(evidence)
    .seen_if(facts.no_gpu_line().map(Evidence::line));
    let finding = if number >= 5.0 {
        finding.fix(
            Fix::system("use a newer release", "curl -fsSL https://ollama.com/install.sh | sh")
                .why("releases from 0.1.22 on support 5.0 and newer", "the log names the GPU"),
        )
    } else {
        finding
    };
    finding
        .fix(
            Fix::system(
                "build for this GPU",
                format!("cmake -B build -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES={architecture}"),
            )
            .why(
                "an older CUDA toolkit (11.x; 10.2 for less) still makes code for it",
                "`no kernel image` does not appear again",
            ),
        )
        .fix(
            Fix::system(
                "use Vulkan",
                "a build with -DGGML_VULKAN=ON, or OLLAMA_VULKAN=1 from 0.12.11 on",
            )
            .why("Vulkan 1.2 is enough, and many old cards have it", "a Vulkan0 device is listed"),
        )
}
