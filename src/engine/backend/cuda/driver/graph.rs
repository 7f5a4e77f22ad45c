//! Launches that the driver holds ready as one piece of work.

use std::sync::Arc;

use cudarc::driver::sys;

use super::{Context, CudaError, call};

/// A captured graph, ready to run. It holds addresses, not memory: whoever runs it keeps that alive.
pub(in crate::engine::backend::cuda) struct Graph {
    context: Arc<Context>,
    raw: sys::CUgraphExec,
}

// SAFETY: see `Stream`.
unsafe impl Send for Graph {}

impl Graph {
    /// Prepares what a capture collected, and destroys the collection.
    pub(super) fn instantiate(
        context: &Arc<Context>,
        graph: sys::CUgraph,
    ) -> Result<Self, CudaError> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the graph was just captured and is destroyed once; the call writes the handle.
        let made = unsafe {
            let made = call!(cuGraphInstantiateWithFlags(&raw mut raw, graph, 0));
            sys::cuGraphDestroy(graph);
            made
        };
        made.map(|()| Self { context: Arc::clone(context), raw })
    }

    pub(super) fn raw(&self) -> sys::CUgraphExec {
        self.raw
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made once and destroyed once; the driver lets a run under way end first.
            unsafe { sys::cuGraphExecDestroy(self.raw) };
        }
    }
}
