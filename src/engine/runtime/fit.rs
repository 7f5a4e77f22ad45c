//! Chooses how many layers to offload: as told, or as many as fit. Plans with the real scheduler and
//! the real memory planner; nothing is allocated.

use std::collections::HashSet;

use crate::base::units::Bytes;
use crate::engine::backend::AllocError;
use crate::engine::backend::DeviceKind;
use crate::engine::model::{CacheShape, GraphShape, Model, Wanted};
use crate::engine::sched::placement::{Placement, Target, place};
use crate::engine::sched::{ComputeError, Scheduler, spread};

use super::budget::{DeviceBudget, MemoryBudget};
use super::engine::{Worst, WorstCases, cpu_of};
use super::error::RuntimeError;
use super::options::{Fit, GpuLayers, RuntimeOptions};
use super::sampler::TOP_MAX;

/// One possible placement with its needs.
pub(super) struct Candidate {
    pub(super) gpu_layers: usize,
    /// Whether large batches bring host weights to a device.
    pub(super) op_offload: bool,
    pub(super) placement: Placement,
    pub(super) budget: MemoryBudget,
    pub(super) plans: WorstCases,
}

/// The placement that the settings ask for, or with `-ngl auto` the largest that fits and offloads at
/// most `layers_max`.
pub(super) fn choose(
    model: &Model,
    scheduler: &Scheduler,
    cache: &CacheShape,
    options: &RuntimeOptions,
    layers_max: usize,
) -> Result<(Candidate, Fit), RuntimeError> {
    let all = (model.hparams().n_layer + 1).min(layers_max);
    match options.gpu_layers {
        GpuLayers::Count(n) => {
            let chosen = candidate(model, scheduler, cache, options, n)?;
            let gpu_layers = chosen.placement.offloaded(cpu_of(scheduler.devices().len()));
            if let Some(error) = lacking(&chosen.budget, scheduler) {
                let advice = advice(model, scheduler, cache, options);
                let (source, budget) = (ComputeError::from(error), Box::new(chosen.budget));
                return Err(RuntimeError::DoesNotFit { source, budget, advice });
            }
            Ok((chosen, Fit { gpu_layers, limit: None }))
        }
        GpuLayers::Auto => {
            let top = if scheduler.devices().len() == 1 { 0 } else { all };
            largest_that_fits(model, scheduler, cache, options, top)
        }
    }
}

fn largest_that_fits(
    model: &Model,
    scheduler: &Scheduler,
    cache: &CacheShape,
    options: &RuntimeOptions,
    top: usize,
) -> Result<(Candidate, Fit), RuntimeError> {
    let mut limit = None;
    for n in (0..=top).rev() {
        let tried = candidate(model, scheduler, cache, options, n)?;
        match lacking(&tried.budget, scheduler) {
            Some(error) if n > 0 => limit = Some(format!("-ngl {n} does not fit: {error}")),
            // A device that cannot even take a large batch's weights in passing is left idle.
            Some(error) if options.op_offload => {
                let idle = RuntimeOptions { op_offload: false, ..options.clone() };
                let limit = format!("-ngl 0 with op offload does not fit: {error}");
                let (tried, mut fit) = largest_that_fits(model, scheduler, cache, &idle, 0)?;
                fit.limit = Some(limit);
                return Ok((tried, fit));
            }
            Some(error) => {
                let (source, budget) = (ComputeError::from(error), Box::new(tried.budget));
                let advice = "lower -c, or take weights off the device with -ot".to_string();
                return Err(RuntimeError::DoesNotFit { source, budget, advice });
            }
            None => return Ok((tried, Fit { gpu_layers: n, limit })),
        }
    }
    Err(RuntimeError::Setting { setting: "-ngl", problem: "nothing fits".to_string() })
}

/// What would fit instead of the settings, as a hint.
pub(super) fn advice(
    model: &Model,
    scheduler: &Scheduler,
    cache: &CacheShape,
    options: &RuntimeOptions,
) -> String {
    let top = model.hparams().n_layer + 1;
    match largest_that_fits(model, scheduler, cache, options, top) {
        Ok((fits, _)) if fits.gpu_layers > 0 => format!(
            "-ngl {} fits with these settings; a smaller -c or -ub, or -ctk q8_0 -ctv q8_0, makes \
             room for more",
            fits.gpu_layers
        ),
        Ok(_) => "no layer fits on the device; lower -c or -ub, or use -ngl 0".to_string(),
        Err(_) => {
            "lower -c, choose a smaller KV type (-ctk q8_0 -ctv q8_0), or free memory".to_string()
        }
    }
}

/// Plans one number of layers.
fn candidate(
    model: &Model,
    scheduler: &Scheduler,
    cache: &CacheShape,
    options: &RuntimeOptions,
    gpu_layers: usize,
) -> Result<Candidate, RuntimeError> {
    let devices = scheduler.devices();
    let targets: Vec<Target> = devices
        .iter()
        .map(|d| Target { name: d.info().name.clone(), free_bytes: d.memory().free_bytes })
        .collect();
    let caches = model.cache_tensors(cache);
    let mut settings = options.placement.clone();
    settings.gpu_layers = gpu_layers;
    let n_layer = model.hparams().n_layer;
    let placement = place(model.weights(), &caches, n_layer, &targets, &settings)?;
    let outputs = options.n_seq_max;
    let worst = |n_tokens: usize| -> Result<Worst, RuntimeError> {
        let shape = GraphShape {
            n_tokens,
            n_outputs: outputs.min(n_tokens),
            // Needs a little more memory than all logits, which are there too.
            wanted: Wanted::Top(TOP_MAX.min(model.hparams().n_vocab)),
            n_kv: cache.n_cells,
            n_kv_window: cache.n_cells_window,
            cache: *cache,
            rope_ctx: options.n_ctx / options.n_seq_max,
        };
        let graph = spread(model.build(&shape)?, &placement.residence);
        let (plan, allocation) = scheduler
            .plan(&graph, &placement.residence, options.op_offload)
            .map_err(ComputeError::from)?;
        Ok(Worst { graph, plan, allocation })
    };
    let plans = WorstCases { prompt: worst(options.n_ubatch)?, decode: worst(outputs)? };
    let scratch = |w: &Worst| scheduler.plan_scratch(&w.graph, &w.plan).map_err(ComputeError::from);
    let scratch = [scratch(&plans.prompt)?, scratch(&plans.decode)?];
    let mut entries: Vec<DeviceBudget> = targets
        .iter()
        .zip(devices)
        .map(|(t, d)| {
            let memory = d.memory();
            DeviceBudget {
                device: t.name.clone(),
                free_bytes: memory.free_bytes,
                total_bytes: memory.total_bytes,
                ..DeviceBudget::default()
            }
        })
        .collect();
    // One copy of a tensor serves all its uses on a device.
    let mut counted = HashSet::new();
    for (id, rows, home) in placement.residence.held() {
        let weight = &model.weights()[id.0 as usize];
        let bytes = match &rows {
            Some(rows) => weight.bytes / weight.ne[1] * rows.len(),
            None => weight.bytes,
        };
        if counted.insert((weight.tensor, rows, home)) {
            entries[home.0 as usize].weight_bytes += bytes as u64;
        }
    }
    for (cache, home) in caches.iter().zip(&placement.residence.caches) {
        entries[home.0 as usize].kv_bytes += cache.bytes as u64;
    }
    for (d, entry) in entries.iter_mut().enumerate() {
        let arenas = [&plans.prompt, &plans.decode].map(|w| w.allocation.arena_bytes[d] as u64);
        entry.compute_bytes = arenas[0].max(arenas[1]);
        entry.scratch_bytes = scratch[0][d].max(scratch[1][d]) as u64;
    }
    let output_bytes = (outputs * model.hparams().n_vocab * size_of::<f32>()) as u64;
    let budget = MemoryBudget { devices: entries, output_bytes };
    let op_offload = options.op_offload;
    Ok(Candidate { gpu_layers, op_offload, placement, budget, plans })
}

/// The first device that cannot hold its part. The CPU's weights are mapped from the file and can
/// be dropped again, so they do not count against its free memory.
fn lacking(budget: &MemoryBudget, scheduler: &Scheduler) -> Option<AllocError> {
    budget.devices.iter().zip(scheduler.devices()).find_map(|(need, device)| {
        let mapped = if device.info().kind == DeviceKind::Cpu { need.weight_bytes } else { 0 };
        let wanted_bytes = need.needed_bytes() - mapped + device.headroom_bytes();
        (wanted_bytes > need.free_bytes).then(|| AllocError {
            device: need.device.clone(),
            what: match device.headroom_bytes() {
                0 => "the model (weights, KV cache and compute buffer)".to_string(),
                spare => format!(
                    "the model (weights, KV cache, compute and scratch buffers, and {} for the driver)",
                    Bytes(spare)
                ),
            },
            wanted_bytes,
            free_bytes: need.free_bytes,
            total_bytes: need.total_bytes,
        })
    })
}
