//! The driver's library behind safe handles: presence, contexts, memory, streams, modules, graphs.
//!
//! It knows no tensor and no operation. Invariant: nothing of the library is called before
//! [`driver_version`] has found it whole and new enough; afterwards every call is checked, and a
//! handle lives as long as anything that was made from it.

mod context;
mod error;
mod graph;
mod memory;
mod module;
mod stream;

use std::ffi::CStr;
use std::sync::OnceLock;

use cudarc::driver::sys;

pub(super) use context::Context;
pub use error::{CudaError, CudaUnavailable};
pub(super) use graph::Graph;
pub(super) use memory::{DeviceMemory, PinnedMemory};
pub(super) use module::{Function, Module};
pub(super) use stream::{DeviceEvent, Stream};

/// The oldest interface that works, as the driver counts: 12.0, which came with driver 525.
const API_VERSION_MIN: i32 = 12000;

/// Where the library may be, as the loader searches it.
const LIBRARY_NAMES: &[&str] =
    if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };

/// Everything that is called. A library without one of them is damaged, or no driver at all.
const SYMBOLS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDeviceCanAccessPeer",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuCtxEnablePeerAccess",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemsetD8Async",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyPeerAsync",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
];

/// Calls the driver and turns its answer into a `Result`. Stands in an `unsafe` block.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {
        $crate::engine::backend::cuda::driver::check(
            stringify!($name),
            cudarc::driver::sys::$name($($argument),*),
        )
    };
}
use call;

/// A driver's answer as a `Result`.
fn check(call: &'static str, answer: sys::CUresult) -> Result<(), CudaError> {
    if answer == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let text = |get: unsafe fn(sys::CUresult, *mut *const std::ffi::c_char) -> sys::CUresult| {
        let mut text = std::ptr::null();
        // SAFETY: the library is there, for it has just answered; it hands out a constant of its
        // own, or leaves the null pointer where it was.
        unsafe {
            get(answer, &raw mut text);
            if text.is_null() { String::new() } else { lossy(CStr::from_ptr(text)) }
        }
    };
    let (name, text) = (text(sys::cuGetErrorName), text(sys::cuGetErrorString));
    Err(CudaError { call, code: answer as u32, name, text })
}

fn lossy(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

/// The version of the driver's interface, once it was found usable: 12040 is 12.4.
///
/// # Errors
/// Why there is no usable driver. The answer stays the same over the life of the process.
pub(super) fn driver_version() -> Result<i32, CudaUnavailable> {
    static ANSWER: OnceLock<Result<i32, CudaUnavailable>> = OnceLock::new();
    ANSWER.get_or_init(probe).clone()
}

fn probe() -> Result<i32, CudaUnavailable> {
    let mut problems = Vec::new();
    let library = LIBRARY_NAMES.iter().find_map(|name| {
        // SAFETY: loading the driver runs its initialisers, which is what every user of it does.
        match unsafe { libloading::Library::new(*name) } {
            Ok(library) => Some((name, library)),
            Err(e) => {
                // The loader's own words are in the source; the error itself says only what failed.
                let words = std::error::Error::source(&e).map(ToString::to_string);
                problems.push(words.unwrap_or_else(|| e.to_string()));
                None
            }
        }
    });
    let Some((name, library)) = library else {
        // The loader names a file that it could not find at all in just this way.
        let absent = |p: &String| p.contains("No such file") || p.contains("not be found");
        return Err(match problems.into_iter().find(|p| !absent(p)) {
            Some(problem) => CudaUnavailable::BrokenLibrary { problem },
            None => CudaUnavailable::NoLibrary { name: LIBRARY_NAMES[0] },
        });
    };
    // SAFETY: symbols are only looked up here, not called.
    let has = |symbol: &str| unsafe { library.get::<*const ()>(symbol.as_bytes()).is_ok() };
    let mut version = 0;
    if has("cuDriverGetVersion") && has("cuGetErrorName") && has("cuGetErrorString") {
        // SAFETY: the symbol is there; the call only writes the number.
        unsafe { call!(cuDriverGetVersion(&raw mut version)) }
            .map_err(CudaUnavailable::Initialise)?;
        if version < API_VERSION_MIN {
            return Err(CudaUnavailable::TooOld { version, needed: API_VERSION_MIN });
        }
    }
    if let Some(symbol) = SYMBOLS.iter().find(|s| !has(s)) {
        let problem = format!("{name} has no function {symbol}");
        return Err(CudaUnavailable::BrokenLibrary { problem });
    }
    // SAFETY: the symbol is there; 0 is the only flag that there is.
    match unsafe { call!(cuInit(0)) } {
        Ok(()) => Ok(version),
        Err(e) if e.code == sys::CUresult::CUDA_ERROR_NO_DEVICE as u32 => {
            Err(CudaUnavailable::NoDevice)
        }
        Err(e) => Err(CudaUnavailable::Initialise(e)),
    }
}

/// How many devices the driver offers; at least one.
///
/// # Errors
/// Why there is none.
pub(super) fn device_count() -> Result<usize, CudaUnavailable> {
    driver_version()?;
    let mut count = 0;
    // SAFETY: the driver is there and initialised; the call only writes the number.
    unsafe { call!(cuDeviceGetCount(&raw mut count)) }.map_err(CudaUnavailable::Initialise)?;
    if count > 0 { Ok(count as usize) } else { Err(CudaUnavailable::NoDevice) }
}
