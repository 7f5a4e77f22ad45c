//! The document `gpuwhy.report/1`. Its JSON Schema is `docs/schemas/report-1.json`, made from these
//! types; times are nanoseconds and sizes bytes unless a name says otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::event::SyncKind;

/// The `schema` of a report.
pub const REPORT_SCHEMA: &str = "gpuwhy.report/1";

/// What was observed, what follows from it, and the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Always `gpuwhy.report/1`.
    pub schema: String,
    /// Where the observation came from.
    pub source: Source,
    /// Whether something is wrong.
    pub verdict: Verdict,
    /// What is wrong, or looks wrong but is not; the first is the primary cause.
    pub findings: Vec<Finding>,
    /// What makes the figures worse, or doubtful: too many threads, other load.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the model, the devices and the settings were.
    pub facts: Facts,
    /// Each split of each way the graph was cut, decode first.
    pub splits: Vec<SplitReport>,
    /// What the host reads from other devices after the last split: logits, or the tokens that were
    /// chosen from them on the device.
    #[serde(default)]
    pub reads: Vec<ReadReport>,
    /// How long everything took.
    pub timings: Timings,
    /// The generated texts.
    pub output: Vec<Output>,
}

/// Where an observation came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// How it was made.
    pub kind: SourceKind,
    /// `ollama`, `llama.cpp`, `vllm` or `gpuwhy`.
    pub engine: String,
    /// The engine's version.
    pub engine_version: String,
    /// Which form of log was read; absent for a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
}

/// How an observation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// From a log file.
    Log,
    /// By running a model here.
    Run,
    /// By watching a running engine.
    Attach,
    /// By looking at the machine.
    Doctor,
    /// From a recorded session.
    Replay,
}

/// Whether something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// At least one finding is a problem.
    Problem,
    /// It was checked, and nothing is wrong.
    Benign,
    /// Nobody checked, or the evidence does not tell.
    Unknown,
}

/// What a rule concludes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The rule's id, like `context-kv-too-large`.
    pub rule: String,
    /// Whether it is a problem or only looks like one.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// From 0 to 1.
    pub confidence: f64,
    /// One line.
    pub title: String,
    /// What happens and why.
    pub explanation: String,
    /// What it is concluded from.
    pub evidence: Vec<Evidence>,
    /// What would change it.
    pub fixes: Vec<Fix>,
    /// The finding that this one follows from, by its rule; absent for a cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows_from: Option<String>,
}

/// Whether a finding is a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    /// It is.
    Problem,
    /// It only looks like one.
    Benign,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work.
    Error,
    /// It works badly.
    Warning,
    /// Good to know.
    Info,
}

/// What a finding is concluded from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// `log`, `sample` or `span`.
    pub source: String,
    /// The line of the log, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The line, or the measurement in words.
    pub text: String,
}

/// A concrete change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fix {
    /// `env`, `flag`, `option`, `modelfile` or `system`.
    pub target: String,
    /// What to set.
    pub name: String,
    /// To what.
    pub value: String,
    /// Why that helps.
    pub reason: String,
    /// What should change.
    pub expected: String,
    /// The same change as it is written in the places where people make it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forms: Vec<FixForm>,
}

/// A change as it is written in one place: a systemd override, a line for PowerShell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FixForm {
    /// Where: `systemd`, `docker compose`.
    pub label: String,
    /// What to type or paste there.
    pub text: String,
}

/// What the model, the devices and the settings were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
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
    /// What stopped one more layer from being offloaded; absent when nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
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

/// What a ubatch carries.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// One token of each running sequence.
    Decode,
    /// Tokens of a prompt.
    Prompt,
}

/// One split of one way the graph was cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplitReport {
    /// What its ubatches carried.
    pub phase: Phase,
    /// Which way of cutting, from 0; ways differ in devices, nodes or copies.
    pub cut: u32,
    /// Its place in the order of execution.
    pub index: u32,
    /// The device that runs it.
    pub device: String,
    /// True when that device is a virtual one.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// How many nodes it has.
    pub nodes: u64,
    /// First and last node.
    pub range: [String; 2],
    /// Why the graph was cut here.
    pub cause: String,
    /// How many nodes of each operation, the most frequent first.
    pub ops: Vec<OpCount>,
    /// Bytes of weights that its nodes read.
    pub weight_bytes: u64,
    /// Tensors that are copied to the device first.
    pub inputs: Vec<InputReport>,
    /// How often it ran.
    pub count: u64,
    /// Waiting before it could start, over all runs.
    pub wait_ns: u64,
    /// Copying its inputs, over all runs.
    pub copy_ns: u64,
    /// Bytes of its inputs, over all runs.
    pub copy_bytes: u64,
    /// Computing, over all runs.
    pub compute_ns: u64,
    /// The same for one token.
    pub per_token: PerToken,
    /// What ended its waits, with how often.
    pub sync: Vec<SyncCount>,
    /// Every node.
    pub node_list: Vec<NodeReport>,
}

/// A split's times for one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PerToken {
    /// Waiting.
    pub wait_ns: f64,
    /// Copying.
    pub copy_ns: f64,
    /// Bytes copied.
    pub copy_bytes: f64,
    /// Computing.
    pub compute_ns: f64,
}

/// How many nodes have an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpCount {
    /// ggml's name.
    pub op: String,
    /// How many.
    pub count: u64,
}

/// A tensor that a split needs from another device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InputReport {
    /// Its name.
    pub tensor: String,
    /// The device that has it.
    pub from: String,
    /// Bytes of one copy, on average.
    pub bytes: u64,
    /// Why it must travel.
    pub cause: String,
    /// How often it was copied.
    pub copies: u64,
    /// How many of these made the host wait.
    pub blocking: u64,
    /// Time of all copies.
    pub copy_ns: u64,
}

/// A result that the host reads from a device after the last split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReadReport {
    /// What its ubatches carried.
    pub phase: Phase,
    /// Which way of cutting, as in `splits`.
    pub cut: u32,
    /// Its name.
    pub tensor: String,
    /// The device that has it.
    pub from: String,
    /// How often it was read.
    pub copies: u64,
    /// Bytes of all reads.
    pub copy_bytes: u64,
    /// Time of all reads.
    pub copy_ns: u64,
    /// Bytes for one token of the phase.
    pub copy_bytes_per_token: f64,
}

/// How often something ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncCount {
    /// What.
    pub sync: SyncKind,
    /// How often.
    pub count: u64,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReport {
    /// Name of the result.
    pub name: String,
    /// ggml's name of the operation.
    pub op: String,
    /// ggml's tag of the placement: `1.wgt0`, `2.sup`.
    pub tag: String,
    /// Why it sits on its device.
    pub cause: String,
    /// Computing, over all runs; only with `--per-node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_ns: Option<u64>,
}

/// How long everything took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// Loading.
    pub load: LoadTimings,
    /// Text to tokens.
    pub tokenise_ns: u64,
    /// Prompts.
    pub prompt: PhaseTimings,
    /// Generation.
    pub decode: PhaseTimings,
    /// From a request's first ubatch to its first token, the median over requests.
    pub first_token_ns: f64,
    /// From opening the file to the first token of all, in its parts.
    #[serde(default)]
    pub first_token: FirstTokenTimings,
    /// From one token to the next of the same request, the median.
    pub inter_token_median_ns: f64,
    /// The same, the 99th percentile.
    pub inter_token_p99_ns: f64,
    /// True when nodes were timed one by one, which costs a barrier for each.
    pub per_node: bool,
}

/// The way to the first token, from opening the file on. The parts add up to `total_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirstTokenTimings {
    /// Opening the file, reading and checking its header. A model with random weights that is not
    /// cached yet is made here.
    pub open_ns: u64,
    /// Building the tokenizer.
    pub tokenizer_ns: u64,
    /// Putting weights in place: mapped for the CPU, copied for other devices.
    pub weights_ns: u64,
    /// Allocating the KV cache and the compute buffers.
    pub reserve_ns: u64,
    /// Compiling kernels for these very devices.
    #[serde(default)]
    pub kernels_ns: u64,
    /// The prompts to tokens.
    pub tokenise_ns: u64,
    /// Building and placing graphs.
    pub graph_ns: u64,
    /// Computing the ubatches up to the first token. Weights that are not in memory yet are waited
    /// for here.
    pub prompt_ns: u64,
    /// Choosing the token from its logits.
    pub sample_ns: u64,
    /// Between the others.
    pub unaccounted_ns: u64,
    /// Everything together; 0 when no token came.
    pub total_ns: u64,
    /// Everything but `prompt_ns`.
    pub beyond_prompt_ns: u64,
}

/// Loading, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadTimings {
    /// Opening the file, reading and checking its header.
    pub header_ns: u64,
    /// Building the tokenizer.
    pub tokenizer_ns: u64,
    /// Putting weights into the devices' buffers.
    pub weights_ns: u64,
    /// Bytes of these weights.
    pub weight_bytes: u64,
    /// Allocating the KV cache and the compute buffers.
    pub reserve_ns: u64,
    /// Compiling kernels for these very devices, which drivers do once and then remember.
    #[serde(default)]
    pub kernels_ns: u64,
    /// Everything together, but for what goes on in the background.
    pub total_ns: u64,
    /// Reading mapped weights into memory in the background; 0 while that goes on, or where nothing
    /// is read ahead.
    #[serde(default)]
    pub read_ahead_ns: u64,
    /// Bytes that were in memory at its end.
    #[serde(default)]
    pub read_ahead_bytes: u64,
}

/// Where the time of one phase went. The parts add up to `total_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTimings {
    /// Tokens computed.
    pub tokens: u64,
    /// Ubatches.
    pub ubatches: u64,
    /// Tokens of the ubatches over what would have fitted.
    pub occupancy: f64,
    /// Sequences in a ubatch, on average.
    pub sequences: f64,
    /// Wall time: from the start of each ubatch, or of building its graph, to the start of the next.
    pub total_ns: u64,
    /// Tokens per second of `total_ns`.
    pub tokens_per_s: f64,
    /// The parts of `total_ns`.
    pub parts: PhaseParts,
    /// `total_ns` for one token.
    pub token_ns: f64,
    /// The parts for one token.
    pub per_token: PhasePartsPerToken,
    /// The share of `total_ns` that the parts but `unaccounted_ns` cover, from 0 to 1.
    pub accounted_share: f64,
}

/// The parts of a phase's time, over all its ubatches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseParts {
    /// Building, cutting and allocating graphs that were not cached.
    pub graph_ns: u64,
    /// Writing the graph's inputs.
    pub inputs_ns: u64,
    /// Splits waiting.
    pub wait_ns: u64,
    /// Copies between devices.
    pub copy_ns: u64,
    /// Splits computing.
    pub compute_ns: u64,
    /// Reading the logits.
    pub logits_ns: u64,
    /// Choosing tokens.
    pub sampling_ns: u64,
    /// Tokens to text.
    pub detokenise_ns: u64,
    /// What no span covers: batching, printing, waiting for the terminal.
    pub unaccounted_ns: u64,
}

/// The parts of a phase's time for one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhasePartsPerToken {
    /// See [`PhaseParts::graph_ns`].
    pub graph_ns: f64,
    /// See [`PhaseParts::inputs_ns`].
    pub inputs_ns: f64,
    /// Waiting, copying and computing of all splits.
    pub splits_ns: f64,
    /// See [`PhaseParts::logits_ns`].
    pub logits_ns: f64,
    /// See [`PhaseParts::sampling_ns`].
    pub sampling_ns: f64,
    /// See [`PhaseParts::detokenise_ns`].
    pub detokenise_ns: f64,
    /// See [`PhaseParts::unaccounted_ns`].
    pub unaccounted_ns: f64,
}

/// One generated text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The request's number, from 0.
    pub id: u64,
    /// The text.
    pub text: String,
    /// Tokens of the prompt.
    pub tokens_prompt: u64,
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Why it ended.
    pub finish: Finish,
    /// From the request's first ubatch to its first token.
    pub first_token_ns: u64,
    /// From the request's first ubatch to its end.
    pub total_ns: u64,
}

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model said that it is done.
    EndOfGeneration,
    /// It has as many tokens as were asked for.
    Length,
    /// Its share of the context is full.
    ContextFull,
    /// Somebody asked to stop.
    Cancelled,
}
