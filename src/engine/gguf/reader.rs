//! A cursor over the bytes of a header: reads numbers, strings and values, and never reads or
//! allocates past what is there.
//!
//! Each read names the field it is for, so that an error can say what was being read and where it
//! began. It knows the encoding of single fields; their order is `header`'s business.

use std::fmt;

use super::error::{ErrorKind, GgufError, quote};
use super::value::{Array, Value, ValueType};
use super::{MAX_ARRAY_DEPTH, MAX_KEY_BYTES, MAX_NAME_BYTES};

/// What is being read, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    Magic,
    Version,
    TensorCount,
    MetadataCount,
    /// The name of the metadata entry with this index.
    KeyName(u64),
    /// The value under this key.
    Key(&'a str),
    /// One element of the array under this key.
    Element(&'a str, u64),
    /// The name of the tensor with this index.
    TensorName(u64),
    /// The named part of the info of this tensor.
    Tensor(&'static str, &'a str),
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Field::Magic => f.write_str("magic"),
            Field::Version => f.write_str("version"),
            Field::TensorCount => f.write_str("tensor count"),
            Field::MetadataCount => f.write_str("metadata count"),
            Field::KeyName(i) => write!(f, "name of metadata key {i}"),
            Field::Key(key) => write!(f, "metadata key {}", quote(key)),
            Field::Element(key, i) => write!(f, "metadata key {}, element {i}", quote(key)),
            Field::TensorName(i) => write!(f, "name of tensor {i}"),
            Field::Tensor(part, name) => write!(f, "{part} of tensor {}", quote(name)),
        }
    }
}

/// How many entries to reserve for when `count` are claimed. Even a count that its file could hold
/// may be a lie, and in a file of gigabytes an expensive one; beyond this the vector grows as
/// entries are really read.
pub(super) fn reserve(count: u64) -> usize {
    count.min(1 << 12) as usize
}

/// The cursor. `pos` never exceeds `bytes.len()`.
pub(super) struct Reader<'a> {
    /// The file's name, for messages.
    pub(super) file: &'a str,
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, bytes: &'a [u8]) -> Self {
        Self { file, bytes, pos: 0 }
    }

    /// Bytes from the start to the next read.
    pub(super) fn pos(&self) -> u64 {
        self.pos as u64
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.pos) as u64
    }

    /// An error about `field` at the cursor.
    pub(super) fn error(&self, field: Field<'_>, kind: ErrorKind) -> GgufError {
        GgufError::at(self.file, field, self.pos(), kind)
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64, field: Field<'_>) -> Result<&'a [u8], GgufError> {
        let rest = &self.bytes[self.pos..];
        let taken = usize::try_from(n).ok().and_then(|n| rest.get(..n));
        let Some(taken) = taken else {
            return Err(self.error(field, ErrorKind::Truncated { needed: n, left: self.left() }));
        };
        self.pos += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: Field<'_>) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, field)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, field: Field<'_>) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: Field<'_>) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A count of entries that take at least `min_bytes` each. A count that passes
    /// takes memory in proportion to the bytes that are left.
    pub(super) fn count(&mut self, min_bytes: u64, field: Field<'_>) -> Result<u64, GgufError> {
        let at = self.pos();
        let count = self.u64(field)?;
        if count > self.left() / min_bytes {
            let kind = ErrorKind::Count { count, left: self.left() };
            return Err(GgufError::at(self.file, field, at, kind));
        }
        Ok(count)
    }

    /// A string of at most `max` bytes. The text borrows from the file.
    fn str(&mut self, max: u64, field: Field<'_>) -> Result<&'a str, GgufError> {
        let at = self.pos();
        let len = self.u64(field)?;
        if len > max && len <= self.left() {
            return Err(GgufError::at(self.file, field, at, ErrorKind::TooLong { len, max }));
        }
        let bytes = self.take(len, field)?;
        std::str::from_utf8(bytes).map_err(|e| {
            let kind = ErrorKind::Utf8 { valid: e.valid_up_to() };
            GgufError::at(self.file, field, at, kind)
        })
    }

    /// The name of the metadata entry with index `i`.
    pub(super) fn key(&mut self, i: u64) -> Result<&'a str, GgufError> {
        self.str(MAX_KEY_BYTES, Field::KeyName(i))
    }

    /// The name of the tensor with index `i`.
    pub(super) fn tensor_name(&mut self, i: u64) -> Result<&'a str, GgufError> {
        self.str(MAX_NAME_BYTES, Field::TensorName(i))
    }

    fn bool(&mut self, field: Field<'_>) -> Result<bool, GgufError> {
        let at = self.pos();
        match self.array::<1>(field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(GgufError::at(self.file, field, at, ErrorKind::Bool { found })),
        }
    }

    fn value_type(&mut self, field: Field<'_>) -> Result<ValueType, GgufError> {
        let at = self.pos();
        ValueType::from_id(self.u32(field)?)
            .map_err(|kind| GgufError::at(self.file, field, at, kind))
    }

    /// The value under `key`: its type, then the value itself.
    pub(super) fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let field = Field::Key(key);
        Ok(match self.value_type(field)? {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.array(field)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array(field)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array(field)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array(field)?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(self.array(field)?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array(field)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array(field)?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(self.array(field)?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array(field)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array(field)?)),
            ValueType::Bool => Value::Bool(self.bool(field)?),
            ValueType::String => Value::String(self.str(u64::MAX, field)?.to_owned()),
            ValueType::Array => Value::Array(self.elements(key, field, 1)?),
        })
    }

    /// An array at nesting level `depth`: element type, count, elements.
    fn elements(&mut self, key: &str, field: Field<'_>, depth: usize) -> Result<Array, GgufError> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(self.error(field, ErrorKind::TooDeep));
        }
        let element = self.value_type(field)?;
        let n = self.count(element.min_bytes(), field)?;
        Ok(match element {
            ValueType::U8 => Array::U8(self.numbers(n, field, u8::from_le_bytes)?),
            ValueType::I8 => Array::I8(self.numbers(n, field, i8::from_le_bytes)?),
            ValueType::U16 => Array::U16(self.numbers(n, field, u16::from_le_bytes)?),
            ValueType::I16 => Array::I16(self.numbers(n, field, i16::from_le_bytes)?),
            ValueType::U32 => Array::U32(self.numbers(n, field, u32::from_le_bytes)?),
            ValueType::I32 => Array::I32(self.numbers(n, field, i32::from_le_bytes)?),
            ValueType::F32 => Array::F32(self.numbers(n, field, f32::from_le_bytes)?),
            ValueType::U64 => Array::U64(self.numbers(n, field, u64::from_le_bytes)?),
            ValueType::I64 => Array::I64(self.numbers(n, field, i64::from_le_bytes)?),
            ValueType::F64 => Array::F64(self.numbers(n, field, f64::from_le_bytes)?),
            ValueType::Bool => Array::Bool(self.each(n, key, Self::bool)?),
            ValueType::String => Array::String(
                self.each(n, key, |reader, field| reader.str(u64::MAX, field).map(str::to_owned))?,
            ),
            ValueType::Array => Array::Array(
                self.each(n, key, |reader, field| reader.elements(key, field, depth + 1))?,
            ),
        })
    }

    /// `n` elements of variable size or with values to check.
    fn each<T>(
        &mut self,
        n: u64,
        key: &str,
        read: impl Fn(&mut Self, Field<'_>) -> Result<T, GgufError>,
    ) -> Result<Vec<T>, GgufError> {
        let mut out = Vec::with_capacity(reserve(n));
        for i in 0..n {
            out.push(read(self, Field::Element(key, i))?);
        }
        Ok(out)
    }

    /// `n` numbers of `N` bytes each.
    fn numbers<const N: usize, T>(
        &mut self,
        n: u64,
        field: Field<'_>,
        convert: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        // The count was checked against the bytes left, so the product cannot overflow.
        let bytes = self.take(n * N as u64, field)?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().copied().map(convert).collect())
    }
}
