//! A device of the driver with its primary context.

use std::ffi::{CStr, c_int};
use std::sync::Arc;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

use super::{CudaError, call, check, lossy};
use crate::engine::backend::cuda::launch::Traits;

/// See the module. The context is the one that every library of this process shares.
pub(in crate::engine::backend::cuda) struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
    /// The device's name as NVIDIA sells it.
    pub(in crate::engine::backend::cuda) name: String,
    /// What launches depend on.
    pub(in crate::engine::backend::cuda) traits: Traits,
    /// All of the device's memory.
    pub(in crate::engine::backend::cuda) total_bytes: u64,
}

// SAFETY: the driver's handles may be used from any thread once the context was made current there,
// which `enter` does.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks what needs locking.
unsafe impl Sync for Context {}

impl Context {
    /// Opens a device. The driver must have been found.
    pub(in crate::engine::backend::cuda) fn open(index: usize) -> Result<Arc<Self>, CudaError> {
        let (mut device, mut name, mut total_bytes) = (0, [0; 256], 0);
        // SAFETY: the driver was found and initialised; each call writes only to the place that it
        // is given, the name within its length.
        unsafe {
            call!(cuDeviceGet(&raw mut device, index as c_int))?;
            call!(cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int - 1, device))?;
            call!(cuDeviceTotalMem_v2(&raw mut total_bytes, device))?;
        }
        // SAFETY: the last byte is still 0.
        let name = lossy(unsafe { CStr::from_ptr(name.as_ptr()) });
        let get = |attribute| attribute_of(device, attribute);
        let traits = Traits {
            compute_capability: (
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes_optin: get(
                Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )?,
        };
        let mut raw = std::ptr::null_mut();
        // SAFETY: the device is valid; the call writes the handle, given back when this is dropped.
        unsafe { call!(cuDevicePrimaryCtxRetain(&raw mut raw, device)) }?;
        Ok(Arc::new(Self { device, raw, name, traits, total_bytes: total_bytes as u64 }))
    }

    /// Makes it current on this thread, which every other call on its handles needs.
    pub(in crate::engine::backend::cuda) fn enter(&self) -> Result<(), CudaError> {
        // SAFETY: the context lives as long as `self`.
        unsafe { call!(cuCtxSetCurrent(self.raw)) }
    }

    /// Free memory of the device now, whoever uses it.
    pub(in crate::engine::backend::cuda) fn free_bytes(&self) -> Result<u64, CudaError> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the context is current; the call writes two numbers.
        unsafe { call!(cuMemGetInfo_v2(&raw mut free, &raw mut total)) }?;
        Ok(free as u64)
    }

    /// Lets this device reach the memory of `other`. False where the machine has no way for that;
    /// copies then go through the host.
    pub(in crate::engine::backend::cuda) fn reach(&self, other: &Self) -> Result<bool, CudaError> {
        self.enter()?;
        let mut can = 0;
        // SAFETY: both devices are valid; the call writes a number.
        unsafe { call!(cuDeviceCanAccessPeer(&raw mut can, self.device, other.device)) }?;
        if can == 0 {
            return Ok(false);
        }
        // SAFETY: this context is current and the other one lives.
        let answer = unsafe { sys::cuCtxEnablePeerAccess(other.raw, 0) };
        if answer == sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED {
            return Ok(true);
        }
        check("cuCtxEnablePeerAccess", answer).map(|()| true)
    }

    pub(super) fn raw(&self) -> sys::CUcontext {
        self.raw
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`; everything made in it holds an `Arc` of this.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

fn attribute_of(device: sys::CUdevice, attribute: Attribute) -> Result<u32, CudaError> {
    let mut value = 0;
    // SAFETY: the device is valid; the call writes a number.
    unsafe { call!(cuDeviceGetAttribute(&raw mut value, attribute, device)) }?;
    Ok(value.max(0) as u32)
}
