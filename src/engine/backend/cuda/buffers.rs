//! The buffers of one device.
//!
//! Invariant: an address made from a buffer stays valid while an `Arc` of the buffer lives, which
//! every compiled program holds.

use std::sync::Arc;

use crate::engine::backend::device::{BoundTensor, BufferId};

use super::driver::{Context, CudaError, DeviceMemory};
use super::launch::Operand;

/// See the module.
#[derive(Default)]
pub(super) struct DeviceBuffers {
    slots: Vec<(u32, Option<Arc<DeviceMemory>>)>,
}

impl DeviceBuffers {
    /// A buffer with arbitrary contents.
    pub(super) fn alloc(
        &mut self,
        context: &Arc<Context>,
        bytes: usize,
    ) -> Result<BufferId, CudaError> {
        let memory = Some(Arc::new(DeviceMemory::alloc(context, bytes)?));
        if let Some(slot) = self.slots.iter().position(|s| s.1.is_none()) {
            self.slots[slot].1 = memory;
            return Ok(BufferId { slot: slot as u32, generation: self.slots[slot].0 });
        }
        self.slots.push((0, memory));
        Ok(BufferId { slot: self.slots.len() as u32 - 1, generation: 0 })
    }

    /// Forgets a buffer; its bytes go when the last program that uses them goes.
    pub(super) fn free(&mut self, id: BufferId) {
        if let Some((generation, slot)) = self.slots.get_mut(id.slot as usize)
            && *generation == id.generation
            && slot.take().is_some()
        {
            *generation += 1;
        }
    }

    /// Forgets all buffers.
    pub(super) fn free_all(&mut self) {
        for (generation, slot) in &mut self.slots {
            *generation += u32::from(slot.take().is_some());
        }
    }

    pub(super) fn get(&self, id: BufferId) -> Option<&Arc<DeviceMemory>> {
        let (generation, memory) = self.slots.get(id.slot as usize)?;
        if *generation == id.generation { memory.as_ref() } else { None }
    }

    /// The address of `bytes` at `offset` of a buffer; `None` when they leave it.
    pub(super) fn range(&self, id: BufferId, offset: usize, bytes: usize) -> Option<u64> {
        let memory = self.get(id)?;
        let end = offset.checked_add(bytes)?;
        (end <= memory.bytes()).then(|| memory.address() + offset as u64)
    }

    /// A tensor as launches see it, after checking that it lies in its buffer.
    pub(super) fn resolve(
        &self,
        tensor: &BoundTensor,
    ) -> Result<(Operand, &Arc<DeviceMemory>), String> {
        let memory = self.get(tensor.buffer).ok_or("the buffer is gone")?;
        let span = tensor.span_bytes().ok_or("its extents cut a block or overflow")?;
        let address = self.range(tensor.buffer, tensor.offset, span).ok_or_else(|| {
            let end = tensor.offset.saturating_add(span);
            format!("it ends at byte {end} of {}", memory.bytes())
        })?;
        // Blocks are read in pieces of their own alignment; plain types as themselves.
        let align = if tensor.dtype.is_quantised() { 1 } else { tensor.dtype.block_bytes() };
        if !address.is_multiple_of(align as u64) {
            return Err(format!("its address is no multiple of {align}"));
        }
        let operand = Operand { address, dtype: tensor.dtype, ne: tensor.ne, nb: tensor.nb };
        Ok((operand, memory))
    }
}
