//! The events that every observer of an engine emits and every reader understands.
//!
//! An event says what happened and when, on [`super::clock`]'s time. It carries no conclusions:
//! readers draw them. Invariant: a span ends no earlier than it starts, and the spans of a split
//! (wait, copies, compute) lie inside the span of its ubatch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::counter::{Counter, Source, Subject};
use super::setup::SetupFact;

/// Index of a device in the order of the scheduler's priority; the CPU is the last one.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub struct DeviceIndex(pub u8);

/// Anything that happened, whatever its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A device that takes part, told once before its first span.
    Device(DeviceFact),
    /// A way to cut a graph came into use, told before the first ubatch that runs by it.
    Plan(Arc<PlanFact>),
    /// A timed interval.
    Span(Span),
    /// Something that makes this session's figures worse, or doubtful.
    Warning(Warning),
    /// What a subject of samples is, told once before its first one.
    Subject(Arc<SubjectFact>),
    /// A counter was read.
    Sample(Sample),
    /// A counter, or a whole source of them, tells nothing.
    Absent(Absent),
    /// How the engine has set up its model, told before the first ubatch, and again when that changes.
    Setup(#[serde(with = "as_json")] Arc<SetupFact>),
    /// What a foreign server is, told when it is found and whenever any of it changes.
    Server(Arc<ServerFact>),
    /// A line of a log that is followed.
    Line(Line),
    /// A request came one step further.
    Request(RequestStep),
}

/// What names its fields may grow without a new version of recordings.
mod as_json {
    use std::sync::Arc;

    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        serde_json::to_string(value.as_ref()).map_err(S::Error::custom)?.serialize(to)
    }

    pub(super) fn deserialize<'de, T: for<'a> Deserialize<'a>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        let text = String::deserialize(from)?;
        serde_json::from_str(&text).map(Arc::new).map_err(D::Error::custom)
    }
}

impl Event {
    /// When it happened, on the session's clock: of a span its end, at which it is told. What stands
    /// for the whole session has no time.
    pub fn at_ns(&self) -> Option<u64> {
        match self {
            Self::Span(span) => Some(span.end_ns),
            Self::Warning(warning) => Some(warning.at_ns),
            Self::Sample(sample) => Some(sample.at_ns),
            Self::Absent(absent) => Some(absent.at_ns),
            Self::Server(server) => Some(server.at_ns),
            Self::Line(line) => Some(line.at_ns),
            Self::Request(step) => Some(step.at_ns),
            Self::Device(_) | Self::Plan(_) | Self::Subject(_) | Self::Setup(_) => None,
        }
    }
}

/// A line of a log that is followed, without its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it was read, on the session's clock.
    pub at_ns: u64,
    /// What it says.
    pub text: String,
}

/// A foreign server, as it and the system tell of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFact {
    /// When it was found to be so, on the session's clock.
    pub at_ns: u64,
    /// `ollama`, `llama.cpp`, `vllm`; `openai` for another one that speaks OpenAI's interface.
    pub engine: String,
    /// Its version, empty where it does not tell.
    pub engine_version: String,
    /// Where it answers.
    pub url: String,
    /// Whether it does.
    pub state: ServerState,
    /// Its process; `None` for one on another machine, or where the system does not tell.
    pub pid: Option<u32>,
    /// The processes that compute for it, its own where it does that itself.
    pub working_pids: Vec<u32>,
    /// Requests that it works on at once.
    pub slots: Option<u64>,
    /// The models that it has loaded.
    pub models: Vec<ServedModel>,
    /// More of it, as name and value: what its command line says, where its log is.
    pub details: Vec<(String, String)>,
}

/// Whether a server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// It does.
    #[default]
    Up,
    /// It says that it is not ready yet.
    Loading,
    /// It does not, or is gone.
    Down,
}

/// A model that a server has loaded. What it does not tell is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedModel {
    /// Its name there.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Like `Q4_K_M`.
    pub quantization: String,
    /// Like `qwen2`.
    pub architecture: String,
    /// Weights as numbers.
    pub parameters: Option<u64>,
    /// Its layers, the output not counted.
    pub layers: Option<u64>,
    /// Bytes that it takes everywhere together.
    pub bytes: Option<u64>,
    /// Of these, the ones on GPUs.
    pub vram_bytes: Option<u64>,
    /// Tokens of context of one slot.
    pub context_tokens: Option<u64>,
    /// The context that it was trained with.
    pub context_trained: Option<u64>,
}

/// A request came one step further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStep {
    /// When, on the session's clock.
    pub at_ns: u64,
    /// Its number.
    pub request: u64,
    /// Which step.
    pub step: Step,
}

/// The steps of a request, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// It waits for a sequence.
    Queued {
        /// Tokens of its prompt.
        prompt_tokens: u32,
    },
    /// It has a sequence, and its first ubatch can begin.
    Started {
        /// The sequence, or slot.
        slot: u16,
    },
    /// A token was chosen.
    Token,
    /// Text is certain: of one token, of several, or of a part of one.
    Text(String),
    /// It has ended.
    Ended {
        /// Why.
        finish: Finish,
        /// Tokens of its answer.
        generated_tokens: u32,
    },
}

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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

/// What a ubatch carries.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// One token of each running sequence.
    Decode,
    /// Tokens of a prompt.
    Prompt,
}

/// One reading of a counter at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was read, on the session's clock.
    pub at_ns: u64,
    /// Of what.
    pub subject: Subject,
    /// Which counter.
    pub counter: Counter,
    /// Its value, in the counter's unit.
    pub value: f64,
}

/// What a subject of samples is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectFact {
    /// Which one.
    pub subject: Subject,
    /// What a person calls it: a GPU's product name, a thread's or a process's name.
    pub name: String,
    /// More of it, as name and value: `uuid`, `pci_bus_id`, `command`.
    #[serde(default)]
    pub details: Vec<(String, String)>,
}

/// Why a counter tells nothing. It is told once when it is noticed, never as a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// When it was noticed, on the session's clock.
    pub at_ns: u64,
    /// The source.
    pub source: Source,
    /// Of what; `None` when all of the source is meant.
    pub subject: Option<Subject>,
    /// Which counter; `None` when all of the subject's are meant.
    pub counter: Option<Counter>,
    /// Why, for programs.
    pub reason: AbsentReason,
    /// Why, in words.
    pub text: String,
    /// What a person can do about it; empty when nothing can be done.
    pub hint: String,
}

/// Why a counter tells nothing, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbsentReason {
    /// This system, driver or device has no such counter.
    NotSupported,
    /// It has, but this user may not read it.
    NoPermission,
    /// A library that would tell is not installed, or not in this container.
    LibraryMissing,
    /// The library is there, but the driver is not loaded, or not reachable from this container.
    DriverNotLoaded,
    /// Library and driver are of different versions.
    VersionMismatch,
    /// The device was there and is lost.
    DeviceLost,
    /// There is no device.
    NoDevice,
    /// The process has ended.
    Ended,
    /// It could not be read, or what was read made no sense.
    Unreadable,
}

/// What a person should know when reading the figures of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// When it was noticed, on the session's clock.
    pub at_ns: u64,
    /// What is wrong and what it means, in words.
    pub text: String,
}

/// A device as the session sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceFact {
    /// Its index in all other events.
    pub index: DeviceIndex,
    /// As ggml names it: `CPU`, `CUDA0`.
    pub name: String,
    /// What it is, in words.
    pub description: String,
    /// True for a device that only models another one's memory and link.
    pub is_virtual: bool,
    /// All of its memory, 0 where unknown.
    pub memory_bytes_total: u64,
    /// Its free memory when the session began.
    pub memory_bytes_free: u64,
}

/// How a graph was cut into splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanFact {
    /// Number of the plan in this session.
    pub id: u32,
    /// Tokens of the ubatches that run by it.
    pub n_tokens: u32,
    /// Nodes of the graph.
    pub n_nodes: u32,
    /// The splits in execution order.
    pub splits: Vec<SplitFact>,
    /// What the host reads after the last split from other devices than the CPU.
    #[serde(default)]
    pub outputs: Vec<OutputFact>,
}

/// A result that the host reads from a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFact {
    /// Its name.
    pub tensor: String,
    /// The device that has it.
    pub from: DeviceIndex,
}

/// One split of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitFact {
    /// The device that runs it.
    pub device: DeviceIndex,
    /// Its nodes, in execution order.
    pub nodes: Vec<NodeFact>,
    /// Why the graph was cut here, in words.
    pub cause: String,
    /// Tensors that are copied to the device first.
    pub inputs: Vec<InputFact>,
}

/// One node of a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeFact {
    /// Name of the result: `Qcur-12`.
    pub name: String,
    /// ggml's name of the operation.
    pub op: String,
    /// ggml's tag of the placement: `1.wgt0`, `2.sup`.
    pub tag: String,
    /// Why the node sits on its device, in words.
    pub cause: String,
    /// Extents of the result.
    pub ne: [usize; 4],
    /// Bytes of the weights that the node reads.
    pub weight_bytes: u64,
}

/// One tensor that a split needs from another device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputFact {
    /// Its name.
    pub tensor: String,
    /// The device that has it.
    pub from: DeviceIndex,
    /// Bytes that travel.
    pub bytes: u64,
    /// Why it must travel, in words.
    pub cause: String,
}

/// A timed interval on one track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Who was busy, or waiting.
    pub track: Track,
    /// With what.
    pub kind: SpanKind,
    /// Start on the session's clock.
    pub start_ns: u64,
    /// End on the session's clock.
    pub end_ns: u64,
    /// Bytes moved or read, 0 where that has no meaning.
    pub bytes: u64,
    /// Tokens concerned, 0 where that has no meaning.
    pub tokens: u32,
}

impl Span {
    /// How long it took.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// Who a span belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Track {
    /// The thread that drives generation.
    Host,
    /// A device.
    Device(DeviceIndex),
    /// A thread that does what nothing waits for.
    Background,
}

/// Which kind of synchronisation ended a split's wait.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SyncKind {
    /// Nothing to wait for: the device runs in step with the host.
    None,
    /// The host blocked until a graph input was free to be overwritten.
    UserInput,
    /// The device waited for another device's event.
    Event,
    /// The host blocked to read which experts were chosen.
    MoeIds,
    /// The copy could not be asynchronous: both devices were drained around it.
    BlockingCopy,
}

/// What a span is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SpanKind {
    /// Reading the file's header and tokenizer, placing and loading weights.
    Load {
        /// Which part of loading.
        stage: LoadStage,
    },
    /// Text to tokens.
    Tokenise,
    /// Building, cutting and allocating a graph that was not cached.
    GraphBuild,
    /// One ubatch, from writing its inputs to having its logits, or what is wanted of them.
    Ubatch {
        /// Number of the ubatch in this session.
        ubatch: u64,
        /// The plan that it ran by.
        plan: u32,
        /// Tokens that would have fitted.
        capacity: u32,
        /// Sequences that take part.
        sequences: u32,
        /// True when it carries prompt tokens.
        prompt: bool,
    },
    /// Waiting before a split could start.
    Wait {
        /// The ubatch.
        ubatch: u64,
        /// The split in its plan.
        split: u16,
        /// What ended the wait.
        sync: SyncKind,
    },
    /// One tensor moved between devices.
    Copy {
        /// The ubatch.
        ubatch: u64,
        /// The split that needs it.
        split: u16,
        /// Index into the split's inputs.
        input: u16,
        /// Where it was.
        from: DeviceIndex,
        /// Where it went.
        to: DeviceIndex,
        /// True when the host waited for it.
        blocking: bool,
    },
    /// A result read by the host, which waits for it, after the last split.
    Output {
        /// The ubatch.
        ubatch: u64,
        /// Index into the plan's outputs.
        output: u16,
        /// Where it was.
        from: DeviceIndex,
    },
    /// The nodes of one split.
    Compute {
        /// The ubatch.
        ubatch: u64,
        /// The split in its plan.
        split: u16,
    },
    /// One node, in the mode that times nodes one by one.
    Node {
        /// The ubatch.
        ubatch: u64,
        /// The split in its plan.
        split: u16,
        /// The node in its split.
        node: u16,
    },
    /// Choosing the next token from its logits.
    Sampling,
    /// Token to text.
    Detokenise,
}

/// The parts of loading a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LoadStage {
    /// Reading and checking the file's header.
    Header,
    /// Building the tokenizer.
    Tokenizer,
    /// Putting weights into the devices' buffers.
    Weights,
    /// Allocating the KV cache and the compute buffers.
    Reserve,
    /// Compiling kernels for the very devices, which their drivers do once and then remember.
    Kernels,
    /// Reading mapped weights into memory in the background, beside everything else.
    ReadAhead,
}
