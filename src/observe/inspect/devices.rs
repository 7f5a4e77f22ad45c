//! Graphics processors on the bus, their drivers in the kernel, device files, libraries.

use std::collections::BTreeSet;
use std::fs;

use crate::observe::telemetry::host::Roots;

use super::Inspection;
use super::who::{Who, group_name};

/// Who made a graphics processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

impl Vendor {
    fn of(id: &str) -> Option<Self> {
        match id.trim() {
            "0x10de" => Some(Self::Nvidia),
            "0x1002" => Some(Self::Amd),
            "0x8086" => Some(Self::Intel),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nvidia => "NVIDIA",
            Self::Amd => "AMD",
            Self::Intel => "Intel",
        }
    }

    /// The kernel module of its driver for compute.
    pub fn module(self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia",
            Self::Amd => "amdgpu",
            Self::Intel => "i915",
        }
    }
}

/// A graphics processor on the PCI bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciGpu {
    /// Its address: `0000:01:00.0`.
    pub address: String,
    /// Who made it.
    pub vendor: Vendor,
    /// The kernel's driver for it: `nvidia`, `nouveau`, `vfio-pci`; `None` without one.
    pub driver: Option<String>,
}

/// A device file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFile {
    /// Where it is, with a leading slash.
    pub path: String,
    /// Whether this user may read and write it; `None` where that cannot be told.
    pub may_use: Option<bool>,
    /// The group that it belongs to.
    pub group: String,
}

/// Class of PCI devices that can draw, or compute like one that can.
const DISPLAY_CLASS: &str = "0x03";

/// Folders of libraries, on the systems that people have.
const LIBRARY_FOLDERS: [&str; 8] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/lib",
    "usr/lib/wsl/lib",
    "usr/local/nvidia/lib64",
    "opt/rocm/lib",
];

/// Libraries that engines load, with what each is for.
const LIBRARIES: [(&str, &str); 5] = [
    ("libnvidia-ml.so.1", "NVIDIA's counters (NVML)"),
    ("libcuda.so.1", "the CUDA driver"),
    ("libamdhip64.so", "ROCm (HIP)"),
    ("libvulkan.so.1", "Vulkan"),
    ("libze_loader.so.1", "Intel's oneAPI (Level Zero)"),
];

pub(super) fn inspect(roots: &Roots, machine: &mut Inspection) {
    machine.gpus = gpus(roots);
    for gpu in machine.gpus.clone() {
        let driver = gpu.driver.as_deref().unwrap_or("no driver");
        let hint = match (gpu.vendor, driver) {
            (Vendor::Nvidia, "nouveau") => "nouveau cannot compute: install NVIDIA's driver",
            (_, "vfio-pci") => "it is given to a virtual machine",
            (_, "no driver") => "no driver of the kernel has it",
            _ => "",
        };
        let value = format!("{}, driver: {driver}", gpu.vendor.name());
        machine.see_with("devices", format!("GPU at {}", gpu.address), value, hint);
    }
    if machine.gpus.is_empty() {
        machine.see("devices", "GPU", "none on the PCI bus that this system shows");
    }
    machine.modules = modules(roots);
    match &machine.modules {
        Some(loaded) => {
            let known = ["nvidia", "nvidia_uvm", "nouveau", "amdgpu", "i915", "xe"];
            let there: Vec<&str> = known.into_iter().filter(|m| loaded.contains(*m)).collect();
            let value = if there.is_empty() { "none".to_string() } else { there.join(", ") };
            machine.see("driver", "kernel modules for GPUs", value);
        }
        None => machine.see_with(
            "driver",
            "kernel modules for GPUs",
            "not told",
            "/proc/modules cannot be read here",
        ),
    }
    if let Some(version) = nvidia_version(roots) {
        machine.see("driver", "NVIDIA driver in the kernel", version);
    }
    libraries(roots, machine);
    files(roots, machine);
}

fn names(roots: &Roots, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(roots.path(folder)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn gpus(roots: &Roots) -> Vec<PciGpu> {
    let base = "sys/bus/pci/devices";
    let one = |address: String| {
        let folder = format!("{base}/{address}");
        let class = roots.text(&format!("{folder}/class")).ok()?;
        if !class.starts_with(DISPLAY_CLASS) {
            return None;
        }
        let vendor = Vendor::of(&roots.text(&format!("{folder}/vendor")).ok()?)?;
        let link = fs::read_link(roots.path(&format!("{folder}/driver"))).ok();
        let driver = link.and_then(|l| Some(l.file_name()?.to_string_lossy().into_owned()));
        Some(PciGpu { address, vendor, driver })
    };
    names(roots, base).into_iter().filter_map(one).collect()
}

fn modules(roots: &Roots) -> Option<BTreeSet<String>> {
    let text = roots.text("proc/modules").ok()?;
    let first = |l: &str| l.split_ascii_whitespace().next().map(ToString::to_string);
    Some(text.lines().filter_map(first).collect())
}

/// From `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  …`.
fn nvidia_version(roots: &Roots) -> Option<String> {
    let text = roots.text("proc/driver/nvidia/version").ok()?;
    let is_version =
        |w: &&str| w.contains('.') && w.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.split_ascii_whitespace().find(is_version).map(ToString::to_string)
}

fn libraries(roots: &Roots, machine: &mut Inspection) {
    let there: Vec<(&str, Vec<String>)> =
        LIBRARY_FOLDERS.iter().map(|folder| (*folder, names(roots, folder))).collect();
    for (library, what) in LIBRARIES {
        let found = there.iter().find(|(_, names)| names.iter().any(|n| n.starts_with(library)));
        match found {
            Some((folder, _)) => machine.see("libraries", what, format!("{library} in /{folder}")),
            None => machine.see("libraries", what, format!("{library} not found")),
        }
    }
}

fn files(roots: &Roots, machine: &mut Inspection) {
    let top = names(roots, "dev");
    let nvidia = top.iter().filter(|n| n.starts_with("nvidia") && !n.starts_with("nvidia-caps"));
    let mut paths: Vec<String> = nvidia.map(|n| format!("/dev/{n}")).collect();
    paths.extend(top.iter().filter(|n| *n == "kfd" || *n == "dxg").map(|n| format!("/dev/{n}")));
    let render = names(roots, "dev/dri").into_iter().filter(|n| n.starts_with("render"));
    paths.extend(render.map(|n| format!("/dev/dri/{n}")));
    let who = Who::here(roots);
    machine.files = paths.into_iter().map(|path| file(roots, who.as_ref(), path)).collect();
    for file in machine.files.clone() {
        let (value, hint) = match file.may_use {
            Some(true) => ("this user may use it".to_string(), String::new()),
            Some(false) => (
                format!("this user may not use it; it belongs to the group {}", file.group),
                format!("sudo usermod -aG {} $USER, then log in again", file.group),
            ),
            None => ("its permissions cannot be read".to_string(), String::new()),
        };
        machine.see_with("permissions", file.path, value, hint);
    }
    if machine.files.is_empty() {
        machine.see("permissions", "device files of GPUs", "none in /dev");
    }
}

#[cfg(unix)]
fn file(roots: &Roots, who: Option<&Who>, path: String) -> DeviceFile {
    use std::os::unix::fs::MetadataExt;
    let told = fs::metadata(roots.path(path.trim_start_matches('/'))).ok();
    let may_use = told.as_ref().zip(who).map(|(m, who)| who.may_use(m.mode(), m.uid(), m.gid()));
    let group = told.map(|m| group_name(roots, m.gid())).unwrap_or_default();
    DeviceFile { path, may_use, group }
}

#[cfg(not(unix))]
fn file(_roots: &Roots, _who: Option<&Who>, path: String) -> DeviceFile {
    DeviceFile { path, may_use: None, group: String::new() }
}
