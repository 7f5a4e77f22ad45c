//! One load of a model: what was asked, what was estimated, what was granted.

use super::line::{LineId, Seen};
use super::memory::{BreakdownRow, Fit, GpuFree, HostMemory};

/// A model as its header and the loader describe it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Path or blob as logged.
    pub path: Option<String>,
    /// `general.name`, or the name under which a server lists it.
    pub name: Option<String>,
    /// Architecture, `qwen2`.
    pub arch: Option<Seen<String>>,
    /// File type, `Q4_K - Medium`.
    pub file_type: Option<String>,
    /// Parameters.
    pub parameters: Option<f64>,
    /// All weights.
    pub bytes: Option<Seen<u64>>,
    /// Repeating layers.
    pub n_layer: Option<u64>,
    /// Width.
    pub n_embd: Option<u64>,
    /// Query heads.
    pub n_head: Option<u64>,
    /// Key and value heads (the largest, where layers differ).
    pub n_head_kv: Option<u64>,
    /// Elements of a key head.
    pub n_embd_head_k: Option<u64>,
    /// Elements of a value head.
    pub n_embd_head_v: Option<u64>,
    /// Width of the feed-forward part.
    pub n_ff: Option<u64>,
    /// Tokens of the vocabulary.
    pub n_vocab: Option<u64>,
    /// Context that the model was trained for.
    pub n_ctx_train: Option<Seen<u64>>,
    /// Window of layers with a sliding window.
    pub n_swa: Option<u64>,
    /// Experts; 0 for a dense model.
    pub n_expert: Option<u64>,
    /// Experts that a token uses.
    pub n_expert_used: Option<u64>,
}

/// What was asked for: flags of a command line, request options, or what the server chose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requested {
    /// The runner's command line, where logged.
    pub command: Option<Seen<String>>,
    /// `-ngl`, `num_gpu`; -1 lets the engine choose. Dialect A: `layers.requested`.
    pub gpu_layers: Option<Seen<i64>>,
    /// `--ctx-size`: of all parallel sequences together.
    pub ctx: Option<Seen<u64>>,
    /// `--parallel`.
    pub parallel: Option<Seen<u64>>,
    /// `--batch-size`.
    pub batch: Option<Seen<u64>>,
    /// `--ubatch-size`.
    pub ubatch: Option<Seen<u64>>,
    /// `--threads`.
    pub threads: Option<Seen<u64>>,
    /// `--cache-type-k`.
    pub kv_type_k: Option<Seen<String>>,
    /// `--cache-type-v`.
    pub kv_type_v: Option<Seen<String>>,
    /// `--flash-attn`, as given: `on`, `off`, `auto`, `1`.
    pub flash_attention: Option<Seen<String>>,
    /// `--split-mode`.
    pub split_mode: Option<Seen<String>>,
    /// `--main-gpu`.
    pub main_gpu: Option<Seen<u64>>,
    /// `--tensor-split`.
    pub tensor_split: Option<Seen<String>>,
    /// `-ot`, `-cmoe`, `-ncmoe` as given.
    pub overrides: Vec<Seen<String>>,
    /// `-nkvo`.
    pub kv_on_host: Option<LineId>,
    /// `--mlock`, `use_mlock`.
    pub mlock: Option<Seen<bool>>,
    /// `--no-mmap`, `use_mmap`.
    pub mmap: Option<Seen<bool>>,
    /// `--no-mmproj-offload`, projector or draft model options, as given.
    pub other: Vec<Seen<String>>,
}

/// A server's estimate before it loads (`msg=offload …` of dialect A and earlier). Lists have an
/// entry per GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// What drives the GPUs it is for, `cuda`; `cpu` when there is none.
    pub library: Option<String>,
    /// Layers it asked for (-1: as many as fit).
    pub layers_requested: Option<i64>,
    /// All layers, the output counted as one.
    pub layers_model: Option<u64>,
    /// Layers to be offloaded.
    pub layers_offload: Option<u64>,
    /// Layers for each GPU; empty when one GPU takes all.
    pub layers_split: Vec<u64>,
    /// Free memory of each GPU.
    pub available_bytes: Vec<u64>,
    /// `OLLAMA_GPU_OVERHEAD` as counted.
    pub overhead_bytes: Option<u64>,
    /// What the whole model would need.
    pub full_bytes: Option<u64>,
    /// What the offloaded part needs.
    pub partial_bytes: Option<u64>,
    /// KV cache.
    pub kv_bytes: Option<u64>,
    /// What each GPU is to hold.
    pub allocations_bytes: Vec<u64>,
    /// All weights.
    pub weights_bytes: Option<u64>,
    /// Weights of the repeating layers.
    pub repeating_bytes: Option<u64>,
    /// Weights of the output and embedding.
    pub nonrepeating_bytes: Option<u64>,
    /// Compute graph when everything is offloaded.
    pub graph_full_bytes: Option<u64>,
    /// Compute graph when part is offloaded.
    pub graph_partial_bytes: Option<u64>,
    /// Projector of a vision model, weights and graph.
    pub projector_bytes: Option<u64>,
    /// The line.
    pub line: LineId,
}

/// `offloaded N/M layers to GPU`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Layers on a GPU, the output counted as one.
    pub offloaded: u64,
    /// All layers, the output counted as one.
    pub total: u64,
    /// The line.
    pub line: LineId,
}

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BufferKind {
    /// Weights.
    Model,
    /// Keys and values.
    Kv,
    /// Intermediate results of the graph.
    Compute,
    /// Logits.
    Output,
    /// State of recurrent layers.
    Recurrent,
    /// LoRA or control vectors.
    Adapter,
    /// The graph of a vision model's projector.
    Projector,
}

/// One buffer on one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// What it holds.
    pub kind: BufferKind,
    /// ggml's name of the device or buffer type: `CUDA0`, `CUDA_Host`, `CPU`, `CPU_Mapped`.
    pub device: String,
    /// Its size.
    pub bytes: u64,
    /// The line.
    pub line: LineId,
}

impl Buffer {
    /// Whether it is memory of the host (`CPU`, `CPU_Mapped`, pinned `CUDA_Host`, `BLAS`).
    pub fn is_host(&self) -> bool {
        let name = self.device.as_str();
        name.starts_with("CPU")
            || name.ends_with("_Host")
            || name.starts_with("BLAS")
            || name.starts_with("AMX")
            || name == "Host"
    }
}

/// The KV cache as the loader sums it up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KvCache {
    /// All of it, over all devices and caches.
    pub bytes: Option<u64>,
    /// Cells.
    pub cells: Option<u64>,
    /// Of `bytes`, those of layers with a sliding window, and the cells of their cache, where it is
    /// smaller than that of the other layers: it does not grow with the context.
    pub window_bytes_cells: Option<(u64, u64)>,
    /// Layers that have one.
    pub layers: Option<u64>,
    /// Streams.
    pub sequences: Option<u64>,
    /// Type of the keys, `f16`.
    pub type_k: Option<String>,
    /// Type of the values.
    pub type_v: Option<String>,
    /// The line.
    pub line: LineId,
}

/// What became of flash attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashAttention {
    /// It is used.
    On,
    /// It is not.
    Off,
    /// Decided by the engine when it sees the graph.
    Auto,
}

/// The compute graph as the loader sums it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Nodes for a prompt.
    pub nodes_prompt: Option<u64>,
    /// Nodes for one token; absent when only one figure was printed.
    pub nodes_decode: Option<u64>,
    /// Splits for a prompt.
    pub splits_prompt: Option<u64>,
    /// Splits for one token; absent when only one figure was printed.
    pub splits_decode: Option<u64>,
    /// Batch size of the prompt graph.
    pub batch: Option<u64>,
    /// Copies for pipeline parallelism.
    pub copies: Option<u64>,
    /// The line of the splits.
    pub line: LineId,
}

/// What a load is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The model that answers.
    #[default]
    Main,
    /// A smaller one that drafts tokens for it.
    Draft,
}

/// How a load ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LoadOutcome {
    /// The log does not tell.
    #[default]
    Unknown,
    /// It answers; with the time that loading took, where told.
    Ready(Seen<Option<u64>>),
    /// It failed; with the message.
    Failed(Seen<String>),
    /// It was unloaded or evicted later.
    Unloaded(LineId),
}

/// One load of a model, from the decision to the runner's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Its number among all loads of the log, from 0.
    pub index: usize,
    /// What it is for.
    pub role: Role,
    /// The first line.
    pub line: LineId,
    /// The last line that belongs to it.
    pub line_last: LineId,
    /// When it began, nanoseconds since the epoch, where told.
    pub at_ns: Option<i64>,
    /// The model.
    pub model: Model,
    /// What was asked.
    pub requested: Requested,
    /// Memory of the host when it began, where told.
    pub host: Option<HostMemory>,
    /// What the GPUs had free when it began, where told.
    pub gpu_free: Vec<GpuFree>,
    /// The server's last estimate.
    pub estimate: Option<Estimate>,
    /// llama.cpp's fitting.
    pub fit: Option<Fit>,
    /// How many estimates or layouts were tried.
    pub attempts: u64,
    /// Layers on GPUs.
    pub layers: Option<Layers>,
    /// Whether the output layer is on a GPU, where told.
    pub output_on_gpu: Option<Seen<bool>>,
    /// Layers by device, from `layer N assigned to device D` or a layout.
    pub layers_by_device: Vec<(String, u64)>,
    /// Buffers, in order; several of a kind on one device (two caches) are all here.
    pub buffers: Vec<Buffer>,
    /// The KV cache.
    pub kv: Option<KvCache>,
    /// Context over all sequences.
    pub n_ctx: Option<Seen<u64>>,
    /// Context of each sequence.
    pub n_ctx_seq: Option<Seen<u64>>,
    /// Sequences.
    pub n_seq_max: Option<Seen<u64>>,
    /// Batch.
    pub n_batch: Option<Seen<u64>>,
    /// Ubatch.
    pub n_ubatch: Option<Seen<u64>>,
    /// Threads that compute.
    pub n_threads: Option<Seen<u64>>,
    /// Flash attention.
    pub flash_attention: Option<Seen<FlashAttention>>,
    /// The graph.
    pub graph: Option<Graph>,
    /// Nodes of the scheduler's dump by device and operation, where the log has one:
    /// `(device, operation, nodes)`.
    pub nodes_by_device: Vec<(String, String, u64)>,
    /// Where the memory went, by the table that llama.cpp prints when it ends.
    pub breakdown: Vec<BreakdownRow>,
    /// Planned memory on GPUs and in total, as `ollama ps` would show it.
    pub size_vram_and_total: Option<Seen<(u64, u64)>>,
    /// The line in which the server chose one GPU for all of it.
    pub single_gpu: Option<LineId>,
    /// Inference library that the server chose for it: `cpu`, `cuda`.
    pub inference_library: Option<Seen<String>>,
    /// How long it took, where told; kept when it was unloaded later.
    pub load_ns: Option<Seen<u64>>,
    /// How it ended.
    pub outcome: LoadOutcome,
}

impl Load {
    /// Bytes of one kind on devices for which `on` holds.
    pub fn buffer_bytes(&self, kind: BufferKind, on: impl Fn(&Buffer) -> bool) -> u64 {
        self.buffers.iter().filter(|b| b.kind == kind && on(b)).map(|b| b.bytes).sum()
    }
}
