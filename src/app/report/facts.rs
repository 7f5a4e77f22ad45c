//! What is known of a model and its devices before anything runs.

use std::collections::BTreeMap;

use crate::base::event::DeviceIndex;
use crate::engine::backend::cpu::allowed_processors;
use crate::engine::backend::{DeviceInfo, DeviceKind};
use crate::engine::gguf::{Gguf, Value};
use crate::engine::model::memory::weight_bytes;
use crate::engine::model::{Blueprint, LayerClass, Model, WeightInfo, WeightKind};
use crate::engine::runtime::{DeviceBudget, GpuLayers, Setup};
use crate::engine::tensor::FileType;

use super::document::{
    ContextFacts, DeviceFacts, DeviceMemory, GraphFacts, LayerPlacement, MemoryFacts, ModelFacts,
    PartPlacement, PlacementFacts, SetupFact, WeightPlacement,
};
use super::process::peak_rss_bytes;

/// Everything about a model and its devices that no event tells; `rss_before_bytes` was measured before
/// it was loaded.
pub fn engine_facts(setup: Setup<'_>, rss_before_bytes: Option<u64>) -> SetupFact {
    let (options, summary) = (setup.options, setup.summary);
    SetupFact {
        model: model_facts(setup.model.gguf(), setup.model),
        devices: devices(setup),
        placement: placement(setup),
        memory: MemoryFacts { rss_before_bytes, ..memory(setup) },
        context: ContextFacts {
            n_ctx: options.n_ctx as u64,
            n_batch: options.n_batch as u64,
            n_ubatch: options.n_ubatch as u64,
            n_seq_max: options.n_seq_max as u64,
            type_k: options.type_k.name().to_string(),
            type_v: options.type_v.name().to_string(),
        },
        graph: GraphFacts {
            nodes: summary.nodes as u64,
            splits_prompt: summary.splits_prompt as u64,
            splits_decode: summary.splits_decode as u64,
        },
        threads: setup.threads.to_string(),
        isa: setup.isa().to_string(),
        weight_layout: setup.weight_layout().to_string(),
        gpus: setup.gpus.to_string(),
        processors_allowed: allowed_processors() as u64,
        processor_use: None,
    }
}

/// What a file's header says about its model.
pub(crate) fn model_facts(gguf: &Gguf, model: &Blueprint) -> ModelFacts {
    let h = model.hparams();
    let parameters: u64 = gguf.tensors().iter().map(|t| t.n_elements() as u64).sum();
    let file_bytes: u64 = gguf.tensors().iter().map(|t| t.bytes).sum();
    let name = gguf.metadata().str("general.name").ok().filter(|n| !n.is_empty());
    ModelFacts {
        name: name.map_or_else(|| short_name(gguf.name()), str::to_string),
        file: gguf.name().to_string(),
        architecture: model.arch().to_string(),
        file_type: file_type(gguf),
        parameters,
        weight_bytes: weight_bytes(model.weights(), h.n_layer).total as u64,
        bits_per_weight: file_bytes as f64 * 8.0 / parameters.max(1) as f64,
        layers: h.n_layer as u64,
        embedding: h.n_embd as u64,
        vocabulary: h.n_vocab as u64,
        context_trained: h.n_ctx_train as u64,
        experts: h.n_expert as u64,
        experts_used: h.n_expert_used as u64,
        notes: model.notes().to_vec(),
    }
}

/// A file's name without folder and ending.
fn short_name(file: &str) -> String {
    let stem = std::path::Path::new(file).file_stem();
    stem.map_or_else(|| file.to_string(), |s| s.to_string_lossy().into_owned())
}

/// The mix of types by the name that people know; without one, the type of most bytes.
fn file_type(gguf: &Gguf) -> String {
    let number = gguf.get("general.file_type").and_then(Value::as_integer);
    let known = number.and_then(|n| u32::try_from(n).ok()).and_then(FileType::from_ggml);
    if let Some(known) = known {
        return known.name().to_string();
    }
    let most = type_bytes(gguf).into_iter().max_by_key(|t| t.bytes);
    most.map_or_else(|| "no weights".to_string(), |t| format!("mostly {}", t.name))
}

/// Tensors and bytes of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeBytes {
    pub(crate) name: &'static str,
    pub(crate) tensors: u64,
    pub(crate) bytes: u64,
}

/// The types of a file's tensors, in the order in which they come.
pub(crate) fn type_bytes(gguf: &Gguf) -> Vec<TypeBytes> {
    let mut types: Vec<TypeBytes> = Vec::new();
    for tensor in gguf.tensors() {
        let name = tensor.dtype.name();
        match types.iter_mut().find(|t| t.name == name) {
            Some(found) => {
                found.tensors += 1;
                found.bytes += tensor.bytes;
            }
            None => types.push(TypeBytes { name, tensors: 1, bytes: tensor.bytes }),
        }
    }
    types
}

fn devices(setup: Setup<'_>) -> Vec<DeviceFacts> {
    let layers = &setup.placement.layers;
    let budgets = &setup.budget.devices;
    let one = |(i, info): (usize, &DeviceInfo)| {
        let budget = budgets.get(i).cloned().unwrap_or_default();
        DeviceFacts {
            name: info.name.clone(),
            description: info.description.clone(),
            is_virtual: info.kind == DeviceKind::Virtual,
            memory_bytes_total: budget.total_bytes,
            memory_bytes_free: budget.free_bytes,
            layers: layers.iter().filter(|d| d.0 as usize == i).count() as u64,
        }
    };
    setup.devices.iter().map(|d| d.info()).enumerate().map(one).collect()
}

fn device_name(setup: Setup<'_>, index: DeviceIndex) -> String {
    let device = setup.devices.get(index.0 as usize);
    device.map_or_else(|| format!("device {}", index.0), |d| d.info().name.clone())
}

fn placement(setup: Setup<'_>) -> PlacementFacts {
    let Setup { model, placement, fit, .. } = setup;
    let n_layer = model.hparams().n_layer;
    let caches: Vec<(usize, u64, DeviceIndex)> = setup
        .caches()
        .iter()
        .zip(&placement.residence.caches)
        .map(|(cache, &home)| (cache.layer, cache.bytes as u64, home))
        .collect();
    let kv_of = |il: usize| -> Vec<(DeviceIndex, u64)> {
        let of = caches.iter().filter(|(layer, ..)| *layer == il);
        of.map(|&(_, bytes, home)| (home, bytes)).collect()
    };
    let experts_of = |il: usize| -> Vec<(DeviceIndex, u64)> {
        let of = weights_of(setup, il).filter(|(w, _)| w.kind == WeightKind::Expert);
        of.map(|(w, home)| (home, w.bytes as u64)).collect()
    };
    let one = |(il, &device): (usize, &DeviceIndex)| LayerPlacement {
        layer: if il == n_layer { "output".to_string() } else { il.to_string() },
        device: device_name(setup, device),
        cause: layer_cause(setup, il, device),
        weight_bytes: weights_of(setup, il).map(|(w, _)| w.bytes as u64).sum(),
        kv: most(setup, &kv_of(il)),
        experts: most(setup, &experts_of(il)),
    };
    let cpu = DeviceIndex(setup.devices.len() as u8 - 1);
    PlacementFacts {
        layers_offloaded: placement.offloaded(cpu) as u64,
        layers_total: n_layer as u64 + 1,
        layers_asked: match setup.options.gpu_layers {
            GpuLayers::Auto => None,
            GpuLayers::Count(layers) => Some(layers as u64),
        },
        limit: fit.limit.clone(),
        embedding: embedding(setup),
        layers: placement.layers.iter().enumerate().map(one).collect(),
        exceptions: exceptions(setup, model),
    }
}

/// The weights of a layer, the output being the last one, each with its device.
fn weights_of(setup: Setup<'_>, il: usize) -> impl Iterator<Item = (&WeightInfo, DeviceIndex)> {
    let n_layer = setup.model.hparams().n_layer;
    let homes = setup.model.weights().iter().zip(&setup.placement.residence.weights);
    homes.filter(move |(w, _)| layer_of(w.class, n_layer) == Some(il)).map(|(w, &home)| (w, home))
}

/// All bytes, and the device that has most of them.
fn most(setup: Setup<'_>, parts: &[(DeviceIndex, u64)]) -> Option<PartPlacement> {
    let mut by_device: BTreeMap<DeviceIndex, u64> = BTreeMap::new();
    for (device, bytes) in parts {
        *by_device.entry(*device).or_default() += bytes;
    }
    let (&device, _) = by_device.iter().max_by_key(|(_, bytes)| **bytes)?;
    let bytes = by_device.values().sum();
    Some(PartPlacement { device: device_name(setup, device), bytes })
}

/// The table of token embeddings.
fn embedding(setup: Setup<'_>) -> Option<LayerPlacement> {
    let residence = &setup.placement.residence;
    let homes = residence.weights.iter().zip(&residence.weight_reasons);
    let mut weights = setup.model.weights().iter().zip(homes);
    let (weight, (&home, cause)) = weights.find(|(w, _)| w.kind == WeightKind::Embedding)?;
    Some(LayerPlacement {
        layer: "embedding".to_string(),
        device: device_name(setup, home),
        cause: cause.to_string(),
        weight_bytes: weight.bytes as u64,
        kv: None,
        experts: None,
    })
}

/// The layer that a weight belongs to, the output as the last one; `None` for the input's.
fn layer_of(class: LayerClass, n_layer: usize) -> Option<usize> {
    match class {
        LayerClass::Input => None,
        LayerClass::Repeating(il) => Some(il),
        LayerClass::Output => Some(n_layer),
    }
}

/// Why a layer is where it is: what the placement says of a weight that is there with it.
fn layer_cause(setup: Setup<'_>, il: usize, device: DeviceIndex) -> String {
    let (model, residence) = (setup.model, &setup.placement.residence);
    let n_layer = model.hparams().n_layer;
    let mut weights = model.weights().iter().enumerate();
    let found = weights.find(|(w, info)| {
        layer_of(info.class, n_layer) == Some(il) && residence.weights.get(*w) == Some(&device)
    });
    let reason = found.and_then(|(w, _)| residence.weight_reasons.get(w));
    reason.map_or_else(|| "all its weights were moved elsewhere".to_string(), ToString::to_string)
}

/// Weights that are not where their layer is. Without devices beside the CPU there are none.
fn exceptions(setup: Setup<'_>, model: &Model) -> Vec<WeightPlacement> {
    let (placement, mut found) = (setup.placement, Vec::<WeightPlacement>::new());
    if setup.devices.len() == 1 {
        return found;
    }
    let n_layer = model.hparams().n_layer;
    let residence = &placement.residence;
    let homes = residence.weights.iter().zip(&residence.weight_reasons);
    for (weight, (&home, cause)) in model.weights().iter().zip(homes) {
        let layer = layer_of(weight.class, n_layer).and_then(|il| placement.layers.get(il));
        if layer == Some(&home) {
            continue;
        }
        let device = device_name(setup, home);
        match found.iter_mut().find(|f| f.device == device && *f.cause == **cause) {
            Some(same) => same.count += 1,
            None => found.push(WeightPlacement {
                weight: weight.name.clone(),
                count: 1,
                device,
                cause: cause.to_string(),
            }),
        }
    }
    found
}

fn memory(setup: Setup<'_>) -> MemoryFacts {
    let budget = setup.budget;
    let one = |d: &DeviceBudget| DeviceMemory {
        device: d.device.clone(),
        weight_bytes: d.weight_bytes,
        kv_bytes: d.kv_bytes,
        compute_bytes: d.compute_bytes,
        scratch_bytes: d.scratch_bytes,
        needed_bytes: d.needed_bytes(),
        free_bytes: d.free_bytes,
        total_bytes: d.total_bytes,
    };
    // What lies on a GPU is no resident memory of this process.
    let kinds = setup.devices.iter().map(|d| d.info().kind);
    let on_gpus = budget.devices.iter().zip(kinds).filter(|(_, kind)| *kind == DeviceKind::Cuda);
    let on_gpus: u64 = on_gpus.map(|(d, _)| d.needed_bytes()).sum();
    MemoryFacts {
        devices: budget.devices.iter().map(one).collect(),
        output_bytes: budget.output_bytes,
        predicted_bytes: budget.needed_bytes() - on_gpus,
        rss_before_bytes: None,
        peak_rss_bytes: peak_rss_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_folder_and_ending() {
        assert_eq!(short_name("/models/tiny-llama.Q4_0.gguf"), "tiny-llama.Q4_0");
        assert_eq!(short_name("built-in"), "built-in");
    }
}
