//! `driver-container-mismatch`: the kernel's driver and the libraries that talk to it do not belong
//! together.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "driver and driver libraries are of different versions",
    doc: Doc {
        detects: "The NVIDIA module of the running kernel and the driver libraries that the \
            engine loads are of different versions: on one machine after an update without a \
            reboot, or between a host and a container.",
        costs: "CUDA does not start at all, so everything runs on the CPU. It worked before the \
            update.",
        evidence: "CUDA error 803 (\"system has unsupported display driver / cuda driver \
            combination\") or 804 (\"forward compatibility was attempted on non supported HW\"), \
            \"Driver/library version mismatch\" of NVML (its error 18), \"NVRM: API mismatch\" of \
            the kernel, \"version mismatch between driver and cuda driver library\" of Ollama, or \
            nvidia-container-cli failing on the driver. Error 35 alone is an old driver, error \
            999 a stale one.",
        fix: "Reboot after a driver update (or reload the NVIDIA modules). In a container: \
            refresh the container toolkit and its CDI file, start the container anew, and do not \
            mount or install driver libraries of another version into the image; compat libraries \
            of CUDA in LD_LIBRARY_PATH cause error 804 on consumer cards.",
        example: r"ggml_cuda_init: failed to initialize CUDA: forward compatibility was attempted on non supported HW",
    },
    follows_from: &[],
    check,
};

const ID: &str = "driver-container-mismatch";

fn check(facts: &Facts) -> Verdict {
    let mismatch = [
        "cuda-driver-mismatch",
        "nvml-version-mismatch",
        "cuda-compat-unsupported",
        "driver-library-mismatch",
    ];
    let notice = match facts.any_notice(&mismatch) {
        Some(notice) => notice,
        // The container tool tells many things; only a driver that it cannot talk to is this one.
        None => match facts.notice("container-runtime-failed") {
            Some(n) if n.fields.get("error").is_some_and(|e| e.contains("mismatch")) => n,
            _ => return Verdict::Clear,
        },
    };
    let compat = notice.id == "cuda-compat-unsupported";
    let title = if compat {
        "the container's CUDA library does not fit the host's NVIDIA driver (error 804)"
    } else {
        "the NVIDIA driver in the kernel and its libraries are of different versions"
    };
    let why = if compat {
        "The process loads a libcuda from another driver version than the kernel's and asks for \
            forward compatibility, which this card does not offer. That happens when an image \
            brings its own driver libraries (cuda-compat), or when the container toolkit still \
            mounts those of the driver before an update."
    } else {
        "The NVIDIA module that the kernel has loaded and the libraries on disk come from two \
            driver versions. After an update on the host the old module stays until a reboot; in \
            a container the toolkit may mount libraries of the version before."
    };
    let mut found = Finding::problem(ID, Impact::NoGpu, 0.93, title)
        .because(why)
        .seen(Evidence::line(notice.first))
        .seen_if(facts.without_gpu().map(Evidence::line));
    let container = Fix::system(
        "refresh the container toolkit",
        "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml && sudo systemctl restart \
            docker",
    )
    .why(
        "it finds the driver's libraries of the version that runs now",
        "`docker run --rm --gpus=all ubuntu nvidia-smi` works",
    );
    let recreate = Fix::system(
        "start the container anew",
        "docker compose up -d --force-recreate    # podman: --device nvidia.com/gpu=all",
    )
    .why("mounts of libraries are made when a container is created", "the log names the GPU");
    let reboot = Fix::system("reboot", "sudo reboot")
        .why("the kernel then loads the module of the installed version", "`nvidia-smi` works");
    if compat || facts.host() == Host::Container {
        found = found.fix(container).fix(recreate).fix(reboot);
    } else {
        found = found.fix(reboot).fix(container);
    }
    found.into()
}
