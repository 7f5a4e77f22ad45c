//! Splits, the copies they need, and in which time each device stalled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::event::{Phase, SyncKind};

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

/// In which time a device computed, and what it waited for in the rest. The causes and `compute_ns`
/// add up to `total_ns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StallReport {
    /// What the ubatches carried.
    pub phase: Phase,
    /// The device.
    pub device: String,
    /// True when it is a virtual one.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// Time of the phase, as in `timings`.
    pub total_ns: u64,
    /// In which the device computed.
    pub compute_ns: u64,
    /// In which it did not.
    pub stall_ns: u64,
    /// `stall_ns` over `total_ns`.
    pub stall_share: f64,
    /// What it waited for, the longest first.
    pub on: Vec<StallCause>,
}

/// What a device waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StallCause {
    /// What kind of thing.
    pub on: StallKind,
    /// The device that computed, or that the data came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What was copied or read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// What ended the wait of its own split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncKind>,
    /// For how long.
    pub ns: u64,
    /// `ns` over the phase's time.
    pub share: f64,
}

impl StallCause {
    /// A cause of that kind without names and time.
    pub(in crate::app::report) fn of(on: StallKind) -> Self {
        Self { on, device: None, tensor: None, sync: None, ns: 0, share: 0.0 }
    }
}

/// The kinds of things that devices wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StallKind {
    /// A copy into the device.
    Copy,
    /// Another device: its computing, its copies and its waits.
    Device,
    /// A synchronisation before its own split, while nothing else was seen to run.
    Wait,
    /// The host reads a result.
    Read,
    /// The host does something else: graphs, inputs, choosing tokens, text, printing.
    Host,
}
