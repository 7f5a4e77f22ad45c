//! What a GPU is and how it is connected: read once.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus, TopologyLevel};
use nvml_wrapper::error::NvmlError;

use super::{Library, fenced};

/// A GPU's name, and details as name and value. What cannot be read is left out.
pub(super) fn describe(
    library: &Library,
    device: &Device<'_>,
    gpu: u8,
    count: u8,
) -> (String, Vec<(String, String)>) {
    let mut details = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        details.extend(value.map(|v| (name.to_string(), v)));
    };
    add("uuid", fenced(|| device.uuid()).ok());
    add("pci_bus_id", fenced(|| device.pci_info()).ok().map(|p| p.bus_id));
    add("driver", library.driver_version().ok());
    let mig = fenced(|| device.mig_mode()).ok().filter(|m| m.current == 1);
    add("mig", mig.map(|_| "on".to_string()));
    add("mig_devices", mig_devices(device).filter(|n| *n > 0).map(|n| n.to_string()));
    let numa = fenced(|| device.numa_node_id()).ok().filter(|n| *n != u32::MAX);
    add("numa_node", numa.map(|n| n.to_string()));
    for other in (0..count).filter(|other| *other != gpu) {
        add(&format!("path_to_gpu_{other}"), path(library, device, other));
        add(&format!("peer_access_to_gpu_{other}"), peer(library, device, other));
    }
    let name = fenced(|| device.name()).unwrap_or_else(|_| format!("GPU {gpu}"));
    (name, details)
}

/// Instances in use; places without one answer with an error.
fn mig_devices(device: &Device<'_>) -> Option<usize> {
    let places = fenced(|| device.mig_device_count()).ok()?;
    let there = |place: &u32| fenced(|| device.mig_device_by_index(*place)).is_ok();
    Some((0..places.min(64)).filter(there).count())
}

fn path(library: &Library, device: &Device<'_>, other: u8) -> Option<String> {
    let other = library.device(other).ok()?;
    let level = fenced(|| device.topology_common_ancestor(other)).ok()?;
    let words = match level {
        TopologyLevel::Internal => "same board",
        TopologyLevel::Single => "one PCIe switch",
        TopologyLevel::Multiple => "several PCIe switches",
        TopologyLevel::HostBridge => "one host bridge",
        TopologyLevel::Node => "one NUMA node",
        TopologyLevel::System => "between NUMA nodes",
    };
    Some(words.to_string())
}

fn peer(library: &Library, device: &Device<'_>, other: u8) -> Option<String> {
    let other = library.device(other).ok()?;
    let status = |what| -> Result<P2pStatus, NvmlError> { device.p2p_status(&other, what) };
    if matches!(fenced(|| status(P2pCapabilitiesIndex::NvLink)), Ok(P2pStatus::Ok)) {
        return Some("NVLink".to_string());
    }
    let words = match fenced(|| status(P2pCapabilitiesIndex::Read)).ok()? {
        P2pStatus::Ok => "PCIe",
        P2pStatus::ChipsetNotSupported | P2pStatus::IohTopologyNotSupported => {
            "none: the chipset cannot"
        }
        P2pStatus::GpuNotSupported => "none: the GPU cannot",
        P2pStatus::DisabledByRegkey => "none: switched off",
        P2pStatus::NotSupported => "none",
        P2pStatus::Unknown => "unknown",
    };
    Some(words.to_string())
}
