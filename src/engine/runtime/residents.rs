//! Puts weights and the KV cache onto their devices.
//!
//! The CPU uses weights where the file is mapped; other devices get copies, read from the file
//! rather than through the map, so that a model is not in host memory twice.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use crate::base::event::DeviceIndex;
use crate::engine::backend::{BufferId, ForeignBytes};
use crate::engine::gguf::{Source, TensorInfo};
use crate::engine::model::{CacheShape, Model};
use crate::engine::sched::placement::Placement;
use crate::engine::sched::{ComputeError, Residence, Scheduler};

use super::engine::LoadProgress;
use super::error::RuntimeError;

/// Bytes read from a file at a time.
const CHUNK_BYTES: usize = 8 << 20;

/// Alignment of tensors within a device's buffer.
const ALIGN_BYTES: usize = 64;

/// A tensor of the file, by its index, whole or some of its rows.
type Piece = (usize, Option<Range<usize>>);

/// Where a piece is on a device.
type Places = HashMap<(DeviceIndex, Piece), (BufferId, usize)>;

/// Loads everything that outlives a graph.
pub(super) fn load(
    model: &Model,
    scheduler: &mut Scheduler,
    placement: &Placement,
    cache: &CacheShape,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(), RuntimeError> {
    let residence = &placement.residence;
    let places = load_weights(model, scheduler, residence, progress)?;
    let table = model.weights();
    let whole = table.iter().zip(&residence.weights);
    let whole = whole.map(|(w, &d)| places.get(&(d, (w.tensor, None))).copied());
    let parts = residence.parts.iter().map(|part| {
        let piece = (table[part.of.0 as usize].tensor, Some(part.rows.clone()));
        places.get(&(part.device, piece)).copied()
    });
    let weights = whole.chain(parts).collect();
    let caches = alloc_caches(model, scheduler, &residence.caches, cache)?;
    scheduler.set_residents(residence.clone(), weights, caches);
    Ok(())
}

fn load_weights(
    model: &Model,
    scheduler: &mut Scheduler,
    residence: &Residence,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Places, RuntimeError> {
    let tensors = model.gguf().tensors();
    let mut wanted: Vec<Vec<Piece>> = vec![Vec::new(); scheduler.devices().len()];
    let mut known = HashSet::new();
    for (id, rows, home) in residence.held() {
        let piece = (model.weights()[id.0 as usize].tensor, rows);
        if known.insert((home, piece.clone())) {
            wanted[home.0 as usize].push(piece);
        }
    }
    let cpu = scheduler.cpu();
    let mut places = Places::new();
    let in_place = adopt(model, scheduler, cpu);
    // What is not used where the file is mapped: its device, and its bytes within the tensor.
    let mut to_copy: Vec<(DeviceIndex, Piece, Range<u64>)> = Vec::new();
    for (d, list) in wanted.into_iter().enumerate() {
        let device = DeviceIndex(d as u8);
        for piece in list {
            let tensor = &tensors[piece.0];
            let adopted = in_place.get(tensor.file).filter(|_| device == cpu && piece.1.is_none());
            match adopted {
                Some(&(buffer, base)) if (base + tensor.offset as usize).is_multiple_of(4) => {
                    places.insert((device, piece), (buffer, tensor.offset as usize));
                }
                _ => {
                    let bytes = bytes_of(tensor, piece.1.as_ref());
                    to_copy.push((device, piece, bytes));
                }
            }
        }
    }
    let total_bytes = to_copy.iter().map(|(.., bytes)| bytes.end - bytes.start).sum();
    let mut done_bytes = 0;
    for list in to_copy.chunk_by(|a, b| a.0 == b.0) {
        let device = list[0].0;
        let room =
            |bytes: &Range<u64>| ((bytes.end - bytes.start) as usize).next_multiple_of(ALIGN_BYTES);
        let size = list.iter().map(|(.., bytes)| room(bytes)).sum();
        let buffer =
            scheduler.device_mut(device).alloc(size, "the weights").map_err(ComputeError::from)?;
        let mut offset = 0;
        for (_, piece, bytes) in list {
            copy_tensor(model, &tensors[piece.0], bytes.clone(), &mut |at, bytes| {
                let written = scheduler.device_mut(device).write(buffer, offset + at, bytes);
                done_bytes += bytes.len() as u64;
                progress(LoadProgress { done_bytes, total_bytes });
                written.map_err(|e| ComputeError::from(e).into())
            })?;
            places.insert((device, piece.clone()), (buffer, offset));
            offset += room(bytes);
        }
    }
    Ok(places)
}

/// The bytes of some rows within a matrix, or all of a tensor.
fn bytes_of(tensor: &TensorInfo, rows: Option<&Range<usize>>) -> Range<u64> {
    let row = tensor.bytes / tensor.ne[1].max(1) as u64;
    rows.map_or(0..tensor.bytes, |rows| row * rows.start as u64..row * rows.end as u64)
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

/// Hands these bytes of a tensor to `take`, chunk by chunk with their offset from the first.
fn copy_tensor(
    model: &Model,
    tensor: &TensorInfo,
    bytes: Range<u64>,
    take: &mut Take<'_>,
) -> Result<(), RuntimeError> {
    let Source::Maps(maps) = model.gguf().source() else {
        return take(0, &model.gguf().data(tensor)[bytes.start as usize..bytes.end as usize]);
    };
    let path = maps[tensor.file].path();
    let failed = |source| RuntimeError::Weights { file: path.display().to_string(), source };
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(tensor.offset + bytes.start)).map_err(failed)?;
    let size = (bytes.end - bytes.start) as usize;
    let (mut chunk, mut at) = (vec![0; CHUNK_BYTES.min(size)], 0);
    while at < size {
        let n = chunk.len().min(size - at);
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
