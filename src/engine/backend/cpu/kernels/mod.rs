//! The kernels, one subject per file.
//!
//! Contract of every kernel: it is called by all workers of a pool with the same arguments; each
//! does its share; no worker may read the result before the next barrier. Views may have gaps
//! between rows, never within a row. Safety of each: every [`super::TensorRef`] covers live memory
//! of at least its span, results are not aliased by anything that another thread touches, and the
//! instruction set that dispatch chose is present. Tensors and their rows are aligned as their plain
//! element types want; blocks need no alignment.

#![allow(clippy::cast_ptr_alignment, reason = "alignment is part of the contract above")]

mod convert;
pub mod elementwise;
pub mod experts;
pub mod flash_attn;
pub mod matmul;
pub mod norm;
pub mod rope;
pub mod rows;
mod simd;
mod spans;
#[cfg(test)]
mod tests;
pub mod top_k;
