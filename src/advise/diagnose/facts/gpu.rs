//! Whether there is a GPU, whether work was meant for it, and whether it did any.

use crate::observe::logs::{BufferKind, Device, LibraryKind, LineId, Load, LoadOutcome};

use super::{Facts, LoadFacts};

/// Where the engine runs, as far as the log lets one tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// In a container.
    Container,
    /// Installed on the machine.
    Native,
    /// Nothing tells.
    Unknown,
}

/// Notices that say why a GPU was not found or not driven. When one of them is there, rules that
/// only infer a cause from the absence of a GPU stay silent.
const GPU_ERRORS: &[&str] = &[
    "amd-driver-too-old",
    "backend-load-failed",
    "build-without-gpu",
    "container-runtime-failed",
    "container-runtime-without-gpu",
    "cpu-lacks-avx",
    "cpu-no-vector-extensions",
    "cuda-compat-unsupported",
    "cuda-compute-too-low",
    "cuda-device-busy",
    "cuda-driver-does-not-start",
    "cuda-driver-mismatch",
    "cuda-driver-old",
    "cuda-driver-too-old",
    "cuda-driver-too-old-or-missing",
    "cuda-initialization-error",
    "cuda-library-missing",
    "cuda-no-device",
    "cuda-no-kernel-image",
    "cuda-not-permitted",
    "cuda-stub-library",
    "cuda-system-not-ready",
    "cuda-unknown-error",
    "device-filtered",
    "discovery-failed",
    "discovery-timed-out",
    "gpu-combination-removed",
    "igpu-dropped",
    "igpu-skipped",
    "invalid-llm-library",
    "driver-library-mismatch",
    "kfd-missing",
    "library-skipped",
    "nvidia-driver-not-loaded",
    "nvidia-uvm-problem",
    "nvml-permission",
    "nvml-unknown-error",
    "nvml-version-mismatch",
    "rocm-gfx-unsupported",
    "rocm-library-missing",
    "rocm-library-unusable",
    "rocm-no-device",
    "rocm-permission",
    "visible-devices-overridden",
    "vulkan-invalid-index",
    "vulkan-no-devices",
];

impl<'a> Facts<'a> {
    /// GPUs that were found; software renderers that Vulkan lists are none.
    pub fn gpus(&self) -> impl Iterator<Item = &'a Device> + use<'a> {
        self.log.devices.iter().filter(|d| !is_software(d))
    }

    /// The line that says that the server computes on the CPU alone, or that it found no GPU.
    pub fn no_gpu_line(&self) -> Option<LineId> {
        let none = self.notice("no-gpu-discovered").map(|n| n.first);
        let plan = || self.loads().find_map(|l| l.planned_on_cpu());
        self.log.cpu_only_inference.or(none).or_else(plan)
    }

    /// Whether any weights of any load lie on a GPU.
    pub fn ran_on_gpu(&self) -> bool {
        self.loads().any(|l| l.on_gpu() == Some(true))
    }

    /// The last load that tells where its weights are, if they are on the CPU alone.
    pub fn cpu_only_load(&self) -> Option<LoadFacts<'a>> {
        self.loads().rfind(|l| l.on_gpu().is_some()).filter(|l| l.on_gpu() == Some(false))
    }

    /// The line that shows that no GPU does the work: said by the server, or by where weights are.
    pub fn without_gpu(&self) -> Option<LineId> {
        if self.ran_on_gpu() {
            return None;
        }
        self.no_gpu_line().or_else(|| Some(self.cpu_only_load()?.weights_line()))
    }

    /// The one backend that was loaded, when it is that of the CPU: its line and file.
    pub fn cpu_backend_alone(&self) -> Option<(LineId, &'a str)> {
        let backends = &self.log.backends;
        let gpu = |name: &str| LibraryKind::from_word(name).is_some();
        let cpu = backends.get("CPU")?;
        (!backends.keys().any(|name| gpu(name))).then_some((cpu.line, cpu.value.as_str()))
    }

    /// The first message that says why a GPU was not found or not driven.
    pub fn gpu_error(&self) -> Option<LineId> {
        self.any_notice(GPU_ERRORS).map(|n| n.first)
    }

    /// Where the engine runs. The image of Ollama listens on all addresses and keeps its models
    /// under `/root`; the service on a machine keeps them under `/usr/share/ollama` or a home.
    pub fn host(&self) -> Host {
        let value = |name: &str| self.setting(name).map_or("", |s| s.value.as_str());
        let (models, host) = (value("OLLAMA_MODELS"), value("OLLAMA_HOST"));
        let paths = self.log.loads.iter().filter_map(|l| l.model.path.as_deref());
        let mut paths = paths.chain([models]);
        let said = ["container-runtime-failed", "container-runtime-without-gpu"];
        if self.log.in_container || self.any_notice(&said).is_some() {
            return Host::Container;
        }
        let native = ["/usr/share/ollama/", "/var/lib/ollama", "/home/", "/Users/", "\\Users\\"];
        if self.log.os.as_ref().is_some_and(|os| os.value != "linux")
            || paths.clone().any(|p| native.iter().any(|n| p.contains(n)))
            || self.log.in_journal
        {
            return Host::Native;
        }
        let everywhere = host.contains("0.0.0.0") || host.contains("[::]");
        if paths.any(|p| p.starts_with("/root/.ollama")) && (everywhere || host.is_empty()) {
            return Host::Container;
        }
        Host::Unknown
    }
}

impl LoadFacts<'_> {
    /// Whether any of its weights lie on a GPU; `None` when the log does not tell.
    pub fn on_gpu(&self) -> Option<bool> {
        let load = self.load;
        let weights = load.buffers.iter().filter(|b| b.kind == BufferKind::Model && b.bytes > 0);
        if weights.clone().any(|b| !b.is_host()) {
            return Some(true);
        }
        match load.layers {
            Some(layers) => Some(layers.offloaded > 0),
            None if weights.clone().next().is_some() => Some(false),
            // A verbose log names the device of each layer.
            None => {
                let mut by_device = load.layers_by_device.iter().filter(|(_, n)| *n > 0);
                let any = by_device.clone().next().is_some();
                any.then(|| by_device.any(|(device, _)| !device.starts_with("CPU")))
            }
        }
    }

    /// The line that tells where its weights are.
    pub fn weights_line(&self) -> LineId {
        let weights = self.load.buffers.iter().find(|b| b.kind == BufferKind::Model);
        let layers = self.load.layers.map(|l| l.line);
        layers.or(weights.map(|b| b.line)).unwrap_or(self.load.line)
    }

    /// The line that planned work for a GPU: a server's estimate, its choice of library, or layers
    /// that were asked for.
    pub fn planned_on_gpu(&self) -> Option<LineId> {
        let load = self.load;
        let estimate = load.estimate.as_ref().filter(|e| e.layers_offload.is_some_and(|n| n > 0));
        let library = load.inference_library.as_ref();
        let library = library.filter(|l| LibraryKind::from_word(&l.value).is_some());
        let planned = load.size_vram_and_total.filter(|s| s.value.0 > 0);
        let asked = load.requested.gpu_layers.filter(|l| l.value > 0);
        estimate
            .map(|e| e.line)
            .or(library.map(|l| l.line))
            .or(planned.map(|p| p.line))
            .or(asked.map(|a| a.line))
    }

    /// The line of a server's plan that knows no GPU: `msg=offload library=cpu`.
    pub fn planned_on_cpu(&self) -> Option<LineId> {
        let estimate = self.load.estimate.as_ref()?;
        (estimate.library.as_deref() == Some("cpu")).then_some(estimate.line)
    }

    /// Why it failed, and the line that says so.
    pub fn failure(&self) -> Option<(LineId, &str)> {
        failure_of(self.load)
    }
}

fn failure_of(load: &Load) -> Option<(LineId, &str)> {
    match &load.outcome {
        LoadOutcome::Failed(seen) => Some((seen.line, seen.value.as_str())),
        LoadOutcome::Unknown | LoadOutcome::Ready(_) | LoadOutcome::Unloaded(_) => None,
    }
}

/// A renderer in software, which is no GPU.
pub(crate) fn is_software(device: &Device) -> bool {
    let name = device.description.as_deref().unwrap_or_default().to_ascii_lowercase();
    ["llvmpipe", "lavapipe", "swiftshader", "software rasterizer"].iter().any(|s| name.contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::logs::{Buffer, LogSession, Setting};

    fn buffer(device: &str, line: u64) -> Buffer {
        let bytes = 1 << 30;
        Buffer { kind: BufferKind::Model, device: device.into(), bytes, line: LineId(line) }
    }

    #[test]
    fn weights_on_the_host_alone_are_work_for_the_cpu() {
        let mut log = LogSession::default();
        log.loads.push(Load { buffers: vec![buffer("CPU_Mapped", 7)], ..Load::default() });
        let facts = Facts::of_log(&log);
        assert_eq!(facts.without_gpu(), Some(LineId(7)));
        log.loads.push(Load {
            buffers: vec![buffer("CPU_Mapped", 9), buffer("CUDA0", 10)],
            ..Load::default()
        });
        let facts = Facts::of_log(&log);
        assert_eq!(facts.without_gpu(), None);
        assert!(facts.cpu_only_load().is_none());
    }

    #[test]
    fn the_image_of_ollama_is_told_from_the_service() {
        let mut log = LogSession::default();
        let mut set = |name: &str, value: &str| {
            let setting = Setting { value: value.into(), line: LineId(1) };
            log.settings.insert(name.into(), setting);
        };
        set("OLLAMA_MODELS", "/root/.ollama/models");
        set("OLLAMA_HOST", "http://0.0.0.0:11434");
        assert_eq!(Facts::of_log(&log).host(), Host::Container);
        log.settings.insert(
            "OLLAMA_MODELS".into(),
            Setting { value: "/usr/share/ollama/.ollama/models".into(), line: LineId(1) },
        );
        assert_eq!(Facts::of_log(&log).host(), Host::Native);
        assert_eq!(Facts::of_log(&LogSession::default()).host(), Host::Unknown);
        let journal = LogSession { in_journal: true, ..LogSession::default() };
        assert_eq!(Facts::of_log(&journal).host(), Host::Native);
        // What stands around the lines counts more than paths that may come from anywhere.
        log.in_container = true;
        assert_eq!(Facts::of_log(&log).host(), Host::Container);
    }
}
