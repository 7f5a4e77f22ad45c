//! What a load needs of the GPUs' memory, and how much of it would fit under other conditions.
//!
//! Sizes come from the log's own figures wherever it has them; what is derived says from what. The
//! model is the one that servers plan with: every GPU keeps a reserve and one compute buffer, layers
//! are equal, and the output is placed last. It answers "what if", not "how many bytes exactly".

use crate::observe::logs::{Buffer, BufferKind, FlashAttention, GpuFree, LineId};

use super::LoadFacts;

const MIB: u64 = 1 << 20;

/// Memory of a CUDA context and what comes with it, which no buffer line counts; Ollama reserves the
/// same (457 MiB).
const RESERVE_BYTES: u64 = 457 * MIB;

/// The part of a compute buffer that does not grow with the context: logits and feed-forward of one
/// ubatch. Only the rest shrinks with a smaller context, and only without flash attention.
const GRAPH_FIXED_BYTES: u64 = 320 * MIB;

/// A proposed context leaves the rest free: the sums here are not exact to the byte.
const LEAVES_FREE: f64 = 0.97;

/// The context below which nobody would look for memory.
pub(crate) const CTX_MODEST: u64 = 4096;

/// Bytes per element of a KV cache of f16, and of q8_0 as a share of it (34 of 64).
pub(crate) const Q8_0_OF_F16: f64 = 34.0 / 64.0;

/// What one load needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// All layers, the output counted as one.
    pub layers: u64,
    /// Those that are on GPUs now.
    pub offloaded: u64,
    /// All weights.
    pub weights_bytes: u64,
    /// Weights of the output, the last layer to be placed.
    pub output_bytes: u64,
    /// The KV cache at the load's context.
    pub kv_bytes: u64,
    /// The part of it that does not grow with the context, of layers with a sliding window, and the
    /// cells from which on it does not.
    pub kv_window_bytes_cells: (u64, u64),
    /// The compute buffer of one GPU at the load's context, when everything is on GPUs.
    pub graph_bytes: u64,
    /// What the server planned for it, where that was more (a partly offloaded graph).
    pub graph_planned_bytes: u64,
    /// Context over all sequences.
    pub ctx: Option<u64>,
    /// Sequences.
    pub parallel: u64,
    /// Whether attention keeps its scores in the compute buffer, so that it grows with the context.
    pub graph_grows: bool,
    /// Free memory of each GPU as the load began; empty when the log does not tell.
    pub free_bytes: Vec<u64>,
    /// All memory of each GPU; empty when not told for every one of them.
    pub total_bytes: Vec<u64>,
    /// The line that tells most of it.
    pub line: LineId,
}

/// Conditions under which [`Sizes::layers_that_fit`] is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct WhatIf {
    /// Context over all sequences, as a share of the load's.
    pub ctx_share: f64,
    /// KV element size as a share of the load's.
    pub kv_share: f64,
    /// The compute buffer of one GPU at the load's context.
    pub graph_bytes: u64,
    /// Memory of each GPU.
    pub free_bytes: Vec<u64>,
}

impl Sizes {
    /// The conditions as they are.
    pub fn as_is(&self) -> WhatIf {
        WhatIf {
            ctx_share: 1.0,
            kv_share: 1.0,
            graph_bytes: self.graph_bytes,
            free_bytes: self.free_bytes.clone(),
        }
    }

    /// The same with a part of the free memory.
    #[must_use]
    pub fn with_less_free(&self, part: f64) -> Self {
        let free_bytes = self.free_bytes.iter().map(|&b| (b as f64 * part) as u64).collect();
        Self { free_bytes, ..self.clone() }
    }

    /// The KV cache under other conditions.
    pub fn kv_if(&self, what: &WhatIf) -> u64 {
        let (window, cells) = self.kv_window_bytes_cells;
        let grows = self.kv_bytes.saturating_sub(window) as f64;
        let ctx = self.ctx.unwrap_or(cells);
        // A context that is shorter than the window needs less of it.
        let filled = match cells.min(ctx) {
            0 => 1.0,
            full => (ctx as f64 * what.ctx_share / full as f64).min(1.0),
        };
        ((grows * what.ctx_share + window as f64 * filled) * what.kv_share) as u64
    }

    /// The compute buffer of one GPU under other conditions.
    pub fn graph_if(&self, what: &WhatIf) -> u64 {
        if !self.graph_grows {
            return what.graph_bytes;
        }
        let fixed = what.graph_bytes.min(GRAPH_FIXED_BYTES);
        fixed + ((what.graph_bytes - fixed) as f64 * what.ctx_share) as u64
    }

    /// All of it on one GPU under other conditions, the reserve included.
    pub fn whole_if(&self, what: &WhatIf) -> u64 {
        self.weights_bytes + self.kv_if(what) + self.graph_if(what) + RESERVE_BYTES
    }

    /// Layers that fit on the GPUs, the output counted as one. The last one, the output, is placed
    /// where any GPU has room left.
    pub fn layers_that_fit(&self, what: &WhatIf) -> u64 {
        let repeating = self.layers.saturating_sub(1).max(1);
        let weights = self.weights_bytes.saturating_sub(self.output_bytes) / repeating;
        let layer = (weights + self.kv_if(what) / repeating).max(1);
        let taken = self.graph_if(what) + RESERVE_BYTES;
        let rooms: Vec<u64> = what.free_bytes.iter().map(|f| f.saturating_sub(taken)).collect();
        let fit = rooms.iter().map(|room| room / layer).sum::<u64>();
        if fit < repeating {
            return fit;
        }
        let left: u64 = rooms.iter().sum::<u64>().saturating_sub(layer * repeating);
        repeating + u64::from(left >= self.output_bytes)
    }

    /// Layers to be expected on the GPUs under other conditions: as many more than there are now as
    /// more fit by this model of memory, which need not agree with the engine's in the number itself.
    pub fn layers_expected(&self, what: &WhatIf) -> u64 {
        let fit = self.layers_that_fit(what);
        if fit >= self.layers {
            return self.layers;
        }
        let more = fit.saturating_sub(self.layers_that_fit(&self.as_is()));
        (self.offloaded + more).min(self.layers)
    }

    /// Sequences' own context.
    pub fn ctx_each(&self) -> Option<u64> {
        Some(self.ctx? / self.parallel.max(1))
    }

    /// The largest context of each sequence, a multiple of 1024 (256 below 4096), with which
    /// everything fits the GPUs with `parallel` sequences and KV elements of `kv_share`; none when
    /// not even 1024 fits.
    pub fn ctx_that_fits(&self, parallel: u64, kv_share: f64) -> Option<u64> {
        let now = self.ctx.filter(|&c| c > 0)?;
        if self.free_bytes.is_empty() {
            return None;
        }
        let room = self.with_less_free(LEAVES_FREE);
        let fits = |ctx: u64| {
            let ctx_share = (ctx * parallel) as f64 / now as f64;
            let what = WhatIf { ctx_share, kv_share, ..room.as_is() };
            self.layers_that_fit(&what) >= self.layers
        };
        let most = self.ctx_each()?.max(1024);
        let mut steps: Vec<u64> = (4..16).map(|n| n * 256).collect();
        steps.extend((4..=(most / 1024)).map(|n| n * 1024));
        steps.retain(|&c| c <= most);
        let at = steps.partition_point(|&ctx| fits(ctx));
        at.checked_sub(1).and_then(|i| steps.get(i)).copied()
    }
}

impl LoadFacts<'_> {
    /// Context over all sequences.
    pub fn ctx(&self) -> Option<u64> {
        let load = self.load;
        let told = load.n_ctx.or(load.requested.ctx).map(|s| s.value);
        let each = load.n_ctx_seq.map(|s| s.value * self.parallel());
        told.or(each).or(load.kv.as_ref().and_then(|k| k.cells)).filter(|&c| c > 0)
    }

    /// Sequences that the context is for.
    pub fn parallel(&self) -> u64 {
        let load = self.load;
        if let Some(told) = load.n_seq_max.or(load.requested.parallel) {
            return told.value.max(1);
        }
        let each = load.n_ctx_seq.map(|s| s.value).filter(|&c| c > 0);
        if let (Some(all), Some(each)) = (load.n_ctx.map(|s| s.value), each) {
            return (all / each).max(1);
        }
        // Without a word of the load itself: the server's setting, when its contexts add up.
        let setting = self.facts().setting_number("OLLAMA_NUM_PARALLEL").unwrap_or(1);
        match load.n_ctx.or(load.requested.ctx) {
            Some(ctx) if ctx.value % setting == 0 => setting,
            _ => 1,
        }
    }

    /// Bytes of one kind on GPUs.
    pub fn on_gpus(&self, kind: BufferKind) -> u64 {
        self.load.buffer_bytes(kind, |b| !b.is_host())
    }

    /// Bytes of one kind on the host.
    pub fn on_host(&self, kind: BufferKind) -> u64 {
        self.load.buffer_bytes(kind, Buffer::is_host)
    }

    /// All that was allocated on one GPU.
    pub fn allocated_on(&self, device: &str) -> u64 {
        self.load.buffers.iter().filter(|b| b.device == device).map(|b| b.bytes).sum()
    }

    /// The type of the KV cache's elements, keys and values, `f16` where nothing else is told.
    pub fn kv_types(&self) -> (String, String) {
        let kv = self.load.kv.as_ref();
        let asked = &self.load.requested;
        let known = |kv: Option<&String>, asked: Option<&String>| {
            kv.or(asked).map_or_else(|| "f16".to_string(), |t| t.to_ascii_lowercase())
        };
        let keys =
            known(kv.and_then(|k| k.type_k.as_ref()), asked.kv_type_k.as_ref().map(|s| &s.value));
        let values =
            known(kv.and_then(|k| k.type_v.as_ref()), asked.kv_type_v.as_ref().map(|s| &s.value));
        (keys, values)
    }

    /// Whether flash attention is used; `None` when it is left to the engine or not told.
    pub fn flash_attention(&self) -> Option<bool> {
        match self.load.flash_attention?.value {
            FlashAttention::On => Some(true),
            FlashAttention::Off => Some(false),
            FlashAttention::Auto => None,
        }
    }

    /// Bits that a weight takes on average.
    pub fn model_bits_per_weight(&self, weights_bytes: u64) -> Option<f64> {
        let parameters = self.load.model.parameters.filter(|&p| p > 0.0)?;
        Some(weights_bytes as f64 * 8.0 / parameters).filter(|b| (1.0..33.0).contains(b))
    }

    /// What the load needs, where the log tells enough.
    pub fn sizes(&self) -> Option<Sizes> {
        let (share, line) = self.share()?;
        let layers = share.total.max(1);
        let weights_bytes = self.weights_bytes(share.offloaded, layers)?;
        let estimate = self.load.estimate.as_ref();
        let output = estimate.and_then(|e| e.nonrepeating_bytes);
        // A layer's share is near enough for an output that is not told apart.
        let output_bytes = output.unwrap_or(weights_bytes / layers);
        let parallel = self.parallel();
        let (graph_bytes, graph_planned_bytes) = self.graph_bytes();
        let heads = self.load.flash_attention.map(|s| s.value);
        Some(Sizes {
            layers,
            offloaded: share.offloaded,
            weights_bytes,
            output_bytes: output_bytes.min(weights_bytes),
            kv_bytes: self.kv_bytes(),
            kv_window_bytes_cells: self.kv_window(),
            graph_bytes,
            graph_planned_bytes,
            ctx: self.ctx(),
            parallel,
            graph_grows: heads != Some(FlashAttention::On),
            free_bytes: self.free_bytes(),
            total_bytes: self.total_bytes(),
            line,
        })
    }

    /// All weights. A mapped buffer of the host spans the file whatever part of it is used, so that
    /// the sum of all buffers counts weights twice; the part on the GPUs, by layers, does not.
    fn weights_bytes(&self, offloaded: u64, layers: u64) -> Option<u64> {
        let load = self.load;
        if let Some(planned) = self.weights_planned() {
            return Some(planned);
        }
        if let Some(told) = load.model.bytes {
            return Some(told.value);
        }
        let on_gpus = self.on_gpus(BufferKind::Model);
        let on_host = self.on_host(BufferKind::Model);
        let mapped = load
            .buffers
            .iter()
            .any(|b| b.kind == BufferKind::Model && b.is_host() && b.device.ends_with("_Mapped"));
        if offloaded >= layers && on_gpus > 0 {
            return Some(on_gpus);
        }
        if offloaded >= 3 && on_gpus > 0 && (mapped || on_gpus + on_host > on_host * 5 / 4) {
            return Some(on_gpus / offloaded * layers);
        }
        let sum = on_gpus + on_host;
        (sum > 0).then_some(sum)
    }

    /// Weights by the server's plan. Plans of 2024 count the KV cache of each layer among the
    /// weights; which of the two readings it is shows in the sum that the plan gives itself.
    fn weights_planned(&self) -> Option<u64> {
        let estimate = self.load.estimate.as_ref()?;
        let weights = estimate.weights_bytes?;
        let kv = estimate.kv_bytes.unwrap_or(0);
        let Some(full) = estimate.full_bytes.filter(|_| weights > kv) else { return Some(weights) };
        let gpus = estimate.available_bytes.len().max(1) as u64;
        let graph = match gpus {
            1 => estimate.graph_full_bytes.max(estimate.graph_partial_bytes),
            _ => estimate.graph_partial_bytes.or(estimate.graph_full_bytes),
        };
        let rest = (graph.unwrap_or(0) + RESERVE_BYTES) * gpus;
        let apart = (weights + kv + rest).abs_diff(full);
        let within = (weights + rest).abs_diff(full);
        Some(if within < apart { weights - kv } else { weights })
    }

    fn kv_bytes(&self) -> u64 {
        let load = self.load;
        let told = load.kv.as_ref().and_then(|k| k.bytes);
        let buffers = load.buffer_bytes(BufferKind::Kv, |_| true);
        let planned = load.estimate.as_ref().and_then(|e| e.kv_bytes);
        told.or((buffers > 0).then_some(buffers))
            .or(planned)
            .or_else(|| self.kv_by_shape())
            .unwrap_or(0)
    }

    /// What [`Sizes::kv_window_bytes_cells`] says, where the log tells it; `(0, 0)` otherwise.
    fn kv_window(&self) -> (u64, u64) {
        let kv = self.load.kv.as_ref();
        kv.and_then(|k| k.window_bytes_cells).unwrap_or((0, 0))
    }

    /// The KV cache from the model's shape: for every layer and cell the key and value heads of two
    /// bytes per element.
    fn kv_by_shape(&self) -> Option<u64> {
        let model = &self.load.model;
        let heads = model.n_head_kv?;
        let head = model.n_embd_head_k.or_else(|| Some(model.n_embd? / model.n_head?.max(1)))?;
        let values = model.n_embd_head_v.unwrap_or(head);
        Some(model.n_layer? * self.ctx()? * heads * (head + values) * 2)
    }

    /// The largest compute buffer of a GPU, and what a server planned for it. Without one on a GPU,
    /// the host's tells how large it is.
    fn graph_bytes(&self) -> (u64, u64) {
        let of = |host: bool| {
            let buffers = self.load.buffers.iter();
            let compute = buffers.filter(|b| b.kind == BufferKind::Compute && b.is_host() == host);
            compute.map(|b| b.bytes).max()
        };
        let estimate = self.load.estimate.as_ref();
        let full = estimate.and_then(|e| e.graph_full_bytes);
        let part = estimate.and_then(|e| e.graph_partial_bytes);
        let whole = estimate.is_some_and(|e| e.available_bytes.len() <= 1);
        let planned = if whole { full.or(part) } else { part.or(full) };
        let measured = of(false).or_else(|| of(true).filter(|_| planned.is_none()));
        let graph = planned.or(measured).unwrap_or(0);
        (graph, part.max(full).unwrap_or(graph))
    }

    /// What each GPU had free as the load began.
    fn free_bytes(&self) -> Vec<u64> {
        let load = self.load;
        if let Some(estimate) = load.estimate.as_ref().filter(|e| !e.available_bytes.is_empty()) {
            return estimate.available_bytes.clone();
        }
        if !load.gpu_free.is_empty() {
            // What a server calls usable lacks its reserve, which is counted here by itself.
            let usable =
                |g: &GpuFree| g.usable_bytes.map(|u| (u + RESERVE_BYTES).min(g.free_bytes));
            return load.gpu_free.iter().map(|g| usable(g).unwrap_or(g.free_bytes)).collect();
        }
        if let Some(fit) = load.fit.as_ref().filter(|f| !f.on_host) {
            let devices = self.log.devices.len().max(1) as u64;
            if let Some(free) = fit.free_bytes {
                return vec![free / devices; devices as usize];
            }
        }
        let devices = self.log.devices.iter();
        let free: Vec<u64> = devices.filter_map(|d| d.free_bytes).collect();
        if free.len() == self.log.devices.len() { free } else { Vec::new() }
    }

    /// All memory of each GPU, in the order of the devices.
    fn total_bytes(&self) -> Vec<u64> {
        let devices = &self.log.devices;
        let totals: Vec<u64> = devices.iter().filter_map(|d| d.total_bytes).collect();
        if totals.len() == devices.len() { totals } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Facts;
    use super::*;
    use crate::observe::logs::parse_bytes;

    /// The cache of layers with a sliding window stays as it is until the context is shorter than it.
    #[test]
    fn a_sliding_window_does_not_grow_with_the_context() {
        let log = parse_bytes(
            b"load_tensors: offloaded 31/31 layers to GPU\n\
              load_tensors:        CUDA0 model buffer size =  4000.00 MiB\n\
              llama_context: n_ctx         = 8192\n\
              llama_kv_cache_iswa: creating non-SWA KV cache, size = 8192 cells\n\
              llama_kv_cache: size =  320.00 MiB (  8192 cells,   5 layers,  1/1 seqs), K (f16):  160.00 MiB, V (f16):  160.00 MiB\n\
              llama_kv_cache_iswa: creating     SWA KV cache, size = 2048 cells\n\
              llama_kv_cache: size =  400.00 MiB (  2048 cells,  25 layers,  1/1 seqs), K (f16):  200.00 MiB, V (f16):  200.00 MiB\n",
        );
        let sizes = Facts::of_log(&log).last_load().unwrap().sizes().unwrap();
        let mib = |ctx: f64, kv_share: f64| {
            let ctx_share = ctx / 8192.0;
            sizes.kv_if(&WhatIf { ctx_share, kv_share, ..sizes.as_is() }) >> 20
        };
        assert_eq!(mib(8192.0, 1.0), 720);
        assert_eq!(mib(4096.0, 1.0), 160 + 400);
        assert_eq!(mib(1024.0, 1.0), 40 + 200);
        assert_eq!(mib(16384.0, 0.5), 320 + 200);
    }
}
