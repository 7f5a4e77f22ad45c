//! What a model needs in memory on each device, predicted before anything is allocated.

use std::fmt;

use crate::base::units::Bytes;

/// The needs of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceBudget {
    /// The device's name.
    pub device: String,
    /// Weights that live there.
    pub weight_bytes: u64,
    /// KV cache that lives there.
    pub kv_bytes: u64,
    /// Compute buffer: the larger of the prompt's and decode's arena.
    pub compute_bytes: u64,
    /// What kernels use beside it; of the CPU known once the graphs were compiled.
    pub scratch_bytes: u64,
    /// Free before loading.
    pub free_bytes: u64,
    /// All memory of the device.
    pub total_bytes: u64,
}

impl DeviceBudget {
    /// Everything together.
    pub fn needed_bytes(&self) -> u64 {
        self.weight_bytes + self.kv_bytes + self.compute_bytes + self.scratch_bytes
    }
}

/// The needs of all devices, in order of priority, the CPU last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryBudget {
    /// One entry per device.
    pub devices: Vec<DeviceBudget>,
    /// Host memory for logits.
    pub output_bytes: u64,
}

impl MemoryBudget {
    /// Everything on every device together; virtual devices lie in host memory too.
    pub fn needed_bytes(&self) -> u64 {
        self.devices.iter().map(DeviceBudget::needed_bytes).sum::<u64>() + self.output_bytes
    }

    /// The first device that has too little, and how much it lacks.
    pub fn shortfall(&self) -> Option<(&DeviceBudget, u64)> {
        let lacking = |d: &&DeviceBudget| d.needed_bytes() > d.free_bytes;
        self.devices.iter().find(lacking).map(|d| (d, d.needed_bytes() - d.free_bytes))
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:10} {:>12} {:>12} {:>12} {:>12} {:>12}",
            "device", "weights", "KV cache", "compute", "needed", "free"
        )?;
        for d in &self.devices {
            writeln!(
                f,
                "{:10} {:>12} {:>12} {:>12} {:>12} {:>12}",
                d.device,
                Bytes(d.weight_bytes),
                Bytes(d.kv_bytes),
                Bytes(d.compute_bytes + d.scratch_bytes),
                Bytes(d.needed_bytes()),
                Bytes(d.free_bytes)
            )?;
        }
        Ok(())
    }
}
