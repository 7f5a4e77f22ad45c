//! Metadata values: the thirteen types of GGUF, with arrays kept as typed vectors.
//!
//! A vocabulary is one array of 150 000 strings and one of as many floats, so an array is a single
//! `Vec` of its element type and never a list of [`Value`]s.

use super::error::ErrorKind;

/// The type of a metadata value; the discriminants are the ids that files carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are the types")]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// Every type, in the order of the ids.
    pub const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type with this id.
    pub fn from_id(id: u32) -> Result<Self, ErrorKind> {
        Self::ALL.get(id as usize).copied().ok_or(ErrorKind::ValueType { id })
    }

    /// The id that files carry.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The name for messages.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    /// The fewest bytes that a value of this type takes in a file: its size for the plain types,
    /// the length field of a string, the type and length fields of an array.
    pub(super) fn min_bytes(self) -> u64 {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::String => 8,
            ValueType::Array => 12,
        }
    }
}

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the types of the elements")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Runs `$body` with `$v` bound to the content of whichever variant `$of` is.
macro_rules! for_each_variant {
    ($enum:ident, $of:expr, $v:ident => $body:expr) => {
        match $of {
            $enum::U8($v) => $body,
            $enum::I8($v) => $body,
            $enum::U16($v) => $body,
            $enum::I16($v) => $body,
            $enum::U32($v) => $body,
            $enum::I32($v) => $body,
            $enum::F32($v) => $body,
            $enum::Bool($v) => $body,
            $enum::String($v) => $body,
            $enum::Array($v) => $body,
            $enum::U64($v) => $body,
            $enum::I64($v) => $body,
            $enum::F64($v) => $body,
        }
    };
}

impl Value {
    /// The type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The integer, whatever its width; `None` for anything else. `i128` holds all of them.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// What the value is, in a few words for an error message: the type, with the number where
    /// there is one.
    pub fn describe(&self) -> String {
        match self {
            Value::Array(array) => {
                format!("array of {} {}", array.len(), array.element_type().name())
            }
            Value::F32(v) => format!("f32 {v}"),
            Value::F64(v) => format!("f64 {v}"),
            Value::Bool(v) => format!("bool {v}"),
            Value::String(_) => "string".to_owned(),
            other => match other.as_integer() {
                Some(v) => format!("{} {v}", other.value_type().name()),
                None => other.value_type().name().to_owned(),
            },
        }
    }

    /// Appends the value as it stands in a file, without its type.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for_each_variant!(Value, self, v => v.put(out));
    }
}

impl Array {
    /// The type of the elements.
    pub fn element_type(&self) -> ValueType {
        match self {
            Array::U8(_) => ValueType::U8,
            Array::I8(_) => ValueType::I8,
            Array::U16(_) => ValueType::U16,
            Array::I16(_) => ValueType::I16,
            Array::U32(_) => ValueType::U32,
            Array::I32(_) => ValueType::I32,
            Array::F32(_) => ValueType::F32,
            Array::Bool(_) => ValueType::Bool,
            Array::String(_) => ValueType::String,
            Array::Array(_) => ValueType::Array,
            Array::U64(_) => ValueType::U64,
            Array::I64(_) => ValueType::I64,
            Array::F64(_) => ValueType::F64,
        }
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        for_each_variant!(Array, self, v => v.len())
    }

    /// True when there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integers, converted to `T`, when the elements are integers of any width and all fit.
    pub(super) fn integers<T: TryFrom<i128>>(&self) -> Option<Vec<T>> {
        fn all<S: Copy + Into<i128>, T: TryFrom<i128>>(from: &[S]) -> Option<Vec<T>> {
            from.iter().map(|&v| T::try_from(v.into()).ok()).collect()
        }
        match self {
            Array::U8(v) => all(v),
            Array::I8(v) => all(v),
            Array::U16(v) => all(v),
            Array::I16(v) => all(v),
            Array::U32(v) => all(v),
            Array::I32(v) => all(v),
            Array::U64(v) => all(v),
            Array::I64(v) => all(v),
            _ => None,
        }
    }

    /// How deep arrays nest here: 1 for an array of anything but arrays.
    pub(super) fn depth(&self) -> usize {
        match self {
            Array::Array(inner) => 1 + inner.iter().map(Array::depth).max().unwrap_or(0),
            _ => 1,
        }
    }
}

/// Writing a value in GGUF's encoding.
trait Put {
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! put_numbers {
    ($($t:ty),*) => {$(
        impl Put for $t {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
put_numbers!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

impl Put for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Put for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_str(self, out);
    }
}

impl Put for Array {
    fn put(&self, out: &mut Vec<u8>) {
        self.element_type().id().put(out);
        (self.len() as u64).put(out);
        for_each_variant!(Array, self, v => v.iter().for_each(|element| element.put(out)));
    }
}

/// Appends a string as it stands in a file: its length in bytes as `u64`, then the bytes.
pub(super) fn put_str(text: &str, out: &mut Vec<u8>) {
    (text.len() as u64).put(out);
    out.extend_from_slice(text.as_bytes());
}

macro_rules! from_rust {
    ($($t:ty => $variant:ident),*) => {$(
        impl From<$t> for Value {
            fn from(value: $t) -> Self {
                Value::$variant(value)
            }
        }
        impl From<Vec<$t>> for Value {
            fn from(values: Vec<$t>) -> Self {
                Value::Array(Array::$variant(values))
            }
        }
    )*};
}
from_rust!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32,
    bool => Bool, String => String, u64 => U64, i64 => I64, f64 => F64, Array => Array);

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::String(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_positions_in_the_list() {
        for (i, t) in ValueType::ALL.into_iter().enumerate() {
            assert_eq!(t.id() as usize, i);
            assert_eq!(ValueType::from_id(i as u32).unwrap(), t);
        }
        assert!(ValueType::from_id(13).is_err());
    }

    #[test]
    fn integers_of_any_width_convert_when_all_fit() {
        assert_eq!(Array::U64(vec![1, 2]).integers::<i32>(), Some(vec![1, 2]));
        assert_eq!(Array::I8(vec![-1, 2]).integers::<u32>(), None);
        assert_eq!(Array::F32(vec![1.0]).integers::<u32>(), None);
    }

    #[test]
    fn a_nested_array_is_encoded_with_the_type_of_each_level() {
        let mut out = Vec::new();
        Value::from(vec![Array::U8(vec![7])]).encode(&mut out);
        let expected = [
            &9u32.to_le_bytes()[..],
            &1u64.to_le_bytes(),
            &0u32.to_le_bytes(),
            &1u64.to_le_bytes(),
            &[7],
        ];
        assert_eq!(out, expected.concat());
    }
}
