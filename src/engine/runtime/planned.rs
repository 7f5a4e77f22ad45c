//! A model placed and cut from its header: nothing is allocated, no weight is read, nothing runs.

use std::sync::Arc;

use crate::base::event::{DeviceFact, PlanFact};
use crate::base::sink::Sink;
use crate::engine::backend::Device;
use crate::engine::backend::cpu::Isa;
use crate::engine::gguf::Gguf;
use crate::engine::model::{CacheTensor, Model, cache_tensors};
use crate::engine::sched::placement::Placement;
use crate::engine::sched::{Scheduler, device_facts, plan_fact};

use super::budget::MemoryBudget;
use super::devices::{OpenedDevices, open_devices};
use super::engine::{PlanSummary, Worst, cache_shape, read_header};
use super::error::RuntimeError;
use super::fit::{self, Candidate};
use super::options::{Fit, RuntimeOptions};

/// Everything that is decided about a model before anything runs.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The model.
    pub model: &'a Model,
    /// The settings, with every automatic choice made.
    pub options: &'a RuntimeOptions,
    /// The devices, in order of priority, the CPU last.
    pub devices: &'a [Box<dyn Device>],
    /// Where the layers are.
    pub placement: &'a Placement,
    /// What the model needs in memory, as predicted.
    pub budget: &'a MemoryBudget,
    /// How many layers are offloaded, and what stopped one more.
    pub fit: &'a Fit,
    /// How the worst-case graphs are cut.
    pub summary: PlanSummary,
    /// How many threads compute, and why so many.
    pub threads: &'a str,
    /// Which GPUs take part, or why none does.
    pub gpus: &'a str,
}

impl Setup<'_> {
    /// The CPU kernels that are chosen at run time.
    pub fn isa(&self) -> Isa {
        Isa::detect()
    }

    /// The tensors of the KV cache, as [`crate::engine::sched::Residence::caches`] numbers them.
    pub fn caches(&self) -> Vec<CacheTensor> {
        cache_tensors(self.model.hparams(), &cache_shape(self.model, self.options))
    }

    /// How the CPU's weights lie in memory, in words.
    pub fn weight_layout(&self) -> &'static str {
        if self.model.gguf().maps().is_empty() {
            "in memory, in the file's layout, not repacked"
        } else {
            "mapped from the file, in its layout, not repacked"
        }
    }
}

/// What was decided beside the settings.
pub(super) struct Decisions {
    pub(super) placement: Placement,
    pub(super) budget: MemoryBudget,
    pub(super) fit: Fit,
    pub(super) summary: PlanSummary,
    pub(super) threads: String,
    pub(super) gpus: String,
}

impl Decisions {
    /// All of it together.
    pub(super) fn setup<'a>(
        &'a self,
        model: &'a Model,
        options: &'a RuntimeOptions,
        scheduler: &'a Scheduler,
    ) -> Setup<'a> {
        Setup {
            model,
            options,
            devices: scheduler.devices(),
            placement: &self.placement,
            budget: &self.budget,
            fit: &self.fit,
            summary: self.summary,
            threads: &self.threads,
            gpus: &self.gpus,
        }
    }
}

/// What [`super::Engine::load`] would do with a model, up to the point where it takes memory.
pub struct Planned {
    /// How the largest prompt ubatch is cut.
    pub prompt: PlanFact,
    /// How the largest decode step is cut.
    pub decode: PlanFact,
    model: Model,
    options: RuntimeOptions,
    scheduler: Scheduler,
    decisions: Decisions,
}

impl Planned {
    /// Places a model on the devices of `options` and cuts its largest graphs.
    ///
    /// # Errors
    /// When the file cannot be used, a setting makes no sense, or the model does not fit.
    pub fn new(
        gguf: Arc<Gguf>,
        mut options: RuntimeOptions,
        sink: &Arc<dyn Sink>,
    ) -> Result<Self, RuntimeError> {
        let model = read_header(gguf, &mut options)?;
        let OpenedDevices { devices, threads, gpus } = open_devices(&options, sink.as_ref())?;
        let names: Vec<String> = devices.iter().map(|d| d.info().name.clone()).collect();
        let scheduler = Scheduler::new(devices, Arc::clone(sink));
        let cache = cache_shape(&model, &options);
        let (chosen, fit) = fit::choose(&model, &scheduler, &cache, &options, usize::MAX)?;
        let Candidate { placement, budget, plans, op_offload, .. } = chosen;
        options.op_offload = op_offload;
        let fact = |w: &Worst| plan_fact(&w.graph, &w.plan, &placement.residence, &names);
        let (prompt, decode) = (fact(&plans.prompt), fact(&plans.decode));
        let summary = PlanSummary::of(&plans);
        let decisions = Decisions { placement, budget, fit, summary, threads, gpus };
        Ok(Self { prompt, decode, model, options, scheduler, decisions })
    }

    /// What was decided.
    pub fn setup(&self) -> Setup<'_> {
        self.decisions.setup(&self.model, &self.options, &self.scheduler)
    }

    /// The devices as events tell them.
    pub fn devices(&self) -> Vec<DeviceFact> {
        device_facts(self.scheduler.devices())
    }
}
