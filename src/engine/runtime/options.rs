//! The settings of an engine, with llama.cpp's meanings and defaults.

use crate::engine::backend::DeviceSpec;
use crate::engine::sched::ComputeMode;
use crate::engine::sched::placement::PlacementOptions;
use crate::engine::tensor::DType;

/// `-ngl`: how many layers to offload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit.
    #[default]
    Auto,
    /// This many, the output counted as the last one.
    Count(usize),
}

/// What fitting `-ngl auto` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Layers that are offloaded.
    pub gpu_layers: usize,
    /// What stopped one more, in words; `None` when everything fits.
    pub limit: Option<String>,
}

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// `-c`: context length of all sequences together; 0 takes the model's.
    pub n_ctx: usize,
    /// `-b`: tokens that one call of decode takes.
    pub n_batch: usize,
    /// `-ub`: tokens that are computed at once.
    pub n_ubatch: usize,
    /// `-np`: sequences at once.
    pub n_seq_max: usize,
    /// `-t`: threads; 0 chooses by the machine.
    pub n_threads: usize,
    /// `-tb`: threads for prompts; 0 means as `-t`.
    pub n_threads_batch: usize,
    /// `-ctk`.
    pub type_k: DType,
    /// `-ctv`.
    pub type_v: DType,
    /// `-dev`: devices beside the CPU, in order of priority. Empty here, so that whoever embeds the
    /// engine decides; `auto` on the command line.
    pub devices: Vec<DeviceSpec>,
    /// `-ngl`.
    pub gpu_layers: GpuLayers,
    /// `-sm`, `-ts`, `-mg`, `-ot`, `-cmoe`, `-ncmoe`, `-nkvo`; its `gpu_layers` is overruled.
    pub placement: PlacementOptions,
    /// Whether large batches bring host weights to a device; off with `-nopo`.
    pub op_offload: bool,
    /// How finely to time.
    pub mode: ComputeMode,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            n_ctx: 4096,
            n_batch: 2048,
            n_ubatch: 512,
            n_seq_max: 1,
            n_threads: 0,
            n_threads_batch: 0,
            type_k: DType::F16,
            type_v: DType::F16,
            devices: Vec::new(),
            gpu_layers: GpuLayers::Auto,
            placement: PlacementOptions::default(),
            op_offload: true,
            mode: ComputeMode::Splits,
        }
    }
}
