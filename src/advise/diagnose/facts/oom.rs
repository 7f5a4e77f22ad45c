//! An allocation of GPU memory that failed: what it was for, how large, and whether it was the end.

use crate::observe::logs::{Engine, LineId, LoadOutcome, Notice};

use super::memory::CTX_MODEST;
use super::{Facts, LoadFacts};

/// What the memory was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomPart {
    /// Weights.
    Weights,
    /// Keys and values.
    Kv,
    /// The compute graph.
    Compute,
    /// The log does not tell.
    Unknown,
}

impl OomPart {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Kv => "the KV cache",
            Self::Compute => "the compute buffer",
            Self::Unknown => "memory",
        }
    }
}

/// A failed allocation on a GPU.
#[derive(Clone, Debug)]
pub struct Oom<'a> {
    /// The line that says so.
    pub line: LineId,
    /// What it was for.
    pub part: OomPart,
    /// How much was asked for.
    pub bytes: Option<u64>,
    /// On which device, as ggml names it or by its number.
    pub device: Option<String>,
    /// The load that it belongs to, where the log has one.
    pub load: Option<LoadFacts<'a>>,
    /// Whether the load or the request ended with it. A server that lays out layers by trial goes on.
    pub fatal: bool,
    /// Whether it came when the model was loaded already.
    pub at_run_time: bool,
}

/// Notices of a failed allocation on a GPU, those that tell most first.
const NOTICES: &[&str] = &[
    "compute-alloc-failed",
    "gpu-alloc-failed",
    "tensor-alloc-failed",
    "kv-alloc-failed",
    "compute-buffers-failed",
    "gpu-memory-exhausted",
];

/// More than the memory of most GPUs.
const GRAPH_HUGE_BYTES: u64 = 24 << 30;

/// Whose fault a failed allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomCause {
    /// A number of layers was given, and their weights do not fit.
    Forced,
    /// A long context: its cache, or a compute buffer that grows with it.
    Context,
    /// A compute buffer that is large whatever the context.
    Graph,
    /// The plan.
    Plan,
}

impl Oom<'_> {
    /// Whose fault it is.
    pub fn cause(&self) -> OomCause {
        let load = self.load.filter(|_| !self.at_run_time);
        let Some(load) = load else { return self.cause_by_part() };
        let own = matches!(load.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
        let asked = load.load.requested.gpu_layers.is_none_or(|n| n.value > 0);
        if self.part == OomPart::Weights && own && asked {
            return OomCause::Forced;
        }
        let Some(ctx) = load.ctx() else { return self.cause_by_part() };
        let long = ctx / load.parallel() > 2 * CTX_MODEST;
        let grows = load.flash_attention() != Some(true);
        let weights = load.sizes().map(|s| s.weights_bytes);
        match self.part {
            OomPart::Kv if long || load.parallel() == 1 => OomCause::Context,
            OomPart::Compute if long && grows => OomCause::Context,
            // Half the weights' size is more than any graph of a modest context has.
            OomPart::Compute
                if self.bytes.zip(weights).is_some_and(|(bytes, w)| bytes >= w / 2) =>
            {
                OomCause::Graph
            }
            _ => OomCause::Plan,
        }
    }

    /// The cause when the log tells no more than what the memory was for: a cache follows from the
    /// context alone, and a compute buffer larger than most GPUs is no matter of a plan.
    fn cause_by_part(&self) -> OomCause {
        match (self.part, self.bytes) {
            (OomPart::Kv, _) if !self.at_run_time => OomCause::Context,
            (OomPart::Compute, Some(bytes)) if bytes >= GRAPH_HUGE_BYTES => OomCause::Graph,
            _ => OomCause::Plan,
        }
    }
}

impl<'a> Facts<'a> {
    /// The allocation that failed, if one did.
    pub fn gpu_oom(&self) -> Option<Oom<'a>> {
        let host = |n: &Notice| n.fields.get("device").is_some_and(|d| d.starts_with("CPU"));
        let notices = NOTICES.iter().filter_map(|id| self.notice(id)).filter(|n| !host(n));
        let Some(notice) = notices.clone().next() else { return self.oom_by_message() };
        let field = |name: &str| notices.clone().find_map(|n| n.fields.get(name)).cloned();
        let mib = field("mib").and_then(|m| m.parse::<f64>().ok()).map(|m| m * 1048576.0);
        let bytes = notices.clone().find_map(|n| n.number("bytes")).or(mib.map(|b| b as u64));
        let load = self.load_of(notice);
        let at_run_time = load.is_some_and(|l| match &l.load.outcome {
            LoadOutcome::Ready(at) => at.line < notice.first,
            _ => false,
        });
        Some(Oom {
            line: notice.first,
            part: self.oom_part(load.as_ref()),
            bytes,
            device: field("device"),
            load,
            fatal: self.oom_fatal(load.as_ref(), notice.last) || at_run_time,
            at_run_time,
        })
    }

    /// A server's message alone, when the runner's own lines are not in the log.
    fn oom_by_message(&self) -> Option<Oom<'a>> {
        let on_gpu = |m: &str| {
            (m.contains("out of memory") && !m.contains("system memory"))
                || (m.contains("unable to allocate") && !m.contains("CPU"))
        };
        let load = self.loads().rev().find(|l| l.failed().is_some_and(|(_, m)| on_gpu(m)))?;
        let (line, message) = load.failed()?;
        let part =
            if message.contains("loading model") { OomPart::Weights } else { OomPart::Unknown };
        Some(Oom {
            line,
            part,
            bytes: None,
            device: None,
            load: Some(load),
            fatal: true,
            at_run_time: false,
        })
    }

    fn load_of(&self, notice: &Notice) -> Option<LoadFacts<'a>> {
        self.loads().find(|l| l.load.index + 1 == notice.loads_before).or_else(|| self.last_load())
    }

    fn oom_part(&self, load: Option<&LoadFacts>) -> OomPart {
        let message = load.and_then(LoadFacts::failed).map_or("", |(_, m)| m);
        if self.any_notice(&["compute-alloc-failed", "compute-buffers-failed"]).is_some()
            || message.contains("allocate compute")
        {
            return OomPart::Compute;
        }
        if self.notice("kv-alloc-failed").is_some() || message.contains("kv cache") {
            return OomPart::Kv;
        }
        if message.contains("loading model") || message.contains("unable to allocate") {
            return OomPart::Weights;
        }
        // Tensors in one range are weights until a context is being made, then the cache.
        match load {
            _ if self.notice("tensor-alloc-failed").is_none() => OomPart::Unknown,
            Some(load) if load.load.n_ctx.is_some() => OomPart::Kv,
            _ => OomPart::Weights,
        }
    }

    /// Whether anything of the load came after the last failure.
    fn oom_fatal(&self, load: Option<&LoadFacts>, last: LineId) -> bool {
        let Some(load) = load else { return true };
        match &load.load.outcome {
            LoadOutcome::Failed(_) => true,
            LoadOutcome::Ready(_) | LoadOutcome::Unloaded(_) => false,
            LoadOutcome::Unknown => {
                let later = load.load.layers.is_some_and(|l| l.line > last)
                    || load.load.buffers.iter().any(|b| b.line > last);
                !later && self.notice("pipeline-parallel-given-up").is_none()
            }
        }
    }
}

impl<'a> LoadFacts<'a> {
    /// How it failed, if it did.
    pub fn failed(&self) -> Option<(LineId, &'a str)> {
        match &self.load.outcome {
            LoadOutcome::Failed(seen) => Some((seen.line, seen.value.as_str())),
            LoadOutcome::Unknown | LoadOutcome::Ready(_) | LoadOutcome::Unloaded(_) => None,
        }
    }
}
