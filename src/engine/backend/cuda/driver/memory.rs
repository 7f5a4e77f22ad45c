//! Memory of a device, and memory of the host that a device reads and writes by itself.

use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::sys;

use super::{Context, CudaError, call};

/// Bytes on a device. Freeing waits for what uses them.
pub(in crate::engine::backend::cuda) struct DeviceMemory {
    context: Arc<Context>,
    address: u64,
    bytes: usize,
}

impl DeviceMemory {
    /// Bytes with arbitrary contents.
    pub(in crate::engine::backend::cuda) fn alloc(
        context: &Arc<Context>,
        bytes: usize,
    ) -> Result<Self, CudaError> {
        context.enter()?;
        let mut address = 0;
        // SAFETY: the context is current; the call writes the address, freed when this is dropped.
        unsafe { call!(cuMemAlloc_v2(&raw mut address, bytes.max(1))) }?;
        Ok(Self { context: Arc::clone(context), address, bytes })
    }

    pub(in crate::engine::backend::cuda) fn address(&self) -> u64 {
        self.address
    }

    pub(in crate::engine::backend::cuda) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated once in this context and freed once. An error here can only repeat
            // an earlier one, which was reported.
            unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

/// Page-locked memory of the host, which the device's copy engines reach without a detour.
pub(in crate::engine::backend::cuda) struct PinnedMemory {
    context: Arc<Context>,
    ptr: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain bytes; who may touch them when is the owner's business.
unsafe impl Send for PinnedMemory {}

impl PinnedMemory {
    /// Zeroed bytes, reachable from every device.
    pub(in crate::engine::backend::cuda) fn alloc(
        context: &Arc<Context>,
        bytes: usize,
    ) -> Result<Self, CudaError> {
        context.enter()?;
        let mut ptr = std::ptr::null_mut();
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: the context is current; the call writes the pointer, freed when this is dropped.
        // Not write-combined: the host reads it too.
        unsafe { call!(cuMemHostAlloc(&raw mut ptr, bytes.max(1), flags)) }?;
        let Some(ptr) = NonNull::new(ptr.cast::<u8>()) else {
            let (name, text) = (String::new(), "no address came back".to_string());
            return Err(CudaError { call: "cuMemHostAlloc", code: 0, name, text });
        };
        // SAFETY: the bytes were just allocated.
        unsafe { ptr.as_ptr().write_bytes(0, bytes) };
        Ok(Self { context: Arc::clone(context), ptr, bytes })
    }

    pub(in crate::engine::backend::cuda) fn as_slice(&self) -> &[u8] {
        // SAFETY: the bytes are initialised and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.bytes) }
    }

    pub(in crate::engine::backend::cuda) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.bytes) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated once in this context and freed once.
            unsafe { sys::cuMemFreeHost(self.ptr.as_ptr().cast()) };
        }
    }
}
