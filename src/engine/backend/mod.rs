//! Runs nodes on devices. Owns buffers, device events and all `unsafe` of the engine.
//!
//! A backend knows operations and bytes; it knows no model and no placement. Invariants: every
//! kernel agrees with its scalar reference within a tolerance that its test names; a program was
//! checked against its buffers when it was compiled, so that running it needs no checks.

pub mod cpu;
mod cuda;
mod device;
mod host_memory;
mod selftest;
mod spec;
mod virtual_device;

pub use cuda::{
    CudaDevice, CudaError, CudaMeasurements, CudaUnavailable, MeasureSize, OpenCudaError,
    cuda_device_count, open_cuda_device,
};
pub use device::{
    AllocError, BoundNode, BoundTensor, BufferId, CopyTime, Device, DeviceError, DeviceInfo,
    DeviceKind, Interval, MemoryState, Program, Ticket, copy,
};
pub use host_memory::ForeignBytes;
pub use selftest::{CaseResult, selftest};
pub use spec::{BadDevice, DeviceSpec, VirtualSpec};
pub use virtual_device::VirtualDevice;
