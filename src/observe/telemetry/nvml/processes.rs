//! Who else computes on a GPU, and with how much of it.

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::{Library, fenced};
use crate::observe::telemetry::host::Roots;
use crate::observe::telemetry::unread::Unread;

/// A process with work on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuProcess {
    /// NVML's index of the GPU.
    pub gpu: u8,
    /// The process, as the driver numbers it: outside of containers.
    pub pid: u32,
    /// Memory that it holds there; `None` where the driver does not tell.
    pub vram_bytes: Option<u64>,
}

/// Longest name that is asked for, its end included.
const NAME_BYTES: usize = 1024;

impl Library {
    /// Processes that compute on a GPU.
    pub fn processes(&self, gpu: u8) -> Result<Vec<GpuProcess>, Unread> {
        let device = self.device(gpu)?;
        let found = fenced(|| device.running_compute_processes())?;
        let process = |p: nvml_wrapper::struct_wrappers::device::ProcessInfo| GpuProcess {
            gpu,
            pid: p.pid,
            vram_bytes: match p.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            },
        };
        Ok(found.into_iter().map(process).collect())
    }

    /// Bits of why a GPU's clocks are low; see [`super::throttle`].
    pub fn throttle_bits(&self, gpu: u8) -> Result<u64, Unread> {
        let device = self.device(gpu)?;
        Ok(fenced(|| device.current_throttle_reasons())?.bits())
    }

    /// A process's name: as the system has it, else as the driver does.
    pub fn process_name(&self, roots: &Roots, pid: u32) -> Option<String> {
        let here = roots.text(&format!("proc/{pid}/comm")).ok().filter(|_| is_here(roots));
        let name = here.or_else(|| self.call(|n: &Nvml| n.sys_process_name(pid, NAME_BYTES)).ok());
        name.map(|n| n.trim().to_string()).filter(|n| !n.is_empty())
    }
}

/// Whether the driver numbers processes as we do: not from inside a container with numbers of its
/// own. The first namespace of process ids has a fixed number in the kernel.
pub fn is_here(roots: &Roots) -> bool {
    let link = std::fs::read_link(roots.path("proc/self/ns/pid"));
    link.is_ok_and(|name| name.as_os_str() == "pid:[4026531836]")
}

/// Busy shares by process since the driver's time `seen_us`, which moves on.
pub(super) fn busy(device: &Device<'_>, seen_us: &mut u64) -> Result<Vec<(u32, f64)>, Unread> {
    let read = fenced(|| match device.process_utilization_stats(*seen_us) {
        // That is how an idle GPU answers.
        Err(NvmlError::NotFound) => Ok(Vec::new()),
        other => other,
    });
    let mut shares: Vec<(u32, u64, f64)> = Vec::new();
    for stat in read? {
        if stat.timestamp < *seen_us || stat.sm_util > 100 {
            continue;
        }
        let share = f64::from(stat.sm_util) / 100.0;
        // Only a process's newest value counts.
        match shares.iter_mut().find(|s| s.0 == stat.pid) {
            Some(known) if known.1 <= stat.timestamp => *known = (stat.pid, stat.timestamp, share),
            Some(_) => {}
            None => shares.push((stat.pid, stat.timestamp, share)),
        }
    }
    *seen_us = shares.iter().map(|s| s.1).max().map_or(*seen_us, |newest| newest.max(*seen_us));
    Ok(shares.into_iter().map(|s| (s.0, s.2)).collect())
}
