//! The metadata of a file: ordered pairs of unique keys and values, with typed getters.
//!
//! Converters disagree about integer widths and signedness, so the getters accept any integer that
//! fits. Everything else must have the type asked for. The getters' errors are read by users: they
//! name the file, the key, where it stands, and what was found.

use std::borrow::Cow;
use std::collections::HashMap;

use super::error::{ErrorKind, GgufError};
use super::reader::Field;
use super::value::{Array, Value};

/// Ordered pairs of unique keys and values.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    file: String,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    value: Value,
    /// Where the entry begins in its file; `None` when it did not come from one.
    offset: Option<u64>,
}

/// Defines the pair of getters `$name` (the key must be there) and `$opt` (it may be missing).
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident, $opt:ident -> $t:ty, $expected:literal, $convert:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// An error when the key is missing or its value is something else.
        pub fn $name(&self, key: &str) -> Result<$t, GgufError> {
            self.$opt(key)?.ok_or_else(|| self.missing(key))
        }

        $(#[$doc])*
        ///
        /// `None` when the key is missing; an error when its value is something else.
        pub fn $opt(&self, key: &str) -> Result<Option<$t>, GgufError> {
            self.typed(key, $expected, $convert)
        }
    )*};
}

impl Metadata {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// No entries yet, of the file of this name; `capacity` entries will come.
    pub(super) fn of_file(file: &str, capacity: usize) -> Self {
        Self {
            file: file.to_owned(),
            entries: Vec::with_capacity(capacity),
            index: HashMap::with_capacity(capacity),
        }
    }

    /// Appends an entry read from byte `offset` of the file. On a duplicate key, the offset of the
    /// first entry is the error.
    pub(super) fn push(&mut self, key: &str, value: Value, offset: u64) -> Result<(), u64> {
        if let Some(&first) = self.index.get(key) {
            return Err(self.entries[first].offset.unwrap_or(0));
        }
        self.index.insert(key.to_owned(), self.entries.len());
        self.entries.push(Entry { key: key.to_owned(), value, offset: Some(offset) });
        Ok(())
    }

    /// Sets a key: replaces its value where it stands, or appends it.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        if let Some(&at) = self.index.get(key) {
            self.entries[at].value = value;
            self.entries[at].offset = None;
        } else {
            self.index.insert(key.to_owned(), self.entries.len());
            self.entries.push(Entry { key: key.to_owned(), value, offset: None });
        }
        self
    }

    /// The value under this key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// True when there is such a key.
    pub fn contains(&self, key: &str) -> bool {
        self.index.contains_key(key)
    }

    /// The pairs in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// How many pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    getters! {
        /// A string.
        str, opt_str -> &str, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        };
        /// A truth value.
        bool, opt_bool -> bool, "a bool", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        };
        /// An integer from 0 to 2^32 - 1, of whatever width.
        u32, opt_u32 -> u32, "an unsigned 32-bit integer", |value| {
            u32::try_from(value.as_integer()?).ok()
        };
        /// An integer from 0 to 2^64 - 1, of whatever width.
        u64, opt_u64 -> u64, "an unsigned integer", |value| {
            u64::try_from(value.as_integer()?).ok()
        };
        /// An integer from -2^31 to 2^31 - 1, of whatever width.
        i32, opt_i32 -> i32, "a 32-bit integer", |value| {
            i32::try_from(value.as_integer()?).ok()
        };
        /// A floating-point number; an `f64` is rounded to the nearest `f32`.
        f32, opt_f32 -> f32, "a floating-point number", |value| match value {
            Value::F32(number) => Some(*number),
            Value::F64(number) => Some(*number as f32),
            _ => None,
        };
        /// An array of strings.
        strings, opt_strings -> &[String], "an array of strings", |value| match value {
            Value::Array(Array::String(texts)) => Some(texts.as_slice()),
            _ => None,
        };
        /// An array of `f32`.
        f32s, opt_f32s -> &[f32], "an array of f32", |value| match value {
            Value::Array(Array::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        };
        /// An array of truth values.
        bools, opt_bools -> &[bool], "an array of bools", |value| match value {
            Value::Array(Array::Bool(flags)) => Some(flags.as_slice()),
            _ => None,
        };
        /// An array of integers that all fit `i32`; borrowed when they are stored as such.
        i32s, opt_i32s -> Cow<'_, [i32]>, "an array of 32-bit integers", |value| match value {
            Value::Array(Array::I32(numbers)) => Some(Cow::Borrowed(numbers.as_slice())),
            Value::Array(array) => array.integers().map(Cow::Owned),
            _ => None,
        };
        /// An array of integers that all fit `u32`; borrowed when they are stored as such.
        u32s, opt_u32s -> Cow<'_, [u32]>, "an array of unsigned 32-bit integers",
        |value| match value {
            Value::Array(Array::U32(numbers)) => Some(Cow::Borrowed(numbers.as_slice())),
            Value::Array(array) => array.integers().map(Cow::Owned),
            _ => None,
        };
    }

    /// An error about this key with words of the caller's: for values that have the right type
    /// but make no sense, such as a head count of zero.
    pub fn invalid(&self, key: &str, expected: &'static str) -> GgufError {
        match self.entry(key) {
            None => self.missing(key),
            Some(entry) => self.wrong(entry, expected),
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).map(|&at| &self.entries[at])
    }

    /// The file's name for messages.
    pub(super) fn file(&self) -> &str {
        if self.file.is_empty() { "metadata" } else { &self.file }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        convert(&entry.value).map(Some).ok_or_else(|| self.wrong(entry, expected))
    }

    fn missing(&self, key: &str) -> GgufError {
        GgufError::field(self.file(), Field::Key(key), ErrorKind::MissingKey)
    }

    fn wrong(&self, entry: &Entry, expected: &'static str) -> GgufError {
        self.error(&entry.key, ErrorKind::WrongType { expected, found: entry.value.describe() })
    }

    /// An error about this key, with its place where it has one.
    pub(super) fn error(&self, key: &str, kind: ErrorKind) -> GgufError {
        let field = Field::Key(key);
        match self.entry(key).and_then(|entry| entry.offset) {
            Some(offset) => GgufError::at(self.file(), field, offset, kind),
            None => GgufError::field(self.file(), field, kind),
        }
    }
}

/// Equal when the pairs are equal and in the same order, wherever they came from.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metadata {
        let mut metadata = Metadata::new();
        metadata
            .set("arch", "llama")
            .set("blocks", 32u16)
            .set("negative", -1i64)
            .set("big", u64::MAX)
            .set("eps", 1e-5f64)
            .set("flag", true)
            .set("types", vec![1u8, 3])
            .set("scores", vec![0.5f32])
            .set("tokens", vec!["a".to_owned()]);
        metadata
    }

    #[test]
    fn getters_convert_integers_that_fit_and_refuse_the_rest() {
        let m = sample();
        assert_eq!(m.u32("blocks").unwrap(), 32);
        assert_eq!(m.u64("big").unwrap(), u64::MAX);
        assert_eq!(m.i32("negative").unwrap(), -1);
        assert_eq!(m.f32("eps").unwrap(), 1e-5);
        assert_eq!(&*m.i32s("types").unwrap(), &[1, 3]);
        assert_eq!(m.strings("tokens").unwrap(), ["a"]);
        assert_eq!(m.opt_bool("flag").unwrap(), Some(true));
        assert_eq!(m.opt_bool("absent").unwrap(), None);
        assert_eq!(
            m.u32("negative").unwrap_err().to_string(),
            "metadata: metadata key \"negative\": expected an unsigned 32-bit integer, found i64 -1"
        );
        assert!(m.u32("big").is_err());
        assert!(m.f32("blocks").is_err());
        assert!(m.opt_u32s("scores").is_err());
        assert!(matches!(m.str("absent").unwrap_err().kind(), ErrorKind::MissingKey));
    }

    #[test]
    fn setting_a_key_again_keeps_its_place() {
        let mut m = sample();
        m.set("arch", "qwen2");
        assert_eq!(m.iter().next(), Some(("arch", &Value::from("qwen2"))));
        assert_eq!(m.len(), 9);
    }
}
