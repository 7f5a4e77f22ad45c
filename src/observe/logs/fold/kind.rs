//! What a pattern can ask of the fold: the closed list behind `kind` in `profiles/engines/*.toml`.

use serde::Deserialize;

/// What the fold does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A known line without meaning.
    Ignore,
    /// A fact by itself, kept under its pattern's `notice` for the rules that ask.
    Notice,
    /// An access line of Ollama: path, status, duration.
    Access,
    /// An access line of llama-server or vLLM: path and status.
    AccessServer,
    /// A backend library was loaded, with its file.
    BackendLoaded,
    /// A backend was registered, with its number of devices.
    BackendRegistered,
    /// A row of the memory table: a device.
    BreakdownDevice,
    /// A row of the memory table: memory of the host.
    BreakdownHost,
    /// A buffer of a LoRA adapter.
    BufferAdapter,
    /// A compute buffer.
    BufferCompute,
    /// The compute buffer before devices were told apart.
    #[serde(rename = "buffer-compute-2023")]
    BufferCompute2023,
    /// A buffer of the KV cache.
    BufferKv,
    /// A buffer of weights.
    BufferModel,
    /// A buffer of logits.
    BufferOutput,
    /// A compute buffer of a vision model's projector.
    BufferProjector,
    /// A buffer of recurrent state.
    BufferRecurrent,
    /// The build number of llama.cpp.
    Build,
    /// A command-line program of llama.cpp began.
    CliStart,
    /// A parameter of the context, `n_ctx = 4096`.
    ContextParameter,
    /// The context was full and was shifted.
    ContextShift,
    /// A context is being made.
    ContextStart,
    /// Ollama's list of devices, `inference compute`.
    DeviceCompute,
    /// llama.cpp's list of devices, with their memory.
    DeviceListed,
    /// A GPU of Metal.
    DeviceMetal,
    /// A GPU of CUDA or ROCm by its number.
    DeviceNumber,
    /// A GPU of SYCL.
    DeviceSycl,
    /// A device that a model is about to use, with its free memory.
    DeviceUsing,
    /// A GPU of Vulkan.
    DeviceVulkan,
    /// How many devices a library found; those that follow belong to it.
    DevicesFound,
    /// A node in the scheduler's dump.
    DumpNode,
    /// A split in the scheduler's dump.
    DumpSplit,
    /// Ollama's estimate of 2023: free memory and layers.
    EarlyEstimate,
    /// A figure of Ollama's estimate of early 2024.
    EarlyRequired,
    /// What Ollama's engine says of the model.
    EngineModel,
    /// Ollama's estimate of what fits, `msg=offload`.
    Estimate,
    /// The fitting reduced the context.
    FitContext,
    /// The fitting left the context alone.
    FitContextFixed,
    /// The fitting misses its target.
    FitDeficit,
    /// What the fitting gave to a device.
    FitDevice,
    /// The fitting loads the model without allocating.
    FitMeasuring,
    /// What the model would take, and what is free.
    FitProjected,
    /// The fitting begins.
    FitStart,
    /// Whether flash attention is used, when the engine decided.
    FlashAttention,
    /// What a GPU has free as a load begins.
    GpuMemory,
    /// Our own version.
    GpuwhyVersion,
    /// Nodes of the graph.
    GraphNodes,
    /// Splits of the graph.
    GraphSplits,
    /// Nodes and splits in one line.
    GraphSummary,
    /// Nodes and splits as Ollama's engine counts them.
    GraphTotal,
    /// How often a graph was used again.
    GraphsReused,
    /// Memory of the host.
    HostMemory,
    /// Cells and types of a KV cache.
    KvInit,
    /// The KV cache summed up.
    KvSize,
    /// A layer and its device.
    LayerAssigned,
    /// `offloaded N/M layers to GPU`.
    LayersOffloaded,
    /// A layout did not fit and a smaller one is tried.
    LayoutRetry,
    /// Runner variants that Ollama has.
    Libraries,
    /// The server listens, with its version where told.
    Listening,
    /// A runner is started, with its command line where told.
    LoadCommand,
    /// The scheduler decides about a load.
    LoadDecided,
    /// A load failed.
    LoadFailed,
    /// A load begins: layers of the model, layers asked for.
    LoadPlan,
    /// A load is done, with its time where told.
    LoadReady,
    /// What Ollama asks of its own engine, `load request=`.
    LoadRequest,
    /// Memory of the host that the model needs, in 2023.
    MemoryRequired,
    /// Allocations by layer, as Ollama's engine logs them when debugging.
    MemoryTree,
    /// A key and value of the model's header.
    Metadata,
    /// Whether a GPU of Metal shares the memory of the host.
    MetalUnified,
    /// How much a GPU of Metal may hold.
    MetalWorkingSet,
    /// The file that is loaded.
    ModelFile,
    /// A figure of the model.
    ModelInfo,
    /// A model that llama-server is about to load, perhaps a draft model.
    ModelName,
    /// What follows is a trial without memory.
    NoAlloc,
    /// Where the output layer goes.
    OutputLayer,
    /// Pipeline parallelism is on.
    PipelineParallel,
    /// A prompt was cut.
    PromptTruncated,
    /// Recurrent state summed up.
    RecurrentSize,
    /// Compute buffers are about to be reserved.
    ReserveStart,
    /// Compute buffers were reserved, with the number of copies.
    ReserveTook,
    /// A runner has started.
    RunnerStart,
    /// What a runner says of its CPU.
    RunnerSystem,
    /// Ollama's settings.
    ServerConfig,
    /// A server answers.
    ServerReady,
    /// Slots of llama-server.
    ServerSlots,
    /// A load is done, with the planned memory.
    SetupDone,
    /// Tokens of a prompt that were found in the cache.
    SlotCached,
    /// How many drafted tokens were accepted.
    SlotDraft,
    /// How far a prompt is.
    SlotProgress,
    /// A new prompt in a slot.
    SlotPrompt,
    /// A slot is done with its task.
    SlotReleased,
    /// A slot's context was shifted.
    SlotShift,
    /// A slot takes a task.
    SlotStarted,
    /// A slot's decode speed.
    SlotTimingDecode,
    /// The timings that follow are of this slot.
    SlotTimingHeader,
    /// A slot's prompt speed.
    SlotTimingPrompt,
    /// How often a slot's graph was used again.
    SlotTimingReused,
    /// A slot's total time.
    SlotTimingTotal,
    /// A slot's prompt was cut.
    SlotTruncated,
    /// Threads.
    SystemInfo,
    /// A tensor was put elsewhere by the user.
    TensorOverride,
    /// Tensors are about to be read.
    TensorsStart,
    /// Decode speed.
    TimingDecode,
    /// Prompt speed.
    TimingPrompt,
    /// Time of sampling.
    TimingSample,
    /// Total time.
    TimingTotal,
    /// A model was unloaded.
    Unloaded,
    /// vLLM's configuration.
    VllmEngine,
    /// vLLM's KV cache.
    VllmKvCache,
    /// vLLM's speed over the last interval.
    VllmThroughput,
    /// vLLM's version.
    VllmVersion,
    /// vLLM's weights.
    VllmWeights,
    /// The load before was of the vocabulary only.
    VocabOnly,
    /// Memory of the GPU, model and context, in 2023.
    VramTotal,
    /// Memory of the GPU, in 2023.
    VramUsed,
}
