//! NVIDIA GPUs through the driver's own library, which is all that a user needs to have installed.
//!
//! Kernels are embedded as PTX that the driver compiles for its GPU; which of them a node needs,
//! and with what arguments, is decided once per program in [`launch`]. This is no binding to cuBLAS
//! or to any other library of the toolkit. Invariant: without a usable driver nothing here is
//! called beyond the question whether there is one.

mod launch;
mod params;
