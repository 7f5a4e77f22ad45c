//! Where a load's memory went: what was free, estimated, granted; context, KV cache, graph.

use super::super::record::Record;
use super::super::session::{
    BreakdownRow, Buffer, BufferKind, Estimate, Fit, FitDevice, FlashAttention, GpuFree, Graph,
    HostMemory, KvCache, Layers, Load, LogSession, Seen,
};
use super::kind::Kind;
use super::stage::Stage;
use super::stream::{Open, slog};
use super::value::{counts, decimal, kept, mib, size, sizes};

/// Lists of a load are cut here; a model in many files has a buffer for each of them.
const LIST_MAX: usize = 512;

/// Takes a line about memory, context or graph in.
pub(super) fn apply(session: &mut LogSession, open: &mut Open, record: &Record<'_>) {
    use Kind as K;
    match record.kind {
        K::HostMemory => {
            let host = host_memory(record);
            session.host = Some(host);
            open.load.host = Some(host);
        }
        K::GpuMemory => gpu_memory(session, &mut open.load, record),
        K::DeviceUsing => using(&mut open.load, record),
        K::Estimate => estimate(&mut open.load, record),
        K::EarlyEstimate => early_estimate(&mut open.load, record),
        K::EarlyRequired => early_required(&mut open.load, record),
        K::FitStart
        | K::FitProjected
        | K::FitDeficit
        | K::FitContext
        | K::FitContextFixed
        | K::FitDevice => fit(&mut open.load, record),
        K::LayersOffloaded => {
            if let (Some(offloaded), Some(total)) =
                (record.fields.number("offloaded"), record.fields.number("total"))
            {
                open.load.layers = Some(Layers { offloaded, total, line: record.line });
            }
        }
        K::OutputLayer => {
            let value = record.fields.get("where") != Some("CPU");
            open.load.output_on_gpu = Some(Seen { value, line: record.line });
        }
        K::LayerAssigned => layer_assigned(&mut open.load, record),
        K::TensorOverride => tensor_override(&mut open.load, record),
        K::TensorsStart => tensors_start(open, record),
        K::BufferModel
        | K::BufferKv
        | K::BufferCompute
        | K::BufferOutput
        | K::BufferRecurrent
        | K::BufferAdapter
        | K::BufferProjector
        | K::BufferCompute2023
        | K::MemoryRequired
        | K::VramUsed
        | K::VramTotal => buffer(open, record),
        K::BreakdownDevice | K::BreakdownHost => breakdown(&mut open.load, record),
        _ => super::context::apply(open, record),
    }
}

/// Whether a line is the first of another context.
pub(super) fn begins_context(open: &Open, record: &Record<'_>) -> bool {
    match record.kind {
        Kind::ContextStart => true,
        Kind::ContextParameter => {
            let key = record.fields.get("key");
            matches!(key, Some("n_seq_max" | "n_ctx")) && open.load.n_ctx.is_some()
        }
        _ => false,
    }
}

/// Forgets what a trial without memory told; the model and what was asked stay.
pub(super) fn forget_trial(open: &mut Open) {
    let load = &mut open.load;
    open.trial = false;
    open.stage = Stage::Loader;
    open.contexts = 0;
    load.layers = None;
    load.output_on_gpu = None;
    load.layers_by_device.clear();
    load.buffers.clear();
    load.requested.overrides.clear();
    load.kv = None;
    load.graph = None;
    load.n_ctx = None;
    load.n_ctx_seq = None;
    load.n_seq_max = None;
    load.flash_attention = None;
    load.gpu_free.clear();
}

fn host_memory(record: &Record<'_>) -> HostMemory {
    let bytes = |name: &str| record.fields.get(name).and_then(size);
    HostMemory {
        total_bytes: bytes("total"),
        free_bytes: bytes("free"),
        swap_bytes: bytes("swap"),
        line: record.line,
    }
}

/// A GPU's free memory is remembered for the device, too.
pub(super) fn remember_gpu(session: &mut LogSession, record: &Record<'_>) {
    if record.kind != Kind::GpuMemory {
        return;
    }
    let bytes = |name: &str| record.fields.get(name).and_then(size);
    let id = record.fields.get("id");
    let found = session.devices.iter_mut().find(|d| d.id.is_some() && d.id.as_deref() == id);
    if let Some(device) = found {
        device.free_bytes = device.free_bytes.or(bytes("free"));
        device.total_bytes = device.total_bytes.or(bytes("total"));
    }
}

/// ggml's name of a device that a line names by its id, where it is known.
pub(super) fn device_name(session: &LogSession, id: &str) -> String {
    let same = |d: &&super::super::session::Device| d.id.as_deref() == Some(id);
    let named = session.devices.iter().find(same).and_then(|d| d.name.clone());
    named.unwrap_or_else(|| kept(id))
}

fn gpu_memory(session: &LogSession, load: &mut Load, record: &Record<'_>) {
    let fields = &record.fields;
    let Some(free_bytes) = fields.get("free").and_then(size) else { return };
    let device = device_name(session, fields.get("id").unwrap_or_default());
    let usable_bytes = fields.get("available").and_then(size);
    add_free(load, GpuFree { device, free_bytes, usable_bytes, line: record.line });
}

/// The GPU that the scheduler chose, with what it had free.
pub(super) fn planned_gpu(load: &mut Load, record: &Record<'_>) {
    let fields = &record.fields;
    let device = fields.get("name").or_else(|| fields.get("gpu"));
    let free = fields.get("available").filter(|v| !v.starts_with('[')).and_then(size);
    if let (Some(device), Some(free_bytes)) = (device, free) {
        let device = kept(device);
        add_free(load, GpuFree { device, free_bytes, usable_bytes: None, line: record.line });
    }
}

fn using(load: &mut Load, record: &Record<'_>) {
    let free = record.fields.number::<f64>("free_mib").and_then(mib);
    if let (Some(device), Some(free_bytes)) = (record.fields.get("device"), free) {
        let device = kept(device);
        add_free(load, GpuFree { device, free_bytes, usable_bytes: None, line: record.line });
    }
}

/// A later figure of the same device is nearer to the load.
fn add_free(load: &mut Load, free: GpuFree) {
    if let Some(known) = load.gpu_free.iter_mut().find(|g| g.device == free.device) {
        let usable_bytes = free.usable_bytes.or(known.usable_bytes);
        *known = GpuFree { usable_bytes, ..free };
    } else if load.gpu_free.len() < LIST_MAX {
        load.gpu_free.push(free);
    }
}

fn estimate(load: &mut Load, record: &Record<'_>) {
    let fields = &record.fields;
    let bytes = |name: &str| fields.get(name).and_then(size);
    let list = |name: &str| fields.get(name).map(sizes).unwrap_or_default();
    let projector = [bytes("projector_weights"), bytes("projector_graph")];
    let projector: u64 = projector.into_iter().flatten().sum();
    load.attempts += 1;
    let requested = fields.number("layers_requested");
    load.estimate = Some(Estimate {
        library: fields.get("library").or_else(|| fields.get("to")).map(kept),
        layers_requested: requested,
        layers_model: fields.number("layers_model"),
        layers_offload: fields.number("layers_offload"),
        layers_split: fields.get("layers_split").map(counts).unwrap_or_default(),
        available_bytes: list("available"),
        overhead_bytes: bytes("overhead"),
        full_bytes: bytes("full"),
        partial_bytes: bytes("partial"),
        kv_bytes: bytes("kv"),
        allocations_bytes: list("allocations"),
        weights_bytes: bytes("weights"),
        repeating_bytes: bytes("repeating"),
        nonrepeating_bytes: bytes("nonrepeating"),
        graph_full_bytes: bytes("graph_full"),
        graph_partial_bytes: bytes("graph_partial"),
        projector_bytes: (projector > 0).then_some(projector),
        line: record.line,
    });
    if let Some(value) = requested {
        load.requested.gpu_layers = Some(Seen { value, line: record.line });
    }
}

/// 2023: `N MB VRAM available, loading up to M GPU layers`.
fn early_estimate(load: &mut Load, record: &Record<'_>) {
    let line = record.line;
    let free = record.fields.number::<f64>("available_mib").and_then(mib);
    let available_bytes = free.into_iter().collect();
    let layers_offload = record.fields.number("layers");
    load.estimate = Some(Estimate { layers_offload, available_bytes, line, ..Estimate::default() });
}

/// Early 2024: a line for every figure.
fn early_required(load: &mut Load, record: &Record<'_>) {
    let bytes = record.fields.number("bytes");
    let estimate = load.estimate.get_or_insert_with(Estimate::default);
    estimate.line = record.line;
    match record.fields.get("what") {
        Some("model") => estimate.weights_bytes = bytes,
        Some("kv") => estimate.kv_bytes = bytes,
        Some("alloc") => estimate.graph_full_bytes = bytes,
        Some("total") => estimate.full_bytes = bytes,
        _ => estimate.available_bytes = bytes.into_iter().collect(),
    }
}

fn fit(load: &mut Load, record: &Record<'_>) {
    let fields = &record.fields;
    let in_mib = |name: &str| fields.number::<f64>(name).and_then(mib);
    let fit = load.fit.get_or_insert_with(|| Fit { line: record.line, ..Fit::default() });
    match record.kind {
        Kind::FitProjected => {
            fit.projected_bytes = in_mib("used_mib");
            fit.free_bytes = in_mib("free_mib");
            fit.on_host = fields.get("where") == Some("host");
            fit.line = record.line;
        }
        Kind::FitDeficit => {
            fit.deficit_bytes = in_mib("deficit_mib");
            fit.target_bytes = in_mib("target_mib");
        }
        Kind::FitContext => fit.ctx_from_to = fields.number("from").zip(fields.number("to")),
        Kind::FitContextFixed => fit.ctx_fixed = fields.number("ctx").or(fields.number("full")),
        Kind::FitDevice => {
            let free = fields.number::<i64>("free_mib").unwrap_or_default();
            let device = FitDevice {
                device: fields.get("device").map(kept).unwrap_or_default(),
                layers: fields.number("layers").unwrap_or_default(),
                overflowing: fields.number("overflowing").unwrap_or_default(),
                used_bytes: in_mib("used_mib").unwrap_or_default(),
                free_bytes: free.saturating_mul(1 << 20),
                line: record.line,
            };
            fit.devices.retain(|d| d.device != device.device);
            if fit.devices.len() < LIST_MAX {
                fit.devices.push(device);
            }
        }
        _ => {}
    }
}

fn layer_assigned(load: &mut Load, record: &Record<'_>) {
    let Some(device) = record.fields.get("device") else { return };
    // The first layer begins the list anew, because the loader prints it for every trial.
    if record.fields.get("layer") == Some("0") {
        load.layers_by_device.clear();
    }
    if let Some((_, layers)) = load.layers_by_device.iter_mut().find(|(d, _)| d == device) {
        *layers += 1;
    } else if load.layers_by_device.len() < LIST_MAX {
        load.layers_by_device.push((kept(device), 1));
    }
}

fn tensor_override(load: &mut Load, record: &Record<'_>) {
    let (Some(tensor), Some(device)) = (record.fields.get("tensor"), record.fields.get("device"))
    else {
        return;
    };
    let value = format!("{}={}", kept(tensor), kept(device));
    // The experts of a layer are several tensors; one of them stands for all.
    let experts = |value: &str| {
        let (layer, rest) = value.strip_prefix("blk.")?.split_once('.')?;
        let device = rest.rsplit('=').next()?;
        rest.contains("_exps").then(|| format!("{layer}={device}"))
    };
    let last = load.requested.overrides.last().and_then(|o| experts(&o.value));
    if last.is_some() && last == experts(&value) {
        return;
    }
    if load.requested.overrides.len() < LIST_MAX {
        load.requested.overrides.push(Seen { value, line: record.line });
    }
}

fn tensors_start(open: &mut Open, record: &Record<'_>) {
    let line = record.line;
    let mapped = match (record.fields.get("mmap"), record.fields.get("mode")) {
        (Some(mmap), _) => Some(mmap == "true"),
        (None, Some(mode)) => Some(mode.starts_with("mmap")),
        (None, None) => None,
    };
    open.load.requested.mmap = mapped.map(|value| Seen { value, line });
}

/// One buffer. Ollama's engine prints its figures anew for every layout that it tries.
fn buffer(open: &mut Open, record: &Record<'_>) {
    let fields = &record.fields;
    let kind = match record.kind {
        Kind::BufferKv => BufferKind::Kv,
        Kind::BufferCompute | Kind::BufferCompute2023 => BufferKind::Compute,
        Kind::BufferOutput => BufferKind::Output,
        Kind::BufferRecurrent => BufferKind::Recurrent,
        Kind::BufferAdapter => BufferKind::Adapter,
        Kind::BufferProjector => BufferKind::Projector,
        // With no layer on the GPU, what 2023's versions used there was scratch memory.
        Kind::VramUsed if open.load.layers.is_some_and(|l| l.offloaded == 0) => BufferKind::Compute,
        _ => BufferKind::Model,
    };
    let amount = ["mib", "mb", "model_mib"].iter().find_map(|name| fields.get(name));
    let bytes = match fields.get("size") {
        Some(text) => size(text),
        None => amount.and_then(decimal).and_then(mib),
    };
    // A trial allocates nothing, and says so.
    let Some(bytes) = bytes.filter(|bytes| !(open.trial && *bytes == 0)) else { return };
    let device = fields.get("device").map_or_else(|| early_device(record.kind).to_string(), kept);
    if record.kind == Kind::VramTotal {
        open.load.buffers.retain(|b| b.device != device);
    }
    if slog(record) {
        round(open, kind, &device);
    } else if kind == BufferKind::Compute && open.contexts <= 1 {
        // Reserving again replaces the buffer; a second context has one of its own.
        open.load.buffers.retain(|b| b.kind != kind || b.device != device);
    }
    push(&mut open.load, Buffer { kind, device, bytes, line: record.line });
}

/// Where memory is that a line of 2023 told without a device.
fn early_device(kind: Kind) -> &'static str {
    match kind {
        Kind::VramUsed | Kind::VramTotal => "VRAM",
        _ => "CPU",
    }
}

/// Weights after a graph begin another round of figures.
fn round(open: &mut Open, kind: BufferKind, device: &str) {
    let buffers = &mut open.load.buffers;
    if kind == BufferKind::Model && buffers.iter().any(|b| b.kind == BufferKind::Compute) {
        buffers.clear();
    }
    buffers.retain(|b| b.kind != kind || b.device != device);
}

/// Adds a buffer, if there is room.
pub(super) fn push(load: &mut Load, buffer: Buffer) {
    if load.buffers.len() < LIST_MAX {
        load.buffers.push(buffer);
    }
}

fn breakdown(load: &mut Load, record: &Record<'_>) {
    let fields = &record.fields;
    let in_mib = |name: &str| fields.number::<f64>(name).and_then(mib);
    let unaccounted = fields.number::<i64>("unaccounted_mib").map(|m| m.saturating_mul(1 << 20));
    let row = BreakdownRow {
        device: fields.get("device").map(kept).unwrap_or_default(),
        total_bytes: in_mib("total_mib"),
        free_bytes: in_mib("free_mib"),
        model_bytes: in_mib("model_mib").unwrap_or_default(),
        context_bytes: in_mib("context_mib").unwrap_or_default(),
        compute_bytes: in_mib("compute_mib").unwrap_or_default(),
        unaccounted_bytes: unaccounted,
        line: record.line,
    };
    load.breakdown.retain(|r| r.device != row.device);
    if load.breakdown.len() < LIST_MAX {
        load.breakdown.push(row);
    }
}

/// What a figure of the whole cache adds: models with a sliding window have two caches.
pub(super) fn add_kv(load: &mut Load, kv: KvCache) {
    load.kv = Some(match load.kv.take() {
        Some(known) if known.bytes.is_some() && kv.bytes.is_some() => KvCache {
            bytes: known.bytes.zip(kv.bytes).map(|(a, b)| a.saturating_add(b)),
            window_bytes_cells: known.window_bytes_cells.or_else(|| smaller(&known, &kv)),
            cells: known.cells.max(kv.cells),
            layers: known.layers.zip(kv.layers).map(|(a, b)| a + b).or(kv.layers),
            ..kv
        },
        Some(known) => KvCache {
            bytes: kv.bytes.or(known.bytes),
            cells: kv.cells.or(known.cells),
            window_bytes_cells: known.window_bytes_cells,
            layers: kv.layers.or(known.layers),
            sequences: kv.sequences.or(known.sequences),
            type_k: kv.type_k.or(known.type_k),
            type_v: kv.type_v.or(known.type_v),
            line: kv.line,
        },
        None => kv,
    });
}

/// Of two caches of one model, the one with fewer cells: bytes and cells.
fn smaller(a: &KvCache, b: &KvCache) -> Option<(u64, u64)> {
    let (one, other) = ((a.bytes?, a.cells?), (b.bytes?, b.cells?));
    match one.1.cmp(&other.1) {
        std::cmp::Ordering::Less => Some(one),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(other),
    }
}

/// The graph, made when it is first told of.
pub(super) fn graph(load: &mut Load) -> &mut Graph {
    load.graph.get_or_insert_with(Graph::default)
}

/// What a word says about flash attention.
pub(super) fn flash_attention(word: &str) -> Option<FlashAttention> {
    match word.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "enabled" => Some(FlashAttention::On),
        "0" | "false" | "off" | "disabled" => Some(FlashAttention::Off),
        "auto" | "-1" => Some(FlashAttention::Auto),
        _ => None,
    }
}
