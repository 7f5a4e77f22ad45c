//! Opens the devices that the settings name, the CPU as the last one.

use crate::base::clock::now_ns;
use crate::base::event::{Event, Warning};
use crate::base::sink::Sink;
use crate::engine::backend::cpu::{CpuDevice, Threads, default_threads};
use crate::engine::backend::{
    CudaUnavailable, Device, DeviceError, DeviceKind, DeviceSpec, VirtualDevice, cuda_device_count,
    open_cuda_device,
};

use super::error::RuntimeError;
use super::options::RuntimeOptions;

/// The devices of a session.
pub struct OpenedDevices {
    /// In order of priority, the CPU last.
    pub devices: Vec<Box<dyn Device>>,
    /// How many threads compute, and why so many.
    pub threads: String,
    /// Which GPUs take part, or why none does.
    pub gpus: String,
}

/// Opens what `-dev` names.
///
/// # Errors
/// When a device that was named cannot be used.
pub fn open_devices(
    options: &RuntimeOptions,
    sink: &dyn Sink,
) -> Result<OpenedDevices, RuntimeError> {
    let (threads, reason) = threads(options);
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    let mut absent = None;
    for (i, spec) in options.devices.iter().enumerate() {
        match spec {
            DeviceSpec::Virtual(spec) => {
                devices.push(Box::new(VirtualDevice::new(i, spec.clone(), threads.clone())));
            }
            DeviceSpec::Cuda(index) => {
                if options.devices[..i].contains(spec) {
                    let problem = format!("CUDA{index} is named twice");
                    return Err(RuntimeError::Setting { setting: "-dev", problem });
                }
                devices.push(Box::new(open_cuda_device(*index)?));
            }
            DeviceSpec::Auto => absent = every_gpu(&mut devices, sink),
        }
    }
    reach_each_other(&mut devices, sink)?;
    let gpus: Vec<String> = devices
        .iter()
        .filter(|d| d.info().kind == DeviceKind::Cuda)
        .map(|d| format!("{} ({})", d.info().name, d.info().description))
        .collect();
    let gpus = match (gpus.is_empty(), absent) {
        (false, _) => gpus.join("; "),
        (true, Some(absent)) => format!("none: {absent}"),
        (true, None) if options.devices.is_empty() => "none was asked for (-dev none)".to_string(),
        (true, None) => "none was asked for".to_string(),
    };
    devices.push(Box::new(CpuDevice::new(threads)));
    Ok(OpenedDevices { devices, threads: reason, gpus })
}

fn threads(options: &RuntimeOptions) -> (Threads, String) {
    let (decode, mut reason) = match options.n_threads {
        0 => {
            let choice = default_threads();
            (choice.count, format!("{} ({})", choice.count, choice.reason))
        }
        n => (n, format!("{n} (as set)")),
    };
    let batch = if options.n_threads_batch == 0 { decode } else { options.n_threads_batch };
    if batch != decode {
        reason = format!("{reason}, {batch} for prompts");
    }
    (Threads::new(decode, batch), reason)
}

fn warn(sink: &dyn Sink, text: String) {
    sink.record(Event::Warning(Warning { at_ns: now_ns(), text }));
}

/// Opens every GPU that the driver offers. Why there is none is no error, since none was asked for
/// by name; it is a warning where a driver is there that ought to work.
fn every_gpu(devices: &mut Vec<Box<dyn Device>>, sink: &dyn Sink) -> Option<String> {
    let count = match cuda_device_count() {
        Ok(count) => count,
        Err(e) => {
            if !matches!(e, CudaUnavailable::NoLibrary { .. } | CudaUnavailable::NoDevice) {
                warn(sink, format!("{e}; computing without a GPU. {}", e.hint()));
            }
            return Some(e.to_string());
        }
    };
    let mut absent = None;
    for index in 0..count {
        match open_cuda_device(index) {
            Ok(device) => devices.push(Box::new(device)),
            Err(e) => {
                warn(sink, format!("CUDA{index} is left out: {e}"));
                absent = Some(e.to_string());
            }
        }
    }
    absent
}

/// Lets devices of a kind read each other's memory where the machine has a way for that, and tells
/// where it has none.
fn reach_each_other(devices: &mut [Box<dyn Device>], sink: &dyn Sink) -> Result<(), RuntimeError> {
    let failed = |e: DeviceError| RuntimeError::Compute(e.into());
    for a in 0..devices.len() {
        for b in a + 1..devices.len() {
            let Ok([one, other]) = devices.get_disjoint_mut([a, b]) else { continue };
            let there = one.reach(other.as_mut()).map_err(failed)?;
            let back = other.reach(one.as_mut()).map_err(failed)?;
            if there == Some(false) || back == Some(false) {
                let text = format!(
                    "{} and {} cannot reach each other's memory: the driver copies between them \
                     through the host",
                    one.info().name,
                    other.info().name
                );
                warn(sink, text);
            }
        }
    }
    Ok(())
}
