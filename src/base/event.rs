//! The events that every observer of an engine emits and every reader understands.
//!
//! An event says what happened and when, on [`super::clock`]'s time. It carries no conclusions:
//! readers draw them. Invariant: a span ends no earlier than it starts, and the spans of a split
//! (wait, copies, compute) lie inside the span of its ubatch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::counter::{Counter, Source, Subject};

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
            Self::Device(_) | Self::Plan(_) | Self::Subject(_) => None,
        }
    }
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
