//! From a model file and settings to something that computes logits.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::clock::now_ns;
use crate::base::event::{DeviceIndex, Event, LoadStage, Span, SpanKind, Track, Warning};
use crate::base::sink::Sink;
use crate::engine::backend::cpu::{Isa, allowed_processors, oversubscribed};
use crate::engine::backend::{Device, DeviceError};
use crate::engine::gguf::Gguf;
use crate::engine::model::{CacheShape, GraphShape, Model, context_cells, window_cells};
use crate::engine::sched::{Allocation, ComputeError, Prepared, Scheduler, SplitPlan};
use crate::engine::tokenizer::{Tokenizer, Vocab};

use super::budget::MemoryBudget;
use super::cells::{CellTable, SeqId};
use super::devices::{OpenedDevices, open_devices};
use super::error::RuntimeError;
use super::fit::{self, Candidate};
use super::options::{Fit, GpuLayers, RuntimeOptions};
use super::planned::{Decisions, Setup};
use super::read_ahead::{ReadAhead, stretches};
use super::residents;

/// How many prepared graphs are kept; a decode run alternates between very few shapes.
pub(super) const PREPARED_MAX: usize = 8;

/// Bytes of weights put in place so far, and of all of them.
#[derive(Clone, Copy, Debug)]
pub struct LoadProgress {
    /// Done.
    pub done_bytes: u64,
    /// All.
    pub total_bytes: u64,
}

/// How the two worst-case graphs are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanSummary {
    /// Nodes of the decode graph.
    pub nodes: usize,
    /// Splits of a full prompt ubatch.
    pub splits_prompt: usize,
    /// Splits of a decode step.
    pub splits_decode: usize,
}

impl PlanSummary {
    pub(super) fn of(plans: &WorstCases) -> Self {
        Self {
            nodes: plans.decode.graph.nodes.len(),
            splits_prompt: plans.prompt.plan.splits.len(),
            splits_decode: plans.decode.plan.splits.len(),
        }
    }
}

/// A loaded model with its context.
pub struct Engine {
    pub(super) model: Model,
    pub(super) scheduler: Scheduler,
    pub(super) options: RuntimeOptions,
    pub(super) cache: CacheShape,
    pub(super) cells: CellTable,
    pub(super) cells_window: Option<CellTable>,
    pub(super) prepared: VecDeque<(GraphShape, Prepared)>,
    pub(super) next_ubatch: u64,
    tokenizer: Arc<Tokenizer>,
    decisions: Decisions,
    /// Goes on while the first prompt is computed, and ends with the engine.
    _reading: ReadAhead,
}

impl Engine {
    /// Loads a model: places it, puts its weights on the devices, and reserves all memory that any
    /// later call needs.
    ///
    /// # Errors
    /// When the file cannot be used, a setting makes no sense, or the memory is not there.
    pub fn load(
        gguf: Arc<Gguf>,
        mut options: RuntimeOptions,
        sink: &Arc<dyn Sink>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, RuntimeError> {
        let file = gguf.name().to_string();
        if let Some(complaint) = Isa::complaint() {
            let text = complaint.to_string();
            sink.record(Event::Warning(Warning { at_ns: now_ns(), text }));
        }
        let stage = |stage, start_ns, bytes| record_load(sink.as_ref(), stage, start_ns, bytes);
        let start_ns = now_ns();
        let model = read_header(gguf, &mut options)?;
        stage(LoadStage::Header, start_ns, 0);

        let OpenedDevices { devices, threads, gpus } = open_devices(&options, sink.as_ref())?;
        for threads in [options.n_threads, options.n_threads_batch] {
            if let Some(text) = oversubscribed(threads, allowed_processors()) {
                sink.record(Event::Warning(Warning { at_ns: now_ns(), text }));
                break;
            }
        }
        let cpu_only = devices.len() == 1;
        let mut scheduler = Scheduler::new(devices, Arc::clone(sink));
        let read_ahead = |scheduler: &Scheduler, on_cpu: &dyn Fn(usize) -> bool| {
            let free = scheduler.devices().last().map_or(0, |cpu| cpu.memory().free_bytes);
            ReadAhead::start(stretches(&model, on_cpu), free, sink)
        };
        // Without other devices every weight stays in the file, so reading can begin at once.
        let mut reading =
            if cpu_only { read_ahead(&scheduler, &|_| true) } else { ReadAhead::default() };

        let start_ns = now_ns();
        let tokenizer = Vocab::from_metadata(model.gguf().metadata()).and_then(Tokenizer::new);
        let tokenizer =
            tokenizer.map_err(|source| RuntimeError::Tokenizer { file: file.clone(), source })?;
        stage(LoadStage::Tokenizer, start_ns, 0);

        let cache = cache_shape(&model, &options);
        let (chosen, fit) = put_in_place(&model, &mut scheduler, &cache, &options, progress)?;
        let Candidate { placement, mut budget, plans, op_offload, .. } = chosen;
        options.op_offload = op_offload;
        if !cpu_only {
            let (cpu, homes) = (scheduler.cpu(), &placement.residence.weights);
            reading = read_ahead(&scheduler, &|weight| homes[weight] == cpu);
        }
        let summary = PlanSummary::of(&plans);
        for (entry, device) in budget.devices.iter_mut().zip(scheduler.devices()) {
            entry.scratch_bytes = device.scratch_bytes() as u64;
        }
        let h = model.hparams();
        let cells_window = (0..h.n_layer)
            .any(|il| h.is_window_layer(il))
            .then(|| CellTable::new(cache.n_cells_window, h.sliding_window.map(|w| w as usize)));
        Ok(Self {
            cells: CellTable::new(cache.n_cells, None),
            cells_window,
            model,
            scheduler,
            cache,
            options,
            prepared: VecDeque::new(),
            next_ubatch: 0,
            tokenizer: Arc::new(tokenizer),
            decisions: Decisions { placement, budget, fit, summary, threads, gpus },
            _reading: reading,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The settings, with every automatic choice made.
    pub fn options(&self) -> &RuntimeOptions {
        &self.options
    }

    /// The devices, in order of priority, the CPU last.
    pub fn devices(&self) -> &[Box<dyn Device>] {
        self.scheduler.devices()
    }

    /// Everything that was decided before anything ran.
    pub fn setup(&self) -> Setup<'_> {
        self.decisions.setup(&self.model, &self.options, &self.scheduler)
    }

    /// Forgets the tokens of a sequence from position `from` on.
    pub fn truncate(&mut self, seq: SeqId, from: i32) {
        self.cells.truncate(seq, from);
        if let Some(cells) = &mut self.cells_window {
            cells.truncate(seq, from);
        }
    }
}

fn record_load(sink: &dyn Sink, stage: LoadStage, start_ns: u64, bytes: u64) {
    let (track, kind) = (Track::Host, SpanKind::Load { stage });
    sink.record(Event::Span(Span { track, kind, start_ns, end_ns: now_ns(), bytes, tokens: 0 }));
}

/// Binds the file's header to its architecture, and settles the settings by it.
pub(super) fn read_header(
    gguf: Arc<Gguf>,
    options: &mut RuntimeOptions,
) -> Result<Model, RuntimeError> {
    let file = gguf.name().to_string();
    let named = |source| RuntimeError::Model { file: file.clone(), source };
    let model = Model::load(gguf).map_err(named)?;
    resolve(options, &model)?;
    model.check_cache_types(options.type_k, options.type_v).map_err(named)?;
    Ok(model)
}

/// Fills in what the settings leave to the model and checks the rest.
fn resolve(options: &mut RuntimeOptions, model: &Model) -> Result<(), RuntimeError> {
    let setting = |setting, problem| Err(RuntimeError::Setting { setting, problem });
    if options.n_ctx == 0 {
        options.n_ctx = model.hparams().n_ctx_train;
    }
    if options.n_seq_max == 0 || options.n_seq_max > SeqId::MAX {
        let problem = format!("{} sequences; 1 to {} are possible", options.n_seq_max, SeqId::MAX);
        return setting("-np", problem);
    }
    if options.n_batch == 0 || options.n_ubatch == 0 {
        return setting("-b, -ub", "a batch needs at least one token".to_string());
    }
    options.n_batch = options.n_batch.min(options.n_ctx);
    options.n_ubatch = options.n_ubatch.min(options.n_batch);
    if options.n_ctx < options.n_seq_max {
        let problem = format!("{} tokens for {} sequences", options.n_ctx, options.n_seq_max);
        return setting("-c", problem);
    }
    // 2^31 cells is the reach of the I32 row numbers; far below it lies any real context.
    if options.n_ctx > 1 << 28 {
        return setting("-c", format!("{} tokens are more than any model takes", options.n_ctx));
    }
    Ok(())
}

pub(super) fn cache_shape(model: &Model, options: &RuntimeOptions) -> CacheShape {
    let window = model.hparams().sliding_window.map_or(0, |w| w as usize);
    CacheShape {
        n_cells: context_cells(options.n_ctx),
        n_cells_window: window_cells(options.n_ctx, window, options.n_seq_max, options.n_ubatch),
        type_k: options.type_k,
        type_v: options.type_v,
    }
}

/// Chooses a placement and puts everything in place that outlives a graph. With `-ngl auto` a device
/// that turns out to have less memory than it said gets fewer layers.
fn put_in_place(
    model: &Model,
    scheduler: &mut Scheduler,
    cache: &CacheShape,
    options: &RuntimeOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(Candidate, Fit), RuntimeError> {
    let (mut layers_max, mut failed) = (usize::MAX, None);
    loop {
        let (chosen, mut fit) = fit::choose(model, scheduler, cache, options, layers_max)?;
        fit.limit = fit.limit.or(failed);
        let Err(error) = fill(model, scheduler, &chosen, cache, progress) else {
            return Ok((chosen, fit));
        };
        if !is_lack_of_memory(&error) {
            return Err(error);
        }
        scheduler.release();
        if options.gpu_layers != GpuLayers::Auto || chosen.gpu_layers == 0 {
            return Err(too_large(error, chosen.budget, model, scheduler, cache, options));
        }
        let text = format!("-ngl {} did not fit after all: {error}", chosen.gpu_layers);
        let warning = Warning { at_ns: now_ns(), text: format!("{text}; trying fewer layers") };
        scheduler.sink().record(Event::Warning(warning));
        (layers_max, failed) = (chosen.gpu_layers - 1, Some(text));
    }
}

/// Loads the weights, makes the cache and the arenas, and compiles the largest graphs, so that
/// nothing grows later.
fn fill(
    model: &Model,
    scheduler: &mut Scheduler,
    chosen: &Candidate,
    cache: &CacheShape,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(), RuntimeError> {
    let Candidate { placement, budget, plans, .. } = chosen;
    let sink = Arc::clone(scheduler.sink());
    let compiled_ns =
        |scheduler: &Scheduler| scheduler.devices().iter().map(|d| d.compile_ns()).sum::<u64>();
    let start_ns = now_ns();
    for (d, need) in budget.devices.iter().enumerate() {
        let device = scheduler.device_mut(DeviceIndex(d as u8));
        device.reserve_scratch(need.scratch_bytes as usize).map_err(ComputeError::from)?;
    }
    residents::load(model, scheduler, placement, cache, progress)?;
    let weight_bytes = budget.devices.iter().map(|d| d.weight_bytes).sum();
    record_load(sink.as_ref(), LoadStage::Weights, start_ns, weight_bytes);

    let start_ns = now_ns();
    let arenas: Vec<usize> = budget.devices.iter().map(|d| d.compute_bytes as usize).collect();
    scheduler.reserve(&arenas).map_err(ComputeError::from)?;
    let compiled_before_ns = compiled_ns(scheduler);
    for worst in [&plans.prompt, &plans.decode] {
        scheduler.prepare(&worst.graph, &worst.plan, &worst.allocation)?;
    }
    let compile_ns = compiled_ns(scheduler) - compiled_before_ns;
    if compile_ns > 0 {
        // Its share of the time is told apart, as if it had come last.
        record_load(sink.as_ref(), LoadStage::Kernels, now_ns() - compile_ns, 0);
    }
    let reserved_ns = now_ns().saturating_sub(compile_ns).max(start_ns);
    let (track, kind) = (Track::Host, SpanKind::Load { stage: LoadStage::Reserve });
    let span = Span { track, kind, start_ns, end_ns: reserved_ns, bytes: 0, tokens: 0 };
    sink.record(Event::Span(span));
    Ok(())
}

fn is_lack_of_memory(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Compute(ComputeError::Device(DeviceError::Alloc(_))))
}

/// Turns a lack of memory into an error that shows the budget and says what would fit.
fn too_large(
    error: RuntimeError,
    budget: MemoryBudget,
    model: &Model,
    scheduler: &Scheduler,
    cache: &CacheShape,
    options: &RuntimeOptions,
) -> RuntimeError {
    match error {
        RuntimeError::Compute(source) => {
            let advice = fit::advice(model, scheduler, cache, options);
            RuntimeError::DoesNotFit { source, budget: Box::new(budget), advice }
        }
        other => other,
    }
}

/// A worst-case graph, cut and with its memory planned.
pub(super) struct Worst {
    pub(super) graph: crate::engine::graph::Graph,
    pub(super) plan: SplitPlan,
    pub(super) allocation: Allocation,
}

/// The largest prompt ubatch and the largest decode step.
pub(super) struct WorstCases {
    pub(super) prompt: Worst,
    pub(super) decode: Worst,
}

/// The CPU's index among `n` devices.
pub(super) fn cpu_of(n: usize) -> DeviceIndex {
    DeviceIndex(n as u8 - 1)
}
