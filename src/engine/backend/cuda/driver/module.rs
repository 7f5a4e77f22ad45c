//! Compiled kernels.

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::sys;

use super::{Context, CudaError, call};

/// PTX that the driver has compiled for its device.
pub(in crate::engine::backend::cuda) struct Module {
    context: Arc<Context>,
    raw: sys::CUmodule,
}

// SAFETY: see `Context`.
unsafe impl Send for Module {}
// SAFETY: as above; looking a function up changes nothing.
unsafe impl Sync for Module {}

/// Bytes for what the driver's compiler says about PTX that it refuses.
const LOG_BYTES: usize = 4096;

impl Module {
    /// Compiles PTX, or takes it from the driver's cache of earlier runs.
    pub(in crate::engine::backend::cuda) fn load(
        context: &Arc<Context>,
        ptx: &str,
    ) -> Result<Arc<Self>, CudaError> {
        context.enter()?;
        let text = CString::new(ptx).map_err(|_| {
            let text = "the PTX has a zero byte inside".to_string();
            CudaError { call: "cuModuleLoadDataEx", code: 0, name: String::new(), text }
        })?;
        let mut raw = std::ptr::null_mut();
        let mut log = vec![0u8; LOG_BYTES];
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        // The second value is a number that the driver takes in the place of a pointer.
        let mut values: [*mut c_void; 2] =
            [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(LOG_BYTES - 1)];
        // SAFETY: the context is current, the text ends with 0, the log is as long as said.
        let loaded = unsafe {
            call!(cuModuleLoadDataEx(
                &raw mut raw,
                text.as_ptr().cast(),
                options.len() as u32,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            ))
        };
        loaded.map_err(|mut e| {
            let said = log.split(|&b| b == 0).next().unwrap_or_default();
            let said = String::from_utf8_lossy(said);
            if !said.trim().is_empty() {
                e.text = format!("{} ({})", e.text, said.trim());
            }
            e
        })?;
        Ok(Arc::new(Self { context: Arc::clone(context), raw }))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: loaded once and unloaded once; its functions hold an `Arc` of it.
            unsafe { sys::cuModuleUnload(self.raw) };
        }
    }
}

/// A kernel of a module.
#[derive(Clone)]
pub(in crate::engine::backend::cuda) struct Function {
    _module: Arc<Module>,
    raw: sys::CUfunction,
    can_overlap: bool,
}

// SAFETY: see `Context`.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// `can_overlap`: it waits by itself for kernels that still run, and the driver knows of that.
    pub(in crate::engine::backend::cuda) fn get(
        module: &Arc<Module>,
        name: &str,
        can_overlap: bool,
    ) -> Result<Self, CudaError> {
        module.context.enter()?;
        let text = CString::new(name).unwrap_or_default();
        let mut raw = std::ptr::null_mut();
        // SAFETY: the module lives and the name ends with 0; the call writes the handle.
        unsafe { call!(cuModuleGetFunction(&raw mut raw, module.raw, text.as_ptr())) }?;
        Ok(Self { _module: Arc::clone(module), raw, can_overlap })
    }

    /// Lets launches ask for so much dynamic shared memory.
    pub(in crate::engine::backend::cuda) fn allow_shared(
        &self,
        bytes: u32,
    ) -> Result<(), CudaError> {
        let what = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function lives.
        unsafe { call!(cuFuncSetAttribute(self.raw, what, bytes as i32)) }
    }

    /// Whether it may be started while the kernel before it still runs.
    pub(in crate::engine::backend::cuda) fn can_overlap(&self) -> bool {
        self.can_overlap
    }

    pub(super) fn raw(&self) -> sys::CUfunction {
        self.raw
    }
}
