//! What kernels get: one plain struct by value each, the twin of a C struct in `kernels/`.
//!
//! Invariant: each struct has the size and layout of its twin, which has its widest members first
//! and names its padding; a test compares the sizes with those that the kernels were compiled with.

pub(super) mod matmul;
pub(super) mod ops;
