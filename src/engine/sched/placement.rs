//! Which device holds which weight and which part of the KV cache, decided from the user's settings
//! exactly as llama.cpp decides it, before any byte is allocated.
//!
//! The rule for layers is llama.cpp's since early 2026: the output counts as the last layer, and
//! `-ngl N` offloads the last `N` of the `n_layer + 1`. See `src/llama-model.cpp`, `load_tensors`.

use std::sync::Arc;

use regex::Regex;

use crate::base::event::DeviceIndex;
use crate::engine::model::{CacheTensor, LayerClass, WeightInfo, WeightKind};

use super::assign::Residence;
use super::rows;

/// `-sm`: how a model is spread over several devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitMode {
    /// One device only, `-mg`.
    None,
    /// Whole layers.
    #[default]
    Layer,
    /// The rows of large matrices; everything else on one device, `-mg`.
    Row,
}

/// One `-ot` rule: weights whose name matches go to a device.
#[derive(Clone, Debug)]
pub struct TensorOverride {
    /// Searched in the weight's name.
    pub pattern: Regex,
    /// The device's name.
    pub device: String,
    /// The setting as typed, for the reason.
    pub origin: String,
}

/// The settings that place weights.
#[derive(Clone, Debug, Default)]
pub struct PlacementOptions {
    /// `-ngl`: how many of the `n_layer + 1` layers are offloaded.
    pub gpu_layers: usize,
    /// `-sm`.
    pub split_mode: SplitMode,
    /// `-ts`: share of each device, in layers or rows; empty means by free memory.
    pub tensor_split: Vec<f32>,
    /// `-mg`: the device that `-sm none` uses, and that holds with `-sm row` what is not spread.
    pub main_gpu: usize,
    /// `-ot`, `-cmoe` and `-ncmoe`; the first that matches wins.
    pub overrides: Vec<TensorOverride>,
    /// `-nkvo`: the KV cache and attention stay on the CPU.
    pub kv_on_host: bool,
}

/// A device that weights can go to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its free memory, by which layers are shared out without `-ts`.
    pub free_bytes: u64,
}

/// Where everything goes.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The device of each weight and cache tensor, with reasons.
    pub residence: Residence,
    /// Device of each repeating layer, and of the output last.
    pub layers: Vec<DeviceIndex>,
}

impl Placement {
    /// How many layers, the output counted, are not on the CPU.
    pub fn offloaded(&self, cpu: DeviceIndex) -> usize {
        self.layers.iter().filter(|&&d| d != cpu).count()
    }
}

/// Settings that name what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// `-mg` is past the last device.
    #[error("-mg {main_gpu}: there are only {devices} devices beside the CPU")]
    MainGpu {
        /// The value.
        main_gpu: usize,
        /// How many devices there are.
        devices: usize,
    },
    /// `-ts` has more entries than there are devices, a negative one, or only zeros.
    #[error("-ts {split:?}: needs up to {devices} shares, none negative, not all zero")]
    TensorSplit {
        /// The value, formatted.
        split: String,
        /// How many devices there are.
        devices: usize,
    },
    /// `-sm row` with more devices than one node can gather from.
    #[error("-sm row: {devices} devices are too many, {most} are possible")]
    TooManyParts {
        /// How many there are.
        devices: usize,
        /// How many there may be.
        most: usize,
    },
    /// `-ot` names no device of this session.
    #[error("{origin}: there is no device '{device}'; devices: {known}")]
    OverrideDevice {
        /// The setting as typed.
        origin: String,
        /// The name that is not there.
        device: String,
        /// The names that are.
        known: String,
    },
}

/// Places weights and caches. `targets` are the devices in order of priority, the CPU last.
///
/// # Errors
/// When a setting names what is not there.
pub fn place(
    weights: &[WeightInfo],
    caches: &[CacheTensor],
    n_layer: usize,
    targets: &[Target],
    options: &PlacementOptions,
) -> Result<Placement, PlacementError> {
    let cpu = DeviceIndex(targets.len() as u8 - 1);
    // Checked even where no weight matches: a wrong name is a mistake either way.
    for rule in &options.overrides {
        override_device(rule, targets)?;
    }
    let gpus = &targets[..targets.len() - 1];
    let layers = layer_devices(n_layer, gpus, options)?;
    let experts = expert_devices(n_layer, gpus, options)?;
    let mut residence = Residence::default();
    let mut spread = Vec::new();
    for (i, weight) in weights.iter().enumerate() {
        let by_user = overridden(weight, targets, options)?;
        let free = by_user.is_none();
        let (device, reason) = by_user.unwrap_or_else(|| {
            let devices = if weight.kind == WeightKind::Expert { &experts } else { &layers };
            by_layer(weight, devices, cpu, n_layer, options)
        });
        if free && device != cpu && options.split_mode == SplitMode::Row && rows::is_matrix(weight)
        {
            spread.push(i);
        }
        residence.weights.push(device);
        residence.weight_names.push(Arc::from(weight.name.as_str()));
        residence.weight_reasons.push(Arc::from(reason));
    }
    if options.split_mode == SplitMode::Row && gpus.len() > 1 {
        let shares = cumulative_shares(gpus, options)?;
        rows::spread(&mut residence, weights, &spread, &shares, gpus, options.main_gpu)?;
    }
    for cache in caches {
        residence.caches.push(if options.kv_on_host { cpu } else { layers[cache.layer] });
        residence.cache_names.push(Arc::from(cache.name.as_str()));
    }
    if options.kv_on_host && layers.iter().any(|&d| d != cpu) {
        let why = "-nkvo keeps the KV cache on the CPU, so attention runs there";
        residence.pin_attention = Some(Arc::from(why));
    }
    Ok(Placement { residence, layers })
}

/// The device of each layer, the output as the last one.
fn layer_devices(
    n_layer: usize,
    gpus: &[Target],
    options: &PlacementOptions,
) -> Result<Vec<DeviceIndex>, PlacementError> {
    let cpu = DeviceIndex(gpus.len() as u8);
    let total = n_layer + 1;
    let offloaded = if gpus.is_empty() { 0 } else { options.gpu_layers.min(total) };
    let first = total - offloaded;
    let bounds = cumulative_shares(gpus, options)?;
    let device_of = |il: usize| {
        if il < first {
            return cpu;
        }
        if options.split_mode != SplitMode::Layer {
            return DeviceIndex(options.main_gpu as u8);
        }
        let at = (il - first) as f32 / offloaded as f32;
        let device = bounds.partition_point(|&b| b <= at).min(gpus.len() - 1);
        DeviceIndex(device as u8)
    };
    Ok((0..total).map(device_of).collect())
}

/// The device of each layer's experts. A product by expert is not spread, so that with `-sm row` they
/// go where `-sm layer` has them.
fn expert_devices(
    n_layer: usize,
    gpus: &[Target],
    options: &PlacementOptions,
) -> Result<Vec<DeviceIndex>, PlacementError> {
    if options.split_mode != SplitMode::Row {
        return layer_devices(n_layer, gpus, options);
    }
    let by_layer = PlacementOptions { split_mode: SplitMode::Layer, ..options.clone() };
    layer_devices(n_layer, gpus, &by_layer)
}

/// Upper bound of each device's part of the offloaded layers, in `0.0..=1.0`.
fn cumulative_shares(
    gpus: &[Target],
    options: &PlacementOptions,
) -> Result<Vec<f32>, PlacementError> {
    if options.main_gpu >= gpus.len().max(1) {
        let devices = gpus.len();
        return Err(PlacementError::MainGpu { main_gpu: options.main_gpu, devices });
    }
    let split = &options.tensor_split;
    let mut shares: Vec<f32> = if split.is_empty() {
        gpus.iter().map(|g| g.free_bytes as f32).collect()
    } else {
        split.clone()
    };
    let given = shares.len();
    shares.resize(gpus.len().max(given), 0.0);
    let sum: f32 = shares.iter().sum();
    let bad = given > gpus.len() || shares.iter().any(|s| *s < 0.0 || !s.is_finite()) || sum <= 0.0;
    if bad && !(gpus.is_empty() && split.is_empty()) {
        return Err(PlacementError::TensorSplit {
            split: format!("{split:?}"),
            devices: gpus.len(),
        });
    }
    let mut upto = 0.0;
    Ok(shares
        .iter()
        .map(|s| {
            upto += s / sum;
            upto
        })
        .collect())
}

fn overridden(
    weight: &WeightInfo,
    targets: &[Target],
    options: &PlacementOptions,
) -> Result<Option<(DeviceIndex, String)>, PlacementError> {
    let Some(rule) = options.overrides.iter().find(|r| r.pattern.is_match(&weight.name)) else {
        return Ok(None);
    };
    Ok(Some((override_device(rule, targets)?, rule.origin.clone())))
}

fn override_device(
    rule: &TensorOverride,
    targets: &[Target],
) -> Result<DeviceIndex, PlacementError> {
    let found = targets.iter().position(|t| t.name.eq_ignore_ascii_case(&rule.device));
    found.map(|d| DeviceIndex(d as u8)).ok_or_else(|| PlacementError::OverrideDevice {
        origin: rule.origin.clone(),
        device: rule.device.clone(),
        known: targets.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

fn by_layer(
    weight: &WeightInfo,
    layers: &[DeviceIndex],
    cpu: DeviceIndex,
    n_layer: usize,
    options: &PlacementOptions,
) -> (DeviceIndex, String) {
    let (il, what) = match weight.class {
        LayerClass::Input => {
            return (cpu, "input weights stay on the CPU, as in llama.cpp".to_string());
        }
        LayerClass::Repeating(il) => (il, format!("layer {il}")),
        LayerClass::Output => (n_layer, "the output".to_string()),
    };
    let device = layers[il];
    let offloaded = layers.iter().filter(|&&d| d != cpu).count();
    let reason = if device != cpu {
        format!("{what} is among the last {offloaded} of {} that are offloaded", n_layer + 1)
    } else if cpu.0 == 0 {
        "there is no other device".to_string()
    } else {
        format!("-ngl {} does not reach {what} of {}", options.gpu_layers, n_layer + 1)
    };
    (device, reason)
}

/// The weights of experts, as `-cmoe` and `-ncmoe` mean them.
pub const EXPERT_WEIGHTS: &str = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps";

/// `-ot PATTERN=DEVICE[,PATTERN=DEVICE…]` as rules.
///
/// # Errors
/// A sentence that names the part that cannot be read.
pub fn parse_overrides(text: &str) -> Result<Vec<TensorOverride>, String> {
    text.split(',').map(parse_override).collect()
}

fn parse_override(rule: &str) -> Result<TensorOverride, String> {
    let Some((pattern, device)) = rule.rsplit_once('=') else {
        return Err(format!("-ot '{rule}': write it as PATTERN=DEVICE, like exps=CPU"));
    };
    let regex = Regex::new(pattern).map_err(|e| format!("-ot '{rule}': {e}"))?;
    Ok(TensorOverride { pattern: regex, device: device.to_string(), origin: format!("-ot {rule}") })
}

/// `-cmoe`: all experts on the CPU.
pub fn experts_on_cpu() -> TensorOverride {
    override_experts(EXPERT_WEIGHTS, "-cmoe")
}

/// `-ncmoe N`: the experts of the first `n` layers on the CPU.
pub fn first_experts_on_cpu(n: usize) -> Vec<TensorOverride> {
    let one = |il: usize| {
        override_experts(&format!(r"blk\.{il}{EXPERT_WEIGHTS}"), &format!("-ncmoe {n}"))
    };
    (0..n).map(one).collect()
}

fn override_experts(pattern: &str, origin: &str) -> TensorOverride {
    let pattern = Regex::new(pattern).expect("a pattern made of a constant and a number is valid");
    TensorOverride { pattern, device: "CPU".to_string(), origin: origin.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(layers: usize, free: &[u64], change: impl FnOnce(&mut PlacementOptions)) -> String {
        let gpu = |(i, &free_bytes): (usize, &u64)| Target { name: format!("GPU{i}"), free_bytes };
        let gpus: Vec<Target> = free.iter().enumerate().map(gpu).collect();
        let mut options = PlacementOptions { gpu_layers: 999, ..PlacementOptions::default() };
        change(&mut options);
        let placed = layer_devices(layers, &gpus, &options).unwrap();
        placed
            .iter()
            .map(|d| if d.0 as usize == free.len() { 'c' } else { (b'0' + d.0) as char })
            .collect()
    }

    #[test]
    fn the_output_goes_first_and_layer_0_last() {
        assert_eq!(devices(4, &[1], |_| {}), "00000");
        assert_eq!(devices(4, &[1], |o| o.gpu_layers = 1), "cccc0");
        assert_eq!(devices(4, &[1], |o| o.gpu_layers = 3), "cc000");
        assert_eq!(devices(4, &[1], |o| o.gpu_layers = 0), "ccccc");
        assert_eq!(devices(4, &[], |_| {}), "ccccc");
    }

    #[test]
    fn layers_are_shared_by_free_memory_or_as_told() {
        assert_eq!(devices(7, &[3, 1], |_| {}), "00000011");
        assert_eq!(devices(7, &[3, 1], |o| o.tensor_split = vec![1.0, 1.0]), "00001111");
        assert_eq!(devices(7, &[3, 1], |o| o.tensor_split = vec![0.0, 1.0]), "11111111");
        let main = |o: &mut PlacementOptions| (o.split_mode, o.main_gpu) = (SplitMode::None, 1);
        assert_eq!(devices(3, &[3, 1], main), "1111");
    }

    #[test]
    fn experts_are_found_by_name() {
        let all = experts_on_cpu().pattern;
        assert!(all.is_match("blk.3.ffn_gate_exps.weight"));
        assert!(
            !all.is_match("blk.3.ffn_gate.weight") && !all.is_match("blk.3.ffn_gate_inp.weight")
        );
        let first = first_experts_on_cpu(2);
        let hits = |name: &str| first.iter().any(|r| r.pattern.is_match(name));
        assert!(hits("blk.1.ffn_up_exps.weight") && !hits("blk.2.ffn_up_exps.weight"));
        assert!(!hits("blk.11.ffn_up_exps.weight"));
    }

    #[test]
    fn overrides_that_cannot_be_read_are_named() {
        assert!(parse_overrides("exps").unwrap_err().contains("PATTERN=DEVICE"));
        assert!(parse_overrides("(=CPU").unwrap_err().contains("-ot '(=CPU'"));
        assert_eq!(parse_overrides("a=CPU,b=GPU0").unwrap().len(), 2);
    }
}
