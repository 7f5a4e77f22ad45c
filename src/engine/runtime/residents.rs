//! Puts weights and the KV cache onto their devices.
//!
//! The CPU uses weights where the file is mapped; other devices get copies, read from the file
//! rather than through the map, so that a model is not in host memory twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::base::event::DeviceIndex;
use crate::engine::backend::{BufferId, ForeignBytes};
use crate::engine::gguf::{Source, TensorInfo};
use crate::engine::model::{CacheShape, Model};
use crate::engine::sched::placement::Placement;
use crate::engine::sched::{ComputeError, Scheduler};

use super::engine::LoadProgress;
use super::error::RuntimeError;

/// Bytes read from a file at a time.
const CHUNK_BYTES: usize = 8 << 20;

/// Alignment of tensors within a device's buffer.
const ALIGN_BYTES: usize = 64;

/// Where a tensor of the file is on a device.
type Places = HashMap<(DeviceIndex, usize), (BufferId, usize)>;

/// Loads everything that outlives a graph.
pub(super) fn load(
    model: &Model,
    scheduler: &mut Scheduler,
    placement: &Placement,
    cache: &CacheShape,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(), RuntimeError> {
    let residence = &placement.residence;
    let places = load_weights(model, scheduler, &residence.weights, progress)?;
    let weights = model.weights().iter().zip(&residence.weights);
    let weights = weights.map(|(w, &d)| places[&(d, w.tensor)]).collect();
    let caches = alloc_caches(model, scheduler, &residence.caches, cache)?;
    scheduler.set_residents(residence.clone(), weights, caches);
    Ok(())
}

fn load_weights(
    model: &Model,
    scheduler: &mut Scheduler,
    homes: &[DeviceIndex],
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Places, RuntimeError> {
    let tensors = model.gguf().tensors();
    let mut wanted: Vec<Vec<usize>> = vec![Vec::new(); scheduler.devices().len()];
    for (weight, home) in model.weights().iter().zip(homes) {
        let list = &mut wanted[home.0 as usize];
        if !list.contains(&weight.tensor) {
            list.push(weight.tensor);
        }
    }
    let cpu = scheduler.cpu();
    let mut places = Places::new();
    let in_place = adopt(model, scheduler, cpu);
    let mut to_copy = Vec::new();
    for (d, list) in wanted.iter().enumerate() {
        let device = DeviceIndex(d as u8);
        for &t in list {
            let adopted = in_place.get(tensors[t].file).filter(|_| device == cpu);
            match adopted {
                Some(&(buffer, base)) if (base + tensors[t].offset as usize).is_multiple_of(4) => {
                    places.insert((device, t), (buffer, tensors[t].offset as usize));
                }
                _ => to_copy.push((device, t)),
            }
        }
    }
    let total_bytes = to_copy.iter().map(|&(_, t)| tensors[t].bytes).sum();
    let mut done_bytes = 0;
    for d in 0..wanted.len() {
        let device = DeviceIndex(d as u8);
        let list: Vec<usize> = to_copy.iter().filter(|c| c.0 == device).map(|c| c.1).collect();
        let size: usize =
            list.iter().map(|&t| (tensors[t].bytes as usize).next_multiple_of(ALIGN_BYTES)).sum();
        if size == 0 {
            continue;
        }
        let buffer =
            scheduler.device_mut(device).alloc(size, "the weights").map_err(ComputeError::from)?;
        let mut offset = 0;
        for t in list {
            copy_tensor(model, &tensors[t], &mut |at, bytes| {
                let written = scheduler.device_mut(device).write(buffer, offset + at, bytes);
                done_bytes += bytes.len() as u64;
                progress(LoadProgress { done_bytes, total_bytes });
                written.map_err(|e| ComputeError::from(e).into())
            })?;
            places.insert((device, t), (buffer, offset));
            offset += (tensors[t].bytes as usize).next_multiple_of(ALIGN_BYTES);
        }
    }
    Ok(places)
}

/// Makes each part of the model a read-only buffer of the CPU: the buffer and its address.
fn adopt(model: &Model, scheduler: &mut Scheduler, cpu: DeviceIndex) -> Vec<(BufferId, usize)> {
    let device = scheduler.device_mut(cpu);
    let mut add = |base: usize, bytes: ForeignBytes| device.adopt(bytes).map(|b| (b, base));
    match model.gguf().source() {
        Source::Maps(maps) => maps
            .iter()
            .filter_map(|m| {
                let keeper = ForeignBytes::from_keeper(Arc::clone(m), |m| m);
                add(m.as_ptr() as usize, keeper)
            })
            .collect(),
        Source::Static(bytes) => {
            add(bytes.as_ptr() as usize, ForeignBytes::from_static(bytes)).into_iter().collect()
        }
        Source::Memory(bytes) => {
            let keeper = ForeignBytes::from_keeper(Arc::new(Arc::clone(bytes)), |b| b);
            add(bytes.as_ptr() as usize, keeper).into_iter().collect()
        }
    }
}

/// Takes bytes of a tensor with their offset in it.
type Take<'a> = dyn FnMut(usize, &[u8]) -> Result<(), RuntimeError> + 'a;

/// Hands the bytes of a tensor to `take`, chunk by chunk with their offset.
fn copy_tensor(
    model: &Model,
    tensor: &TensorInfo,
    take: &mut Take<'_>,
) -> Result<(), RuntimeError> {
    let Source::Maps(maps) = model.gguf().source() else {
        return take(0, model.gguf().data(tensor));
    };
    let path = maps[tensor.file].path();
    let failed = |source| RuntimeError::Weights { file: path.display().to_string(), source };
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(tensor.offset)).map_err(failed)?;
    let (mut chunk, mut at) = (vec![0; CHUNK_BYTES.min(tensor.bytes as usize)], 0);
    while at < tensor.bytes as usize {
        let n = chunk.len().min(tensor.bytes as usize - at);
        file.read_exact(&mut chunk[..n]).map_err(failed)?;
        take(at, &chunk[..n])?;
        at += n;
    }
    Ok(())
}

fn alloc_caches(
    model: &Model,
    scheduler: &mut Scheduler,
    homes: &[DeviceIndex],
    shape: &CacheShape,
) -> Result<Vec<(BufferId, usize)>, RuntimeError> {
    let tensors = model.cache_tensors(shape);
    let mut sizes = vec![0; scheduler.devices().len()];
    let mut offsets = Vec::with_capacity(tensors.len());
    for (tensor, home) in tensors.iter().zip(homes) {
        let size: &mut usize = &mut sizes[home.0 as usize];
        offsets.push(*size);
        *size += tensor.bytes.next_multiple_of(ALIGN_BYTES);
    }
    let mut buffers = Vec::with_capacity(sizes.len());
    for (d, &size) in sizes.iter().enumerate() {
        let device = scheduler.device_mut(DeviceIndex(d as u8));
        let buffer = (size > 0).then(|| device.alloc(size, "the KV cache")).transpose();
        buffers.push(buffer.map_err(ComputeError::from)?);
    }
    let place = |(home, offset): (&DeviceIndex, usize)| {
        buffers[home.0 as usize].map(|buffer| (buffer, offset))
    };
    Ok(homes.iter().zip(offsets).filter_map(place).collect())
}
