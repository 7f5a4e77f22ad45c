//! What can be wrong with a GGUF file, in words for the person who has the file.
//!
//! Every error says which file, which field, at which byte, and what is wrong with it; where there
//! is something to do about it, [`GgufError::hint`] says what.

use std::fmt;
use std::io;
use std::path::Path;

use super::{MAX_ALIGNMENT, MAX_ARRAY_DEPTH};
use crate::engine::tensor::{DType, UnsupportedType};

/// What is wrong, without the place.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages document the variants and their fields")]
#[non_exhaustive]
pub enum ErrorKind {
    #[error("{0}")]
    Io(#[source] io::Error),
    #[error("not a regular file")]
    NotAFile,
    #[error("not a GGUF file: it starts with {}, not with \"GGUF\"", show_bytes(found))]
    Magic { found: Vec<u8> },
    #[error("the file is big-endian; only little-endian files are supported")]
    BigEndian,
    #[error("version {found} is not supported; versions 2 and 3 are")]
    Version { found: u32 },
    #[error("needs {needed} bytes, but {left} are left")]
    Truncated { needed: u64, left: u64 },
    #[error("claims {count} entries, which cannot fit into the {left} bytes left")]
    Count { count: u64, left: u64 },
    #[error("is {len} bytes long; at most {max} are allowed")]
    TooLong { len: u64, max: u64 },
    #[error("is not valid UTF-8 (after {valid} valid bytes)")]
    Utf8 { valid: usize },
    #[error("appears twice; first at byte {first}")]
    DuplicateKey { first: u64 },
    #[error("there are two tensors of this name")]
    DuplicateTensor,
    #[error("unknown value type {id}")]
    ValueType { id: u32 },
    #[error("arrays nest deeper than {MAX_ARRAY_DEPTH} levels")]
    TooDeep,
    #[error("a bool must be 0 or 1, found {found}")]
    Bool { found: u8 },
    #[error("the alignment must be a power of two up to {MAX_ALIGNMENT}, found {found}")]
    Alignment { found: u64 },
    #[error("a tensor has 1 to 4 dimensions, found {found}")]
    DimCount { found: u32 },
    #[error("dimension {index} is zero")]
    ZeroDim { index: usize },
    #[error("the size overflows: {ne:?}")]
    SizeOverflow { ne: [u64; 4] },
    #[error("rows of {ne0} elements cannot be cut into {dtype} blocks of {}", dtype.block_len())]
    Blocks { ne0: u64, dtype: DType },
    #[error("{0}")]
    Unsupported(#[source] UnsupportedType),
    #[error("offset {offset} is not a multiple of the alignment {alignment}")]
    Unaligned { offset: u64, alignment: u64 },
    #[error(
        "{bytes} bytes at {offset} of the data section (byte {start} of the file) reach past \
             the end of the file at {file_len}"
    )]
    OutOfRange { offset: u64, bytes: u64, start: u64, file_len: u64 },
    #[error("shares bytes with tensor {}", quote(other))]
    Overlap { other: String },
    #[error("the key is missing")]
    MissingKey,
    #[error("expected {expected}, found {found}")]
    WrongType { expected: &'static str, found: String },
    #[error("the file is one of {count} parts, but its name does not end in {suffix:?}")]
    SplitName { count: u64, suffix: String },
    #[error("{} of {count} parts missing: {}", missing.len(), list(missing))]
    MissingParts { count: u64, missing: Vec<String> },
    #[error("the parts disagree: expected {expected}, found {found}")]
    SplitDisagrees { expected: String, found: String },
    #[error("has to come before {}", quote(found))]
    TensorOrder { found: String },
    #[error("no such tensor is left to write")]
    ExtraTensor,
    #[error("holds {expected} bytes, but {found} were written")]
    TensorBytes { expected: u64, found: u64 },
    #[error("another process is writing this file")]
    Locked,
}

/// An error with its place: which file, which field, which byte.
#[derive(Debug)]
pub struct GgufError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    file: String,
    field: Option<String>,
    offset: Option<u64>,
    kind: ErrorKind,
}

impl GgufError {
    /// An error about one field of a file, at `offset` bytes from the file's start.
    pub(super) fn at(file: &str, field: impl fmt::Display, offset: u64, kind: ErrorKind) -> Self {
        let field = Some(field.to_string());
        Self(Box::new(Inner { file: file.to_owned(), field, offset: Some(offset), kind }))
    }

    /// An error about one field of a file that has no single place in it.
    pub(super) fn field(file: &str, field: impl fmt::Display, kind: ErrorKind) -> Self {
        let field = Some(field.to_string());
        Self(Box::new(Inner { file: file.to_owned(), field, offset: None, kind }))
    }

    /// An error about a file as a whole.
    pub(super) fn file(file: &str, kind: ErrorKind) -> Self {
        Self(Box::new(Inner { file: file.to_owned(), field: None, offset: None, kind }))
    }

    /// An operating system's error about a path.
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        Self::file(&path.display().to_string(), ErrorKind::Io(error))
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The file as the caller named it.
    pub fn path(&self) -> &str {
        &self.0.file
    }

    /// Bytes from the start of the file to the field, where there is such a place.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What the person can do about it, where we know.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match &self.0.kind {
            ErrorKind::Magic { found } if found.starts_with(b"version http") => {
                "this is a Git LFS pointer, not the model; run `git lfs pull`"
            }
            ErrorKind::Magic { found } if found.starts_with(b"<") => {
                "this is a web page, not the model; download the file itself"
            }
            ErrorKind::Magic { found } if found.get(..4) == Some(b"lmgg".as_slice()) => {
                "this is a GGML file from before GGUF; convert the model again"
            }
            ErrorKind::Magic { found } if found.get(8) == Some(&b'{') => {
                "this looks like a safetensors file; convert it with convert_hf_to_gguf.py"
            }
            ErrorKind::BigEndian => "convert it with gguf_convert_endian.py from llama.cpp",
            ErrorKind::Version { found: 1 } => {
                "version 1 was replaced in 2023; download or convert the model again"
            }
            ErrorKind::Version { .. } | ErrorKind::ValueType { .. } => {
                "the file is newer than this program, or damaged"
            }
            ErrorKind::Truncated { .. } | ErrorKind::OutOfRange { .. } => {
                "the download or copy is incomplete; compare the file's size with its source"
            }
            ErrorKind::Count { .. }
            | ErrorKind::TooLong { .. }
            | ErrorKind::Utf8 { .. }
            | ErrorKind::DuplicateKey { .. }
            | ErrorKind::DuplicateTensor
            | ErrorKind::Bool { .. }
            | ErrorKind::DimCount { .. }
            | ErrorKind::SizeOverflow { .. }
            | ErrorKind::Unaligned { .. }
            | ErrorKind::Overlap { .. } => {
                "the file is damaged or was written by a faulty tool; download or convert it again"
            }
            ErrorKind::Unsupported(_) => {
                "use another quantisation of the model, such as Q4_K_M or Q8_0"
            }
            ErrorKind::MissingKey | ErrorKind::WrongType { .. } => {
                "the file may be incomplete or made by an old converter; convert the model again"
            }
            ErrorKind::SplitName { .. } => {
                "parts are found by name: restore the name under which the file was published"
            }
            ErrorKind::MissingParts { .. } => {
                "put all parts of the model into one folder, under their published names"
            }
            ErrorKind::SplitDisagrees { .. } => {
                "the parts come from different models or downloads; fetch them again"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for GgufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { file, field, offset, kind } = &*self.0;
        write!(f, "{file}: ")?;
        match (field, offset) {
            (Some(field), Some(offset)) => write!(f, "{field} at byte {offset}: ")?,
            (Some(field), None) => write!(f, "{field}: ")?,
            (None, _) => {}
        }
        write!(f, "{kind}")
    }
}

impl std::error::Error for GgufError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message of these two is already the kind's message; pass on what lies beneath it.
        match &self.0.kind {
            ErrorKind::Io(error) => error.source(),
            _ => None,
        }
    }
}

/// A name from a file in quotes, with control characters escaped and its length bounded, so that a
/// hostile name can neither drive the terminal nor fill it.
pub(super) fn quote(name: &str) -> String {
    const MOST: usize = 80;
    match name.char_indices().nth(MOST) {
        None => format!("{name:?}"),
        Some((cut, _)) => format!("{:?}...", &name[..cut]),
    }
}

/// The first bytes of a file: as text where they are text, else in hexadecimal.
fn show_bytes(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(4)];
    if !head.is_empty() && head.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        return format!("\"{}\"", head.escape_ascii());
    }
    let hex: Vec<String> = head.iter().map(|b| format!("{b:02x}")).collect();
    format!("the bytes {}", hex.join(" "))
}

/// A list of file names, cut where it would fill the screen.
fn list(names: &[String]) -> String {
    const MOST: usize = 4;
    let shown = names[..names.len().min(MOST)].join(", ");
    if names.len() > MOST { format!("{shown}, ...") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_file_field_byte_and_fault() {
        let kind =
            ErrorKind::WrongType { expected: "an unsigned integer", found: "string".to_owned() };
        let error = GgufError::at("model.gguf", "metadata key \"llama.block_count\"", 1234, kind);
        assert_eq!(
            error.to_string(),
            "model.gguf: metadata key \"llama.block_count\" at byte 1234: expected an unsigned \
             integer, found string"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn hostile_names_are_escaped_and_cut() {
        assert_eq!(quote("a\u{1b}[2Jb"), r#""a\u{1b}[2Jb""#);
        assert!(quote(&"é".repeat(5000)).len() < 200);
    }

    #[test]
    fn other_files_are_recognised_by_their_first_bytes() {
        let hint =
            |found: &[u8]| GgufError::file("f", ErrorKind::Magic { found: found.to_vec() }).hint();
        assert!(hint(b"version https://git-lfs").unwrap().contains("LFS"));
        assert!(hint(b"<!DOCTYPE html>").unwrap().contains("web page"));
        assert!(hint(b"\x10\0\0\0\0\0\0\0{\"a\":").unwrap().contains("safetensors"));
        assert!(hint(b"lmgg\x01\0\0\0").unwrap().contains("GGML"));
        assert_eq!(hint(b"abcd"), None);
    }
}
