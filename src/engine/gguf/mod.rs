//! GGUF model files, versions 2 and 3: reading, validating, mapping, writing.
//!
//! A file is untrusted input. Every length is checked against the bytes that are left before
//! anything is allocated, so a header costs memory in proportion to the size of its file and no
//! more, and a bad file ends in a [`GgufError`] that names the file, the field and the byte, never
//! in a panic. What passes is safe to use without further checks: each tensor's range lies inside
//! its file, ranges do not overlap, and sizes follow from type and shape.
//!
//! This module knows bytes, names and shapes. It does not know what a key means to a model
//! (`engine::model`) nor what the bytes of a tensor mean (`engine::tensor`).
//!
//! The layout follows the GGUF specification in ggml's repository (`docs/gguf.md`): magic,
//! version, counts, metadata, tensor infos, padding, tensor data; little-endian throughout.

mod error;
mod file;
pub mod header;
mod mapped;
mod metadata;
mod reader;
mod split;
mod tensor_info;
mod value;
mod writer;

pub use error::{ErrorKind, GgufError};
pub use file::{Gguf, Source};
pub use mapped::MappedFile;
pub use metadata::Metadata;
pub use split::part_name;
pub use tensor_info::TensorInfo;
pub use value::{Array, Value, ValueType};
pub use writer::{GgufWriter, PartFile, TensorSpec, TensorStream};

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The metadata key that sets the alignment of tensor data.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of tensor data in files that do not set [`ALIGNMENT_KEY`], in bytes.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The largest alignment that the reader accepts, in bytes; nothing in use comes near it.
pub const MAX_ALIGNMENT: u64 = 1 << 20;

/// The longest key that the specification allows, in bytes.
pub const MAX_KEY_BYTES: u64 = 65_535;

/// The longest tensor name that the specification allows, in bytes. (ggml keeps a terminator in
/// the same space, so the writer stays one byte below.)
pub const MAX_NAME_BYTES: u64 = 64;

/// How deep arrays may nest. The specification sets no limit; ggml reads no nested array at all.
pub const MAX_ARRAY_DEPTH: usize = 4;
