//! Why layers are left on the CPU: how many of them each cause keeps away from the GPUs.
//!
//! Every cause is judged by what would change without it, one after the other: more slots than one,
//! a context above a modest one, memory that something else holds, a compute buffer larger than it
//! needs to be. What is still missing then is the weights' own. So the causes of one shortfall never
//! add up to more than it, and the largest is the primary one.

use super::LoadFacts;
use super::memory::{CTX_MODEST, Sizes, WhatIf};

const MIB: u64 = 1 << 20;

/// A compute buffer that is not large: logits and feed-forward of a ubatch of 512.
const GRAPH_MODEST_BYTES: u64 = 768 * MIB;

/// Of a GPU's memory the driver and the desktop keep this part for themselves; only what is missing
/// beyond it is held by a program.
const FREE_USUALLY: f64 = 0.90;

/// Less free memory than any usual GPU has in all.
const LITTLE_BYTES: u64 = 3 << 30;

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
        if share.missing() == 0 || self.layers_set_by_user().is_some() {
            return None;
        }
        let mut sizes = self.sizes()?;
        let free_known = !sizes.free_bytes.is_empty() && sizes.free_bytes.iter().any(|&b| b > 0);
        if !free_known {
            sizes.free_bytes = self.free_by_use(&sizes, share.offloaded)?;
        }
        let now = sizes.as_is();
        let fits = |what: &WhatIf| sizes.layers_that_fit(what).clamp(share.offloaded, share.total);

        let by_estimate = if free_known { fits(&now) - share.offloaded } else { 0 };
        // With sizes that all fit there is no other cause; otherwise a few layers more or less are
        // the fault of this model of memory, not of the server's.
        let whole = share.offloaded + by_estimate == share.total;
        let by_estimate = if whole { by_estimate } else { 0 };
        let one = WhatIf { ctx_share: 1.0 / sizes.parallel.max(1) as f64, ..now.clone() };
        let each = sizes.ctx_each().unwrap_or(0).max(1);
        let modest = WhatIf {
            ctx_share: one.ctx_share * CTX_MODEST.min(each) as f64 / each as f64,
            ..one.clone()
        };
        let idle = WhatIf { free_bytes: free_if_alone(&sizes), ..modest.clone() };
        let small =
            WhatIf { graph_bytes: sizes.graph_bytes.min(GRAPH_MODEST_BYTES), ..idle.clone() };
        let steps = [fits(&now), fits(&one), fits(&modest), fits(&idle), fits(&small)];
        // This model of memory may let more layers fit than the engine did. What is missing is then
        // divided as what is missing by the model.
        let (missing, modelled) = (share.missing(), share.total - steps[0]);
        let gain = |i: usize| {
            let layers = steps[i].saturating_sub(steps[i - 1]);
            if whole { 0 } else { (layers * missing).div_ceil(modelled.max(1)) }
        };
        let (by_parallel, by_context, by_others, by_graph) = (gain(1), gain(2), gain(3), gain(4));
        let explained = by_estimate + by_parallel + by_context + by_others + by_graph;
        Some(Shortfall {
            missing,
            by_estimate,
            by_parallel,
            by_context,
            by_others,
            by_graph,
            by_weights: missing.saturating_sub(explained),
            time_share: self.cpu_time_share().unwrap_or(0.5),
            free_known,
            sizes,
        })
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
            None => self.load.requested.gpu_layers?.value,
        };
        (asked >= 0 && (asked as u64) < share.total && asked as u64 == share.offloaded)
            .then_some(asked as u64)
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

/// What each GPU would have free if nothing else held its memory.
fn free_if_alone(sizes: &Sizes) -> Vec<u64> {
    if sizes.total_bytes.len() != sizes.free_bytes.len() {
        return sizes.free_bytes.clone();
    }
    let pairs = sizes.free_bytes.iter().zip(&sizes.total_bytes);
    pairs.map(|(&free, &all)| free.max((all as f64 * FREE_USUALLY) as u64)).collect()
}
