//! Why layers are left on the CPU: how many of them each cause keeps away from the GPUs.
//!
//! Every cause is judged by what would change without it, one after the other: more slots than one,
//! a context above a modest one, memory that something else holds, a compute buffer larger than it
//! needs to be. What is still missing then is the weights' own. So the causes of one shortfall never
//! add up to more than it, and the largest is the primary one.

use crate::observe::logs::Engine;

use super::memory::{CTX_MODEST, Sizes, WhatIf};
use super::{LoadFacts, Share};

const MIB: u64 = 1 << 20;

/// A compute buffer that is not large: logits and feed-forward of a ubatch of 512.
const GRAPH_MODEST_BYTES: u64 = 768 * MIB;

/// Of a GPU's memory the driver and the desktop keep this part for themselves; only what is missing
/// beyond it is held by a program.
const FREE_USUALLY: f64 = 0.90;

/// Of free memory, what is sure to be usable.
const SURE_TO_FIT: f64 = 0.85;

/// Less free memory than any usual GPU has in all.
const LITTLE_BYTES: u64 = 3 << 30;

/// No GPU that can run a model has less memory.
const SMALLEST_GPU_BYTES: u64 = 1 << 30;

/// Why layers are missing; counts are layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortfall {
    /// What the load needs.
    pub sizes: Sizes,
    /// Layers that are not on a GPU.
    pub missing: u64,
    /// Missing because the free memory was not used though the sizes fit.
    pub by_estimate: u64,
    /// Missing because the context is multiplied by the number of sequences.
    pub by_parallel: u64,
    /// Missing because of a context above a modest one.
    pub by_context: u64,
    /// Missing because something else holds memory of the GPUs.
    pub by_others: u64,
    /// Missing because the compute buffer is large even with a modest context.
    pub by_graph: u64,
    /// Missing because the weights do not fit, whatever else is changed.
    pub by_weights: u64,
    /// Share of a token's time that the missing layers take.
    pub time_share: f64,
    /// Whether free memory was told by the log. Otherwise it is taken to be what was allocated.
    pub free_known: bool,
}

/// Which cause of a shortfall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// See [`Shortfall::by_estimate`].
    Estimate,
    /// See [`Shortfall::by_parallel`].
    Parallel,
    /// See [`Shortfall::by_context`].
    Context,
    /// See [`Shortfall::by_others`].
    Others,
    /// See [`Shortfall::by_graph`].
    Graph,
    /// See [`Shortfall::by_weights`].
    Weights,
}

impl Shortfall {
    /// Layers that one cause keeps on the CPU.
    pub fn layers(&self, cause: Cause) -> u64 {
        match cause {
            Cause::Estimate => self.by_estimate,
            Cause::Parallel => self.by_parallel,
            Cause::Context => self.by_context,
            Cause::Others => self.by_others,
            Cause::Graph => self.by_graph,
            Cause::Weights => self.by_weights,
        }
    }

    /// Whether so little was free, of a total that is not told, that something else may hold the rest:
    /// hardly a GPU in use today has less than 3 GiB in all.
    pub fn free_suspicious(&self) -> bool {
        let most = self.sizes.free_bytes.iter().copied().max().unwrap_or(0);
        self.free_known && self.sizes.total_bytes.is_empty() && most < LITTLE_BYTES
    }

    /// Share of the time of a token that one cause explains, if it explains enough of the missing
    /// layers to be worth a word: a fifth of them, or all but the last.
    pub fn share_of_time(&self, cause: Cause) -> Option<f64> {
        let share = self.layers(cause) as f64 / self.missing.max(1) as f64;
        (share >= 0.2).then_some(share * self.time_share)
    }
}

impl LoadFacts<'_> {
    /// The causes of the layers that this load has on the CPU; `None` when there are none, when the
    /// log does not tell sizes, or when no GPU takes part so that memory is not the question.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let (share, _) = self.share()?;
        let no_gpu = self.planned_on_cpu().is_some();
        if share.missing() == 0 || no_gpu || self.layers_set_by_user().is_some() {
            return None;
        }
        let mut sizes = self.sizes()?;
        let mut free_known = sizes.free_bytes.iter().any(|&b| b > 0);
        let fit = |sizes: &Sizes| sizes.layers_that_fit(&sizes.as_is()) >= share.total;
        // An engine that measures knows better than this model of memory when it is close.
        let measured = self.load.estimate.is_none();
        if free_known && measured && fit(&sizes) && !fit(&sizes.with_less_free(SURE_TO_FIT)) {
            free_known = false;
        }
        if !free_known {
            sizes.free_bytes = self.free_by_use(&sizes, share.offloaded)?;
        }
        let time_share = self.cpu_time_share().unwrap_or(0.5);
        Some(divide(sizes, share, free_known, time_share))
    }

    /// The number of layers for GPUs that a person asked for, when it is fewer than all: then memory
    /// was not what decided.
    pub fn layers_set_by_user(&self) -> Option<u64> {
        let (share, _) = self.share()?;
        let planned = self.load.estimate.as_ref().and_then(|e| e.layers_requested);
        // A runner's command line repeats what the server chose; only a plan tells the two apart.
        // llama.cpp alone has no server above it.
        let asked = match planned {
            Some(asked) => asked,
            None if self.facts().is_ollama() => return None,
            None => match self.load.requested.gpu_layers {
                Some(asked) => asked.value,
                None => self.layers_shown_by_use(share)? as i64,
            },
        };
        (asked >= 0 && (asked as u64) < share.total && asked as u64 == share.offloaded)
            .then_some(asked as u64)
    }

    /// The number of layers that somebody must have asked for, though the log does not tell: an engine
    /// that takes what it is told, and less on the GPU than any GPU has.
    fn layers_shown_by_use(&self, share: Share) -> Option<u64> {
        let own = matches!(self.log.engine, Engine::LlamaCpp | Engine::Gpuwhy);
        let told = own && self.load.fit.is_none() && self.load.estimate.is_none();
        let used: u64 = self.gpus_with_weights().iter().map(|gpu| self.allocated_on(gpu)).sum();
        let little = used > 0 && used < SMALLEST_GPU_BYTES && share.offloaded < share.total / 2;
        (told && little).then_some(share.offloaded)
    }

    /// Free memory as far as what was allocated shows it: a GPU that took some layers and not one
    /// more had room for what it holds.
    fn free_by_use(&self, sizes: &Sizes, offloaded: u64) -> Option<Vec<u64>> {
        if offloaded == 0 {
            return None;
        }
        let used = self.gpus_with_weights();
        if used.is_empty() {
            return None;
        }
        let empty = WhatIf { free_bytes: vec![0], ..sizes.as_is() };
        let taken =
            sizes.whole_if(&empty) - sizes.weights_bytes - sizes.kv_bytes - sizes.graph_bytes;
        Some(used.iter().map(|gpu| self.allocated_on(gpu) + taken).collect())
    }
}

/// Divides what is missing among its causes.
fn divide(sizes: Sizes, share: Share, free_known: bool, time_share: f64) -> Shortfall {
    let now = sizes.as_is();
    let fits = |what: &WhatIf| sizes.layers_that_fit(what).clamp(share.offloaded, share.total);
    // With sizes that all fit there is no other cause; otherwise a few layers more or less are the
    // fault of this model of memory, not of the server's.
    let whole = free_known && fits(&now) == share.total;
    let missing = share.missing();
    let one = WhatIf { ctx_share: 1.0 / sizes.parallel.max(1) as f64, ..now.clone() };
    let each = sizes.ctx_each().unwrap_or(0).max(1);
    let modest = WhatIf {
        ctx_share: one.ctx_share * CTX_MODEST.min(each) as f64 / each as f64,
        ..one.clone()
    };
    let idle = WhatIf { free_bytes: free_if_alone(&sizes), ..modest.clone() };
    let small = WhatIf { graph_bytes: sizes.graph_bytes.min(GRAPH_MODEST_BYTES), ..idle.clone() };
    let steps = [fits(&now), fits(&one), fits(&modest), fits(&idle), fits(&small)];
    // This model of memory may let more layers fit than the engine did. What is missing is then
    // divided as what is missing by the model.
    let modelled = share.total - steps[0];
    let mut left = if whole { 0 } else { missing };
    let mut gain = |i: usize| {
        let layers = steps[i].saturating_sub(steps[i - 1]);
        let part = (layers * missing).div_ceil(modelled.max(1)).min(left);
        left -= part;
        part
    };
    let (by_parallel, by_context, by_others, by_graph) = (gain(1), gain(2), gain(3), gain(4));
    Shortfall {
        missing,
        by_estimate: if whole { missing } else { 0 },
        by_parallel,
        by_context,
        by_others,
        by_graph,
        by_weights: left,
        time_share,
        free_known,
        sizes,
    }
}

/// What each GPU would have free if nothing else held its memory.
fn free_if_alone(sizes: &Sizes) -> Vec<u64> {
    if sizes.total_bytes.len() != sizes.free_bytes.len() {
        return sizes.free_bytes.clone();
    }
    let pairs = sizes.free_bytes.iter().zip(&sizes.total_bytes);
    pairs.map(|(&free, &all)| free.max((all as f64 * FREE_USUALLY) as u64)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Facts;
    use super::*;
    use crate::observe::logs::{Device, Estimate, LineId, Load, LogSession, Seen};

    const GIB: u64 = 1 << 30;

    /// 40 layers of 200 MiB and an output of 400 MiB, planned for one GPU.
    fn session(offloaded: u64, free: u64, total: u64, kv: u64, graph: u64, ctx: u64) -> LogSession {
        let weights = 40 * 200 * MIB + 400 * MIB;
        let estimate = Estimate {
            layers_requested: Some(-1),
            layers_model: Some(41),
            layers_offload: Some(offloaded),
            available_bytes: vec![free],
            weights_bytes: Some(weights),
            nonrepeating_bytes: Some(400 * MIB),
            kv_bytes: Some(kv),
            graph_full_bytes: Some(graph),
            graph_partial_bytes: Some(graph),
            full_bytes: Some(weights + kv + graph + 457 * MIB),
            ..Estimate::default()
        };
        let mut load = Load { estimate: Some(estimate), ..Load::default() };
        load.requested.ctx = Some(Seen { value: ctx, line: LineId(2) });
        let device = Device { total_bytes: Some(total), ..Device::default() };
        LogSession { devices: vec![device], loads: vec![load], ..LogSession::default() }
    }

    fn shortfall(log: &LogSession) -> Shortfall {
        Facts::of_log(log).last_load().unwrap().shortfall().unwrap()
    }

    #[test]
    fn layers_that_no_context_would_bring_back_are_the_weights_fault() {
        let log = session(16, 4 * GIB, 4 * GIB + GIB / 4, 128 * MIB, 300 * MIB, 2048);
        let short = shortfall(&log);
        assert_eq!((short.missing, short.by_weights), (25, 25), "{short:?}");
    }

    #[test]
    fn a_long_context_takes_its_own_layers_only() {
        // 8 GiB of KV cache at 65536, half a GiB at 4096.
        let log = session(24, 10 * GIB, 10 * GIB + GIB / 2, 8 * GIB, 300 * MIB, 65536);
        let short = shortfall(&log);
        assert_eq!(short.by_context, short.missing, "{short:?}");
        // On a GPU of 5 GiB the weights are short as well.
        let log = session(11, 5 * GIB, 5 * GIB + GIB / 4, 8 * GIB, 300 * MIB, 65536);
        let short = shortfall(&log);
        assert!(short.by_context > 0 && short.by_weights > short.by_context / 2, "{short:?}");
    }

    #[test]
    fn memory_that_something_else_holds_is_told_from_too_little() {
        let log = session(12, 4 * GIB, 24 * GIB, 512 * MIB, 300 * MIB, 4096);
        let short = shortfall(&log);
        assert_eq!(short.by_others, short.missing, "{short:?}");
    }

    #[test]
    fn sizes_that_fit_are_the_estimates_fault() {
        let log = session(40, 10 * GIB, 10 * GIB + GIB / 2, 256 * MIB, 300 * MIB, 4096);
        let short = shortfall(&log);
        assert_eq!((short.missing, short.by_estimate), (1, 1), "{short:?}");
        assert_eq!(short.by_weights + short.by_context + short.by_others, 0);
    }

    #[test]
    fn causes_never_add_up_to_more_than_what_is_missing() {
        for offloaded in 1..40 {
            for (kv, ctx) in [(64 * MIB, 2048), (2 * GIB, 16384), (9 * GIB, 131072)] {
                let log = session(offloaded, 6 * GIB, 12 * GIB, kv, GIB, ctx);
                let s = shortfall(&log);
                let known = s.by_estimate + s.by_parallel + s.by_context + s.by_others + s.by_graph;
                assert_eq!(s.by_weights + known, s.missing, "{s:?}");
            }
        }
    }
}
