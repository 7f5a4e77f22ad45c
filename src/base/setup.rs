//! How an engine has set up a model: what it is, where its parts are and why, and the settings.
//!
//! A recording holds it as JSON, which names its fields: so it may grow without a new version of
//! recordings. A report's `facts` are the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the model, the devices and the settings were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SetupFact {
    /// The model.
    pub model: ModelFacts,
    /// The devices in order of priority, the CPU last.
    pub devices: Vec<DeviceFacts>,
    /// Where the layers are.
    pub placement: PlacementFacts,
    /// Memory, as predicted and as measured.
    pub memory: MemoryFacts,
    /// The context.
    pub context: ContextFacts,
    /// How the largest graphs are cut.
    pub graph: GraphFacts,
    /// Threads that compute, and why so many.
    pub threads: String,
    /// Instruction set of the CPU kernels, chosen at run time.
    pub isa: String,
    /// How the CPU's weights lie in memory.
    #[serde(default)]
    pub weight_layout: String,
    /// Which GPUs take part, or why none does.
    #[serde(default)]
    pub gpus: String,
    /// Processors that this process may use, by affinity mask and CPU quota.
    #[serde(default)]
    pub processors_allowed: u64,
    /// What else happened on these processors while text was generated; absent where the system does
    /// not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor_use: Option<ProcessorUse>,
}

/// Who used the processors while a model ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessorUse {
    /// Share of the time of the allowed processors that other processes used; 0 for runs that are too
    /// short to tell.
    pub others_share: f64,
    /// Share of their time in which a hypervisor ran another machine; 0 as above.
    pub stolen_share: f64,
    /// How often threads of this process waited for something: mostly for each other.
    pub voluntary_switches: u64,
    /// How often they were interrupted for something else.
    pub involuntary_switches: u64,
}

/// A model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFacts {
    /// As the file calls it, or the file's name.
    pub name: String,
    /// The file.
    pub file: String,
    /// Architecture, as llama.cpp names it.
    pub architecture: String,
    /// The mix of weight types, as llama.cpp names it: `Q4_K_M`.
    pub file_type: String,
    /// Weights as numbers.
    pub parameters: u64,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Bits of the file's weights per parameter.
    pub bits_per_weight: f64,
    /// Layers, the output not counted.
    pub layers: u64,
    /// Width of the hidden state.
    pub embedding: u64,
    /// Tokens of the vocabulary.
    pub vocabulary: u64,
    /// Context that it was trained with.
    pub context_trained: u64,
    /// Experts per layer; 0 for a dense model.
    pub experts: u64,
    /// Experts that each token uses.
    pub experts_used: u64,
    /// What else is to be known about the file.
    pub notes: Vec<String>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceFacts {
    /// As ggml names it.
    pub name: String,
    /// What it is, in words.
    pub description: String,
    /// True for a device that only models another one's memory and link: its speed means nothing.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// All of its memory, 0 where unknown.
    pub memory_bytes_total: u64,
    /// Its free memory before loading.
    pub memory_bytes_free: u64,
    /// Layers that it holds, the output counted as one.
    pub layers: u64,
}

/// Where the layers are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementFacts {
    /// Layers that are not on the CPU, the output counted as one.
    pub layers_offloaded: u64,
    /// All layers, the output counted as one.
    pub layers_total: u64,
    /// Layers that were to be offloaded (`-ngl`); absent where as many were as fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers_asked: Option<u64>,
    /// What stopped one more layer from being offloaded; absent when nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The table of token embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<LayerPlacement>,
    /// Each layer, the output last.
    pub layers: Vec<LayerPlacement>,
    /// Weights that are not where their layer is, and the input's.
    pub exceptions: Vec<WeightPlacement>,
}

/// Where a layer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerPlacement {
    /// Its number, or `output`.
    pub layer: String,
    /// The device.
    pub device: String,
    /// Why there.
    pub cause: String,
    /// Bytes of its weights, wherever they are.
    #[serde(default)]
    pub weight_bytes: u64,
    /// Where its part of the KV cache is; absent for one that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv: Option<PartPlacement>,
    /// Where its experts are; absent for one that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<PartPlacement>,
}

/// Where a part of a layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartPlacement {
    /// The device that has most of it.
    pub device: String,
    /// Its bytes.
    pub bytes: u64,
}

/// Where weights of one kind are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightPlacement {
    /// One weight's name, or the first of several that are alike.
    pub weight: String,
    /// How many are alike.
    pub count: u64,
    /// The device.
    pub device: String,
    /// Why there.
    pub cause: String,
}

/// Memory, as predicted before loading and as measured at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryFacts {
    /// What each device needs.
    pub devices: Vec<DeviceMemory>,
    /// Host memory for logits.
    pub output_bytes: u64,
    /// Everything on the host. Virtual devices lie in host memory too.
    pub predicted_bytes: u64,
    /// What the process had resident before the model was loaded: the program itself, and what of a
    /// new file is still in its pages. Absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_before_bytes: Option<u64>,
    /// The most memory that the process had resident; absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
}

/// What one device needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceMemory {
    /// The device.
    pub device: String,
    /// Weights.
    pub weight_bytes: u64,
    /// KV cache.
    pub kv_bytes: u64,
    /// Compute buffer.
    pub compute_bytes: u64,
    /// What kernels use beside it.
    pub scratch_bytes: u64,
    /// Everything together.
    pub needed_bytes: u64,
    /// Free before loading.
    pub free_bytes: u64,
    /// All memory of the device.
    pub total_bytes: u64,
}

impl SetupFact {
    /// What a device's own memory must hold. Kernels of a virtual device compute on the host, so what
    /// they use beside its buffers lies there.
    pub fn held_bytes(&self, memory: &DeviceMemory) -> u64 {
        let is_virtual = self.devices.iter().any(|d| d.name == memory.device && d.is_virtual);
        memory.needed_bytes.saturating_sub(if is_virtual { memory.scratch_bytes } else { 0 })
    }
}

/// The context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContextFacts {
    /// `-c`: tokens of all sequences together.
    pub n_ctx: u64,
    /// `-b`: tokens that are taken at once.
    pub n_batch: u64,
    /// `-ub`: tokens that are computed at once.
    pub n_ubatch: u64,
    /// `-np`: sequences at once.
    pub n_seq_max: u64,
    /// `-ctk`: type of keys.
    pub type_k: String,
    /// `-ctv`: type of values.
    pub type_v: String,
}

/// How the largest graphs are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GraphFacts {
    /// Nodes of the decode graph.
    pub nodes: u64,
    /// Splits of a full prompt ubatch.
    pub splits_prompt: u64,
    /// Splits of a decode step.
    pub splits_decode: u64,
}
