//! Page-locked memory that copies between host and device go through.
//!
//! A copy from ordinary memory makes the driver do the same with a buffer of its own, and blocks the
//! host meanwhile. Invariant: a slot is touched by the host only after the copy that last used it
//! was reached by the device.

use std::sync::Arc;

use super::driver::{Context, CudaError, DeviceEvent, PinnedMemory, Stream};

/// Bytes of a slot: large enough to keep the link busy, small enough to be filled in time.
const SLOT_BYTES: usize = 4 << 20;

/// Slots: the host fills one while the device reads another.
const SLOTS: usize = 4;

struct Slot {
    memory: PinnedMemory,
    done: DeviceEvent,
}

/// See the module.
pub(super) struct Staging {
    context: Arc<Context>,
    slots: Vec<Slot>,
    next: usize,
}

impl Staging {
    /// No slot yet: they are made when the first copies come.
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), slots: Vec::new(), next: 0 }
    }

    /// The next slot, once the device is done with it.
    fn slot(&mut self) -> Result<&mut Slot, CudaError> {
        let at = self.next;
        self.next = (at + 1) % SLOTS;
        if at == self.slots.len() {
            let memory = PinnedMemory::alloc(&self.context, SLOT_BYTES)?;
            let done = DeviceEvent::new(&self.context)?;
            self.slots.push(Slot { memory, done });
        } else {
            self.slots[at].done.synchronize()?;
        }
        Ok(&mut self.slots[at])
    }

    /// Puts a copy of host bytes into the stream. The source is free again on return.
    ///
    /// # Safety
    /// The target lies in live memory of this device, which outlives the work.
    pub(super) unsafe fn copy_in(
        &mut self,
        stream: &Stream,
        address: u64,
        source: &[u8],
    ) -> Result<(), CudaError> {
        for (i, part) in source.chunks(SLOT_BYTES).enumerate() {
            let slot = self.slot()?;
            slot.memory.as_mut_slice()[..part.len()].copy_from_slice(part);
            let to = address + (i * SLOT_BYTES) as u64;
            // SAFETY: the target is the caller's word; the slot is left alone until `done`.
            unsafe { stream.copy_in(to, slot.memory.as_slice().as_ptr(), part.len()) }?;
            stream.record(&slot.done)?;
        }
        Ok(())
    }

    /// Copies bytes of the device to the host and waits for that, and for all work before it.
    ///
    /// # Safety
    /// The source lies in live memory of this device.
    pub(super) unsafe fn copy_out(
        &mut self,
        stream: &Stream,
        address: u64,
        target: &mut [u8],
    ) -> Result<(), CudaError> {
        let parts = target.len().div_ceil(SLOT_BYTES);
        let mut first = 0;
        // As many parts as there are slots at once, so that the link works while the host copies.
        while first < parts {
            let group = first..(first + SLOTS).min(parts);
            let mut used = Vec::with_capacity(SLOTS);
            for i in group.clone() {
                let at = self.next;
                let bytes = SLOT_BYTES.min(target.len() - i * SLOT_BYTES);
                let slot = self.slot()?;
                let from = address + (i * SLOT_BYTES) as u64;
                let to = slot.memory.as_mut_slice().as_mut_ptr();
                // SAFETY: the source is the caller's word; the slot is left alone until `done`.
                unsafe { stream.copy_out(to, from, bytes) }?;
                stream.record(&slot.done)?;
                used.push((at, i, bytes));
            }
            for (at, i, bytes) in used {
                self.slots[at].done.synchronize()?;
                let part = &mut target[i * SLOT_BYTES..][..bytes];
                part.copy_from_slice(&self.slots[at].memory.as_slice()[..bytes]);
            }
            first = group.end;
        }
        if parts == 0 { stream.synchronize() } else { Ok(()) }
    }
}
