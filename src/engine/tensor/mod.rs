//! Element types of weights and activations: exact block layouts, and the scalar conversion to and
//! from `f32` that every faster kernel is checked against.
//!
//! This module knows no file, no device and no instruction set. One file in `formats` per format.

pub mod convert;
pub mod dtype;
pub mod formats;
pub mod mix;

pub use convert::{ConvertError, dequantize, quantize, quantize_vec};
pub use dtype::{DType, UnsupportedType};
pub use mix::{FileType, ModelShape};
