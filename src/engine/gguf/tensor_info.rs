//! One tensor's entry in a header: name, type, shape and place, and the checks that make them safe
//! to use.

use super::error::{ErrorKind, GgufError};
use super::reader::{Field, Reader};
use crate::engine::tensor::DType;

/// The fewest bytes an entry takes: name length, dimension count, one dimension, type, offset.
pub(super) const MIN_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// A tensor's name, type, shape and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, unique among all parts of the model.
    pub name: String,
    /// The type of the elements.
    pub dtype: DType,
    /// Elements per dimension in ggml's order, `ne[0]` varying fastest; 1 from `n_dims` on.
    pub ne: [usize; 4],
    /// How many dimensions the file states, 1 to 4.
    pub n_dims: usize,
    /// Where the data begins, in bytes from the start of its file (not of the data section).
    pub offset: u64,
    /// Bytes of data, which follow from type and shape.
    pub bytes: u64,
    /// Which part of a split model holds the data; 0 for a model in one file.
    pub file: usize,
}

impl TensorInfo {
    /// How many elements: the product of `ne`.
    pub fn n_elements(&self) -> usize {
        self.ne.iter().product()
    }

    /// How many rows of `ne[0]` elements.
    pub fn n_rows(&self) -> usize {
        self.ne[1..].iter().product()
    }
}

/// Bytes of a tensor of this type and shape. What passes has a number of elements and of bytes
/// below 2^63, so that products of parts of the shape cannot overflow later.
pub(super) fn tensor_bytes(dtype: DType, ne: [u64; 4]) -> Result<u64, ErrorKind> {
    if let Some(index) = ne.iter().position(|&n| n == 0) {
        return Err(ErrorKind::ZeroDim { index });
    }
    if !ne[0].is_multiple_of(dtype.block_len() as u64) {
        return Err(ErrorKind::Blocks { ne0: ne[0], dtype });
    }
    let fits = |n: &u64| isize::try_from(*n).is_ok();
    let elements = ne.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).filter(fits);
    elements
        .and_then(|n| (n / dtype.block_len() as u64).checked_mul(dtype.block_bytes() as u64))
        .filter(fits)
        .ok_or(ErrorKind::SizeOverflow { ne })
}

/// An entry as read, before the place of its data is known: `offset` is relative to the data
/// section. For messages, `at` says where the entry begins and `offset_at` where its offset stands.
pub(super) struct Entry {
    pub(super) info: TensorInfo,
    pub(super) at: u64,
    offset_at: u64,
}

/// Reads the entry with index `i`.
pub(super) fn read(reader: &mut Reader<'_>, i: u64) -> Result<Entry, GgufError> {
    let at = reader.pos();
    let name = reader.tensor_name(i)?;
    let file = reader.file;
    let n_dims_at = reader.pos();
    let dims = Field::Tensor("dimensions", name);
    let n_dims = reader.u32(dims)?;
    if !(1..=4).contains(&n_dims) {
        return Err(GgufError::at(file, dims, n_dims_at, ErrorKind::DimCount { found: n_dims }));
    }
    let ne_at = reader.pos();
    let mut ne = [1u64; 4];
    for n in &mut ne[..n_dims as usize] {
        *n = reader.u64(dims)?;
    }
    let type_at = reader.pos();
    let type_field = Field::Tensor("type", name);
    let dtype = DType::from_ggml(reader.u32(type_field)?)
        .map_err(|e| GgufError::at(file, type_field, type_at, ErrorKind::Unsupported(e)))?;
    let bytes = tensor_bytes(dtype, ne).map_err(|kind| GgufError::at(file, dims, ne_at, kind))?;
    let offset_at = reader.pos();
    let offset = reader.u64(Field::Tensor("offset", name))?;
    let info = TensorInfo {
        name: name.to_owned(),
        dtype,
        // Checked above: the product of all four fits `isize`, so each of them fits `usize`.
        ne: ne.map(|n| n as usize),
        n_dims: n_dims as usize,
        offset,
        bytes,
        file: 0,
    };
    Ok(Entry { info, at, offset_at })
}

/// Turns offsets into places in the file, once the end of the header is known: checks that each
/// tensor is aligned, inside the file, and shares no byte with another.
pub(super) fn place(
    file: &str,
    mut entries: Vec<Entry>,
    data_start: u64,
    alignment: u64,
    file_len: u64,
) -> Result<Vec<TensorInfo>, GgufError> {
    for Entry { info, offset_at, .. } in &mut entries {
        let TensorInfo { name, offset, bytes, .. } = info;
        let error = |kind| GgufError::at(file, Field::Tensor("offset", name), *offset_at, kind);
        if !offset.is_multiple_of(alignment) {
            return Err(error(ErrorKind::Unaligned { offset: *offset, alignment }));
        }
        let start = data_start.saturating_add(*offset);
        if start.checked_add(*bytes).is_none_or(|end| end > file_len) {
            let (offset, bytes) = (*offset, *bytes);
            return Err(error(ErrorKind::OutOfRange { offset, bytes, start, file_len }));
        }
        *offset = start;
    }
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_unstable_by_key(|&i| (entries[i].info.offset, i));
    for pair in order.windows(2) {
        let (before, after) = (&entries[pair[0]], &entries[pair[1]]);
        if before.info.offset + before.info.bytes > after.info.offset {
            let kind = ErrorKind::Overlap { other: before.info.name.clone() };
            let field = Field::Tensor("data", &after.info.name);
            return Err(GgufError::at(file, field, after.info.offset, kind));
        }
    }
    Ok(entries.into_iter().map(|entry| entry.info).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_from_type_and_shape() {
        assert_eq!(tensor_bytes(DType::Q4_K, [512, 3, 1, 1]).unwrap(), 864);
        assert_eq!(tensor_bytes(DType::F16, [5, 2, 2, 2]).unwrap(), 80);
        assert!(matches!(
            tensor_bytes(DType::Q4_K, [100, 1, 1, 1]),
            Err(ErrorKind::Blocks { ne0: 100, .. })
        ));
        assert!(matches!(
            tensor_bytes(DType::F32, [4, 0, 1, 1]),
            Err(ErrorKind::ZeroDim { index: 1 })
        ));
    }

    #[test]
    fn sizes_that_overflow_are_errors() {
        for ne in [[1 << 32, 1 << 32, 1, 1], [1 << 62, 1, 1, 1], [1 << 61, 2, 2, 2]] {
            assert!(matches!(tensor_bytes(DType::F32, ne), Err(ErrorKind::SizeOverflow { .. })));
        }
        // The elements overflow although the bytes, at half a byte each, would not.
        let ne = [1 << 63, 1, 1, 1];
        assert!(matches!(tensor_bytes(DType::Q4_K, ne), Err(ErrorKind::SizeOverflow { .. })));
    }
}
