//! What a log tells about memory around a load: what was free, what was projected, what was used.

use super::line::LineId;

/// Memory of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// All of it.
    pub total_bytes: Option<u64>,
    /// What was free.
    pub free_bytes: Option<u64>,
    /// Swap that was free.
    pub swap_bytes: Option<u64>,
    /// The line.
    pub line: LineId,
}

/// What a GPU had free when a load began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuFree {
    /// ggml's name of the device where known (`CUDA0`), else its id.
    pub device: String,
    /// Free memory as the driver reported it.
    pub free_bytes: u64,
    /// What the engine meant to use of it, after its own reserve, where told.
    pub usable_bytes: Option<u64>,
    /// The line.
    pub line: LineId,
}

/// llama.cpp's fitting of a model to the memory (`--fit`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fit {
    /// Memory that the model would take as it was asked for.
    pub projected_bytes: Option<u64>,
    /// Memory of the devices, or of the host when there is none, that was free.
    pub free_bytes: Option<u64>,
    /// Whether the two are of the host, because there is no device.
    pub on_host: bool,
    /// What is to stay free on every device.
    pub target_bytes: Option<u64>,
    /// By how much the target was missed.
    pub deficit_bytes: Option<u64>,
    /// The context before and after it was reduced.
    pub ctx_from_to: Option<(u64, u64)>,
    /// The context that the user had set, so that it was left alone.
    pub ctx_fixed: Option<u64>,
    /// What the devices got in the end.
    pub devices: Vec<FitDevice>,
    /// The first line.
    pub line: LineId,
}

/// What the fitting gave to a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FitDevice {
    /// ggml's name, `CUDA0`.
    pub device: String,
    /// Layers, the output counted as one.
    pub layers: u64,
    /// Those of them whose experts or feed-forward part went to another place.
    pub overflowing: u64,
    /// Memory that it is to use.
    pub used_bytes: u64,
    /// Memory that is to stay free; negative when it does not suffice.
    pub free_bytes: i64,
    /// The line.
    pub line: LineId,
}

/// A row of the table that llama.cpp prints when it ends: where a device's memory went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakdownRow {
    /// ggml's name, `CUDA0`, `Host`.
    pub device: String,
    /// All of its memory; absent for the host.
    pub total_bytes: Option<u64>,
    /// What is free.
    pub free_bytes: Option<u64>,
    /// Weights.
    pub model_bytes: u64,
    /// KV cache and other state.
    pub context_bytes: u64,
    /// Compute buffers.
    pub compute_bytes: u64,
    /// What is used by something else: the driver's context, other programs. Negative when the
    /// driver counts less than was allocated.
    pub unaccounted_bytes: Option<i64>,
    /// The line.
    pub line: LineId,
}
