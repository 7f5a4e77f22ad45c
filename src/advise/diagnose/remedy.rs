//! Changes on the machine that several rules propose.
//!
//! Commands that are the same on every system are written out; where systems differ, the one that
//! the log tells is chosen, else the most common. No rule's judgement is here.

use super::facts::{Facts, Host};
use super::finding::Fix;
use crate::observe::logs::{Engine, LibraryKind, Version};

/// Give a container its NVIDIA GPUs.
pub(super) fn container_nvidia() -> Vec<Fix> {
    vec![
        Fix::system(
            "container",
            "docker run --gpus=all -v ollama:/root/.ollama -p 11434:11434 ollama/ollama",
        )
        .why(
            "without --gpus no device and no driver library is passed into the container",
            "`docker exec CONTAINER nvidia-smi` lists the GPU",
        ),
        Fix::system(
            "compose",
            "deploy: { resources: { reservations: { devices: [ { driver: nvidia, count: all, \
                capabilities: [gpu] } ] } } }",
        )
        .why(
            "the same for a compose file; NVIDIA_VISIBLE_DEVICES in the environment alone passes \
                nothing",
            "`inference compute` in the log names the GPU",
        ),
        Fix::system(
            "toolkit",
            "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
        )
        .why(
            "docker needs the NVIDIA container toolkit and its runtime",
            "`docker run --rm --gpus=all ubuntu nvidia-smi` works",
        ),
    ]
}

/// Give a container its AMD GPUs.
pub(super) fn container_amd() -> Fix {
    Fix::system(
        "container",
        "docker run --device /dev/kfd --device /dev/dri -v ollama:/root/.ollama -p 11434:11434 \
            ollama/ollama:rocm",
    )
    .why(
        "ROCm reaches the GPU through /dev/kfd and /dev/dri, which a container does not have by \
            itself",
        "`ls -l /dev/kfd /dev/dri` inside the container shows both",
    )
}

/// Load NVIDIA's module for compute anew.
pub(super) fn reload_uvm() -> Fix {
    Fix::system(
        "reload nvidia_uvm",
        "sudo systemctl stop ollama; sudo rmmod nvidia_uvm; sudo modprobe nvidia_uvm; sudo \
            systemctl start ollama",
    )
    .why(
        "CUDA answers 999 while the module's state is stale; rmmod works only when no program \
            holds the GPU",
        "`inference compute` in the log names the GPU again",
    )
}

/// The oldest NVIDIA driver that the engine's CUDA libraries run with, in words.
pub(super) fn nvidia_driver_needed(facts: &Facts) -> &'static str {
    if !facts.is_ollama() {
        return "525 for a build with CUDA 12, 580 for one with CUDA 13";
    }
    match (facts.ollama_since(Version(0, 30, 0)), facts.ollama_since(Version(0, 9, 0))) {
        (Some(true), _) => "550 (570 for GPUs of compute capability 5.0 to 6.2)",
        (_, Some(true)) => "525 for the CUDA 12 library, 580 for the CUDA 13 library",
        (_, Some(false)) => "450 for the CUDA 11 library, 525 for the CUDA 12 library",
        _ => "525",
    }
}

/// Update NVIDIA's driver.
pub(super) fn update_nvidia_driver(facts: &Facts, needed: Option<&str>) -> Fix {
    let needed = needed.unwrap_or_else(|| nvidia_driver_needed(facts));
    let needed = needed.trim_end_matches(" or newer");
    let how = match (facts.runs_on("windows"), facts.runs_on("linux")) {
        (Some(true), _) => "install the current driver from nvidia.com and restart",
        (_, Some(true)) => {
            "sudo ubuntu-drivers install    # or your distribution's way; then reboot"
        }
        _ => "install the current driver (nvidia.com, or sudo ubuntu-drivers install) and restart",
    };
    Fix::system("update the NVIDIA driver", how).why(
        format!("the driver must be at least version {needed}"),
        "`nvidia-smi` shows the new version, and the log shows the GPU",
    )
}

/// Install the engine anew so that its GPU libraries are there.
pub(super) fn reinstall(facts: &Facts) -> Vec<Fix> {
    if facts.log.engine == Engine::LlamaCpp {
        return vec![
            Fix::system(
                "build with CUDA",
                "cmake -B build -DGGML_CUDA=ON && cmake --build build --config Release -j",
            )
            .why(
                "the build decides which GPUs can be used; -DGGML_VULKAN=ON and -DGGML_HIP=ON are \
                    the others",
                "`llama-server --list-devices` lists the GPU",
            ),
            Fix::system(
                "python",
                "CMAKE_ARGS=\"-DGGML_CUDA=on\" pip install --force-reinstall --no-cache-dir \
                    llama-cpp-python",
            )
            .why(
                "the package from PyPI is built for the CPU alone",
                "the log of a load names CUDA0",
            ),
        ];
    }
    let windows = facts.runs_on("windows") == Some(true);
    let rocm = ["rocm-library-missing", "rocm-library-unusable", "rocm-no-device", "kfd-missing"];
    let amd = facts.gpus().any(|d| d.library == Some(LibraryKind::Rocm))
        || facts.any_notice(&rocm).is_some();
    let loaded = if amd {
        "`load_backend: loaded ROCm backend` in the log"
    } else {
        "`load_backend: loaded CUDA backend` in the log"
    };
    let mut fixes = Vec::new();
    if windows {
        fixes.push(
            Fix::system(
                "reinstall",
                "run OllamaSetup.exe again; %LOCALAPPDATA%\\Programs\\Ollama\\lib\\ollama must \
                    hold a folder like cuda_v12",
            )
            .why("the runner loads ggml-cuda.dll or ggml-hip.dll from there", loaded),
        );
    } else if facts.host() == Host::Container {
        let image = if amd { "ollama/ollama:rocm" } else { "ollama/ollama" };
        fixes.push(
            Fix::system("image", format!("docker pull {image}"))
                .why("the published image holds the libraries", loaded),
        );
    } else {
        let archive = if amd {
            "ollama-linux-amd64-rocm.tgz (or .tar.zst)"
        } else {
            "ollama-linux-amd64.tgz (or .tar.zst)"
        };
        fixes.push(
            Fix::system("reinstall", "curl -fsSL https://ollama.com/install.sh | sh").why(
                "it puts the binary and lib/ollama with the GPU libraries side by side",
                loaded,
            ),
        );
        fixes.push(
            Fix::system(
                "distribution package",
                if amd {
                    "install ollama-rocm instead of ollama"
                } else {
                    "install ollama-cuda instead of ollama"
                },
            )
            .why(
                "distributions split Ollama: the plain package is for the CPU alone",
                "libggml-cuda.so or libggml-hip.so lies under the library folder",
            ),
        );
        fixes.push(
            Fix::system(
                "without root",
                format!(
                    "unpack the whole archive {archive}, not only bin/ollama: lib/ollama must lie \
                        beside bin"
                ),
            )
            .why(
                "the server looks for ../lib/ollama next to its binary",
                "`ls PREFIX/lib/ollama` shows cuda_v12 or rocm",
            ),
        );
    }
    fixes
}
