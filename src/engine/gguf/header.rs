//! From bytes to a checked header: a pure function, with no file behind it.
//!
//! This is the door that all untrusted bytes come through, and so the entry of the fuzz target.
//! Invariant of what comes out: every tensor's `offset + bytes` lies within `file_len`.

use std::collections::HashSet;

use super::error::{ErrorKind, GgufError};
use super::metadata::Metadata;
use super::reader::{Field, Reader, reserve};
use super::tensor_info::{self, TensorInfo};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_ALIGNMENT};

/// The fewest bytes a metadata entry takes: key length, value type, a value of one byte.
const MIN_METADATA_BYTES: u64 = 8 + 4 + 1;

/// What stands before the tensor data.
#[derive(Clone, Debug)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The metadata, in the order of the file.
    pub metadata: Metadata,
    /// The tensors, in the order of the file, all with `file` 0.
    pub tensors: Vec<TensorInfo>,
    /// The alignment of tensor data, in bytes; a power of two.
    pub alignment: u64,
    /// Where the data section begins, in bytes from the start of the file. In a file without
    /// tensors it may lie past the end.
    pub data_start: u64,
}

/// Reads the header of a file of `file_len` bytes from `bytes`, which begin where the file begins
/// and may end anywhere after its header. `file` names it in errors.
///
/// A caller that has a header without data, to plan with, passes `u64::MAX` as the length.
pub fn parse(bytes: &[u8], file_len: u64, file: &str) -> Result<Header, GgufError> {
    let mut reader = Reader::new(file, bytes);
    let version = read_version(&mut reader, bytes)?;
    let tensor_count = reader.count(tensor_info::MIN_BYTES, Field::TensorCount)?;
    let metadata_count = reader.count(MIN_METADATA_BYTES, Field::MetadataCount)?;
    let metadata = read_metadata(&mut reader, metadata_count)?;
    let alignment = read_alignment(&metadata)?;
    let entries = read_tensors(&mut reader, tensor_count)?;
    // The header ends inside a slice and the alignment is small, so this cannot overflow.
    let data_start = reader.pos().next_multiple_of(alignment);
    let tensors = tensor_info::place(file, entries, data_start, alignment, file_len)?;
    Ok(Header { version, metadata, tensors, alignment, data_start })
}

fn read_version(reader: &mut Reader<'_>, bytes: &[u8]) -> Result<u32, GgufError> {
    let start = reader.error(Field::Magic, ErrorKind::BigEndian);
    let magic = reader.take(4, Field::Magic)?;
    if magic == b"FUGG" {
        return Err(start);
    }
    if magic != MAGIC {
        // A little more than the magic, so that the hint can tell what the file is instead.
        let found = bytes[..bytes.len().min(16)].to_vec();
        return Err(GgufError::at(reader.file, Field::Magic, 0, ErrorKind::Magic { found }));
    }
    let at = reader.pos();
    let version = reader.u32(Field::Version)?;
    let kind = match version {
        2 | 3 => return Ok(version),
        // The version is a small number: seen from the wrong end, its low half is zero.
        v if v != 0 && v.trailing_zeros() >= 16 => ErrorKind::BigEndian,
        found => ErrorKind::Version { found },
    };
    Err(GgufError::at(reader.file, Field::Version, at, kind))
}

fn read_metadata(reader: &mut Reader<'_>, count: u64) -> Result<Metadata, GgufError> {
    let mut metadata = Metadata::of_file(reader.file, reserve(count));
    for i in 0..count {
        let at = reader.pos();
        let key = reader.key(i)?;
        let value = reader.value(key)?;
        metadata.push(key, value, at).map_err(|first| {
            GgufError::at(reader.file, Field::Key(key), at, ErrorKind::DuplicateKey { first })
        })?;
    }
    Ok(metadata)
}

/// The alignment that the metadata sets, or the default.
pub(super) fn read_alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let Some(alignment) = metadata.opt_u64(ALIGNMENT_KEY)? else { return Ok(DEFAULT_ALIGNMENT) };
    if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        return Ok(alignment);
    }
    Err(metadata.error(ALIGNMENT_KEY, ErrorKind::Alignment { found: alignment }))
}

fn read_tensors(reader: &mut Reader<'_>, count: u64) -> Result<Vec<tensor_info::Entry>, GgufError> {
    let mut entries = Vec::with_capacity(reserve(count));
    for i in 0..count {
        entries.push(tensor_info::read(reader, i)?);
    }
    let mut names = HashSet::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        if !names.insert(entry.info.name.as_str()) {
            let field = format!(
                "{} ({})",
                Field::TensorName(i as u64),
                super::error::quote(&entry.info.name)
            );
            return Err(GgufError::at(reader.file, field, entry.at, ErrorKind::DuplicateTensor));
        }
    }
    Ok(entries)
}
