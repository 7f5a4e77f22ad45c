//! NVIDIA GPUs through the driver's own library, which is all that a user needs to have installed.
//!
//! Kernels are embedded as PTX that the driver compiles for its GPU; which of them a node needs,
//! and with what arguments, is decided once per program in [`launch`]. This is no binding to cuBLAS
//! or to any other library of the toolkit. Invariant: without a usable driver nothing here is
//! called beyond the question whether there is one.

mod buffers;
mod clock;
mod device;
mod driver;
mod kernels;
#[allow(dead_code, reason = "the planners of the operations use it as they land")]
mod launch;
mod measure;
mod params;
mod program;
mod ptx;
mod staging;

use super::device::DeviceError;

pub use device::CudaDevice;
pub use driver::{CudaError, CudaUnavailable};
pub use measure::{CudaMeasurements, MeasureSize};

/// How many GPUs the driver offers; at least one.
///
/// # Errors
/// Why there is none to use.
pub fn cuda_device_count() -> Result<usize, CudaUnavailable> {
    driver::device_count()
}

/// Opens a GPU.
///
/// # Errors
/// When there is no usable driver, no such GPU, or it is too old.
pub fn open_cuda_device(index: usize) -> Result<CudaDevice, OpenCudaError> {
    let version = driver::driver_version()?;
    let count = driver::device_count()?;
    if index >= count {
        return Err(OpenCudaError::NoSuchDevice { index, count });
    }
    Ok(CudaDevice::open(index, version)?)
}

/// Why a GPU could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenCudaError {
    /// No GPU can be used at all.
    #[error(transparent)]
    Unavailable(#[from] CudaUnavailable),
    /// The driver offers fewer.
    #[error("there is no CUDA{index}: the driver offers {count} GPU{}", if *count == 1 { "" } else { "s" })]
    NoSuchDevice {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// It does not work, or cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl OpenCudaError {
    /// What the person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable(e) => Some(e.hint()),
            Self::NoSuchDevice { .. } => Some("nvidia-smi -L lists them, counted from 0"),
            Self::Device(e) => e.hint(),
        }
    }
}
