//! What a machine has, looked at once: devices, drivers, permissions, container, processors, memory,
//! and how servers are set up.
//!
//! Only files of the system are read, under [`Roots`]; nothing is started, opened for writing or asked
//! over a network, and nothing here judges. Invariant: what cannot be read is a fact with a hint.

mod container;
mod devices;
mod processor;
mod service;
mod who;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::observe::telemetry::host::Roots;

pub use devices::{DeviceFile, PciGpu, Vendor};
pub use service::SettingFrom;

/// Something that was seen, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// To which part it belongs: `devices`, `driver`, `container`.
    pub part: &'static str,
    /// What it is.
    pub name: String,
    /// How it is.
    pub value: String,
    /// What a person can do about it, where that is something; else empty.
    pub hint: String,
}

/// A machine as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Everything that was seen, in the order in which it is shown.
    pub seen: Vec<Seen>,
    /// Graphics processors on the PCI bus, whether they can be used or not.
    pub gpus: Vec<PciGpu>,
    /// Device files of GPUs.
    pub files: Vec<DeviceFile>,
    /// Loaded kernel modules; `None` where the system does not tell.
    pub modules: Option<BTreeSet<String>>,
    /// What kind of container this is, if it is one.
    pub container: Option<&'static str>,
    /// Settings of the server's environment, by name, with where each was found.
    pub settings: BTreeMap<String, SettingFrom>,
}

impl Inspection {
    /// Looks at the machine; `servers` are processes of Ollama, if any run.
    pub fn of(roots: &Roots, servers: &[u32]) -> Self {
        let mut machine = Self::default();
        devices::inspect(roots, &mut machine);
        container::inspect(roots, &mut machine);
        processor::inspect(roots, &mut machine);
        service::inspect(roots, servers, &mut machine);
        machine
    }

    /// Adds something that was seen.
    pub fn see(&mut self, part: &'static str, name: impl Into<String>, value: impl Into<String>) {
        self.see_with(part, name, value, "");
    }

    /// Adds something that was seen, with what can be done.
    pub fn see_with(
        &mut self,
        part: &'static str,
        name: impl Into<String>,
        value: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (name, value, hint) = (name.into(), value.into(), hint.into());
        self.seen.push(Seen { part, name, value, hint });
    }

    /// Whether a kernel module is loaded; `None` where the system does not tell.
    pub fn has_module(&self, name: &str) -> Option<bool> {
        Some(self.modules.as_ref()?.contains(name))
    }

    /// Whether there is a graphics processor of a vendor on the bus.
    pub fn has_gpu(&self, vendor: Vendor) -> bool {
        self.gpus.iter().any(|g| g.vendor == vendor)
    }

    /// A device file, if it is there.
    pub fn file(&self, path: &str) -> Option<&DeviceFile> {
        self.files.iter().find(|f| f.path == path)
    }
}
