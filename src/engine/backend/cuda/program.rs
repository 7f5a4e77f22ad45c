//! Nodes made into launches, ready to be replayed.
//!
//! Invariant: every address in a program lies in memory that the program holds, and every launch was
//! planned from tensors that were checked against their buffers.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::driver::{CudaError, DeviceMemory, Function, Graph, Stream};
use super::launch::Launch;

/// How often a program runs launch by launch before it is captured: a shape that does not come back
/// is not worth the capture.
const RUNS_BEFORE_CAPTURE: u32 = 2;

/// From this many launches on a graph saves more than it costs.
const CAPTURE_LAUNCHES_MIN: usize = 4;

/// See the module.
pub(super) struct CudaProgram {
    /// What runs: launches that may do the work of several nodes.
    pub(super) joined: Vec<Step>,
    /// The same work with launches of one node each, for timing nodes.
    pub(super) launches: Vec<Step>,
    /// The launches of each node.
    pub(super) nodes: Vec<Range<usize>>,
    /// Keeps every address valid.
    pub(super) _memory: Vec<Arc<DeviceMemory>>,
    pub(super) replay: Mutex<Replay>,
}

/// A launch and its kernel.
pub(super) struct Step {
    pub(super) function: Function,
    pub(super) launch: Launch,
    /// Whether it may start while the launch before it still runs.
    pub(super) overlaps: bool,
}

/// How a program runs the next time.
pub(super) enum Replay {
    /// Launch by launch; it ran so often.
    Launches(u32),
    /// Launch by launch for good: the driver refused to capture, or it does not pay.
    Always,
    /// As one graph.
    Graph(Graph),
}

impl CudaProgram {
    /// Puts all launches into the stream.
    pub(super) fn run(&self, stream: &Stream, graphs: bool) -> Result<(), CudaError> {
        let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
        if let Replay::Launches(runs) = *replay {
            let enough = self.joined.len() >= CAPTURE_LAUNCHES_MIN;
            *replay = match runs {
                _ if !graphs || !enough => Replay::Always,
                0..RUNS_BEFORE_CAPTURE => Replay::Launches(runs + 1),
                // A driver that cannot capture still runs the launches one by one.
                _ => stream
                    .capture(|| start(stream, &self.joined))
                    .map_or(Replay::Always, Replay::Graph),
            };
        }
        match &*replay {
            // SAFETY: the launches that were captured hold only addresses of `_memory`.
            Replay::Graph(graph) => unsafe { stream.launch_graph(graph) },
            _ => start(stream, &self.joined),
        }
    }

    /// Puts the launches of one node into the stream.
    pub(super) fn run_node(&self, stream: &Stream, node: Range<usize>) -> Result<(), CudaError> {
        start(stream, &self.launches[node])
    }
}

fn start(stream: &Stream, steps: &[Step]) -> Result<(), CudaError> {
    for Step { function, launch, overlaps } in steps {
        // SAFETY: planned for this kernel from checked tensors; the program's memory keeps the
        // addresses valid, and the device waits for the stream before a program is dropped.
        unsafe { stream.launch(function, launch, *overlaps) }?;
    }
    Ok(())
}
