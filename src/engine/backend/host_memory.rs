//! Buffers in host memory, for the CPU and for virtual devices.
//!
//! Invariant: a pointer made from a buffer stays valid while an `Arc` of the buffer lives, which
//! every compiled program holds. Writes happen only through `&mut` of the device that owns the
//! table, so no reader overlaps a writer.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use super::device::{BoundTensor, BufferId};

/// Alignment of owned buffers: a cache line.
const ALIGN_BYTES: usize = 64;

/// Host bytes that something else keeps alive: a mapped file, or the program's own image.
pub struct ForeignBytes {
    ptr: NonNull<u8>,
    bytes: usize,
    _keeper: Option<Arc<dyn Any + Send + Sync>>,
}

// SAFETY: the bytes are read-only and outlive the keeper, which is itself shareable.
unsafe impl Send for ForeignBytes {}
// SAFETY: as above.
unsafe impl Sync for ForeignBytes {}

impl ForeignBytes {
    /// Bytes inside the program's image.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Self { ptr: NonNull::from(bytes).cast(), bytes: bytes.len(), _keeper: None }
    }

    /// The bytes that `part` finds in `keeper`, which is held as long as they are in use.
    pub fn from_keeper<T: Any + Send + Sync>(
        keeper: Arc<T>,
        part: impl FnOnce(&T) -> &[u8],
    ) -> Self {
        let bytes = part(&keeper);
        let (ptr, len) = (NonNull::from(bytes).cast(), bytes.len());
        Self { ptr, bytes: len, _keeper: Some(keeper) }
    }
}

enum Owner {
    Heap(Layout),
    Foreign(#[allow(dead_code, reason = "held for its lifetime")] ForeignBytes),
}

/// One buffer of host memory.
pub(super) struct HostBuffer {
    ptr: NonNull<u8>,
    bytes: usize,
    owner: Owner,
}

// SAFETY: the buffer is plain bytes; who may touch them when is the table's invariant.
unsafe impl Send for HostBuffer {}
// SAFETY: as above.
unsafe impl Sync for HostBuffer {}

impl HostBuffer {
    fn zeroed(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(1), ALIGN_BYTES).ok()?;
        // SAFETY: the layout's size is at least 1.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { ptr, bytes, owner: Owner::Heap(layout) })
    }

    fn is_writable(&self) -> bool {
        matches!(self.owner, Owner::Heap(_))
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: the bytes are initialised (zeroed or foreign) and live as long as `self`; the
        // table's invariant keeps writers away.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.bytes) }
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        if let Owner::Heap(layout) = self.owner {
            // SAFETY: allocated with this very layout, freed once.
            unsafe { dealloc(self.ptr.as_ptr(), layout) };
        }
    }
}

/// The buffers of one device.
#[derive(Default)]
pub(super) struct HostBuffers {
    slots: Vec<(u32, Option<Arc<HostBuffer>>)>,
    owned_bytes: u64,
}

impl HostBuffers {
    /// Bytes of the buffers that the table owns; adopted ones are not counted.
    pub(super) fn owned_bytes(&self) -> u64 {
        self.owned_bytes
    }

    /// A zeroed buffer; `None` when the host has not the memory.
    pub(super) fn alloc(&mut self, bytes: usize) -> Option<BufferId> {
        let buffer = HostBuffer::zeroed(bytes)?;
        self.owned_bytes += bytes as u64;
        Some(self.insert(buffer))
    }

    /// A read-only buffer over foreign bytes.
    pub(super) fn adopt(&mut self, foreign: ForeignBytes) -> BufferId {
        let (ptr, bytes) = (foreign.ptr, foreign.bytes);
        self.insert(HostBuffer { ptr, bytes, owner: Owner::Foreign(foreign) })
    }

    fn insert(&mut self, buffer: HostBuffer) -> BufferId {
        let buffer = Some(Arc::new(buffer));
        if let Some(slot) = self.slots.iter().position(|s| s.1.is_none()) {
            self.slots[slot].1 = buffer;
            return BufferId { slot: slot as u32, generation: self.slots[slot].0 };
        }
        self.slots.push((0, buffer));
        BufferId { slot: self.slots.len() as u32 - 1, generation: 0 }
    }

    /// Forgets a buffer; its bytes go when the last program that uses them goes.
    pub(super) fn free(&mut self, id: BufferId) {
        let Some((generation, slot)) = self.slots.get_mut(id.slot as usize) else { return };
        if *generation == id.generation
            && let Some(buffer) = slot.take()
        {
            *generation += 1;
            if buffer.is_writable() {
                self.owned_bytes -= buffer.bytes as u64;
            }
        }
    }

    /// Forgets all buffers.
    pub(super) fn free_all(&mut self) {
        for (generation, slot) in &mut self.slots {
            *generation += u32::from(slot.take().is_some());
        }
        self.owned_bytes = 0;
    }

    fn get(&self, id: BufferId) -> Option<&Arc<HostBuffer>> {
        let (generation, buffer) = self.slots.get(id.slot as usize)?;
        if *generation == id.generation { buffer.as_ref() } else { None }
    }

    /// The bytes of a buffer.
    pub(super) fn bytes(&self, id: BufferId) -> Option<&[u8]> {
        self.get(id).map(|b| b.as_slice())
    }

    /// The bytes of a buffer that may be written.
    pub(super) fn bytes_mut(&mut self, id: BufferId) -> Option<&mut [u8]> {
        let buffer = self.get(id).filter(|b| b.is_writable())?;
        // SAFETY: the memory is owned and initialised; `&mut self` excludes every other access
        // through the table, and programs run only under `&mut` of the device that has the table.
        Some(unsafe { std::slice::from_raw_parts_mut(buffer.ptr.as_ptr(), buffer.bytes) })
    }

    /// The address of a tensor, after checking that it lies in its buffer and, for a result, that
    /// the buffer may be written. The `Arc` keeps the address valid.
    pub(super) fn resolve(
        &self,
        tensor: &BoundTensor,
        write: bool,
    ) -> Result<(*mut u8, Arc<HostBuffer>), String> {
        let buffer = self.get(tensor.buffer).ok_or("the buffer is gone")?;
        let span = tensor.span_bytes().ok_or("its extents cut a block or overflow")?;
        let end = tensor.offset.checked_add(span).ok_or("its offset overflows")?;
        if end > buffer.bytes {
            return Err(format!("it ends at byte {end} of {}", buffer.bytes));
        }
        if write && !buffer.is_writable() {
            return Err("the buffer is read-only".to_string());
        }
        // SAFETY: the offset was just checked to lie inside the buffer.
        let ptr = unsafe { buffer.ptr.as_ptr().add(tensor.offset) };
        // Blocks are read byte by byte; plain types as themselves.
        let align = if tensor.dtype.is_quantised() { 1 } else { tensor.dtype.block_bytes() };
        if !(ptr as usize).is_multiple_of(align) {
            return Err(format!("its address is no multiple of {align}"));
        }
        Ok((ptr, Arc::clone(buffer)))
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::tensor::DType;

    use super::*;

    /// Foreign bytes that `f32`s may be read from.
    static ALIGNED: [u32; 16] = [0; 16];

    fn tensor(buffer: BufferId, offset: usize, ne0: usize) -> BoundTensor {
        let nb = [4, ne0 * 4, ne0 * 4, ne0 * 4];
        BoundTensor { buffer, offset, dtype: DType::F32, ne: [ne0, 1, 1, 1], nb }
    }

    #[test]
    fn a_freed_buffer_is_an_error_even_after_its_slot_is_reused() {
        let mut table = HostBuffers::default();
        let old = table.alloc(64).unwrap();
        table.free(old);
        let new = table.alloc(64).unwrap();
        assert_eq!(old.slot, new.slot);
        assert!(table.bytes(old).is_none());
        assert!(table.resolve(&tensor(old, 0, 4), false).is_err());
        assert_eq!(table.owned_bytes(), 64);
        table.free(old);
        assert!(table.bytes(new).is_some());
    }

    #[test]
    fn tensors_must_lie_in_their_buffer() {
        let mut table = HostBuffers::default();
        let id = table.alloc(64).unwrap();
        assert!(table.resolve(&tensor(id, 0, 16), true).is_ok());
        assert!(table.resolve(&tensor(id, 4, 16), true).is_err());
        assert!(table.resolve(&tensor(id, 2, 4), false).is_err(), "not aligned");
        assert!(table.resolve(&tensor(id, usize::MAX, 1), false).is_err());
        let fixed = table.adopt(ForeignBytes::from_static(bytemuck::cast_slice(&ALIGNED)));
        assert!(table.resolve(&tensor(fixed, 0, 16), false).is_ok());
        assert!(table.resolve(&tensor(fixed, 0, 16), true).is_err());
        assert!(table.bytes_mut(fixed).is_none());
    }
}
