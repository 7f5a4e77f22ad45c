//! Values out of documents that nobody vouches for.
//!
//! Servers of different ages name and nest fields differently, so documents are read by path and not
//! by one fixed type. Invariant: a number that comes out is finite and from 0 to 2^53.

use serde_json::Value;

/// Beyond it, not every whole number is a double.
const NUMBER_MAX: f64 = 9_007_199_254_740_992.0;
/// A name or a setting longer than this is cut, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// A quantity at a JSON pointer such as `/timings/prompt_ms`.
pub(super) fn number(value: &Value, path: &str) -> Option<f64> {
    value.pointer(path)?.as_f64().filter(|n| (0.0..=NUMBER_MAX).contains(n))
}

/// A count at a JSON pointer.
pub(super) fn count(value: &Value, path: &str) -> Option<u64> {
    number(value, path).filter(|n| n.fract() == 0.0).map(|n| n as u64)
}

/// A text at a JSON pointer, cut where it is unreasonably long.
pub(super) fn text(value: &Value, path: &str) -> Option<String> {
    value.pointer(path)?.as_str().map(|s| cut(s, TEXT_BYTES_MAX).to_string())
}

/// A text at a JSON pointer; empty where there is none.
pub(super) fn text_or_empty(value: &Value, path: &str) -> String {
    text(value, path).unwrap_or_default()
}

/// The elements of an array at a JSON pointer; none where there is no array.
pub(super) fn elements<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// At most `bytes` of a text, cut between characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_nobody_can_mean_are_absent() {
        let v = json!({"a": -1, "b": 1e300, "c": "7", "d": {"e": 2.5}, "f": 3.0, "g": null});
        assert_eq!(number(&v, "/a"), None);
        assert_eq!(number(&v, "/b"), None);
        assert_eq!(number(&v, "/c"), None);
        assert_eq!(number(&v, "/d/e"), Some(2.5));
        assert_eq!((count(&v, "/d/e"), count(&v, "/f"), count(&v, "/g")), (None, Some(3), None));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("aéb", 2), "a");
        assert_eq!(cut("aéb", 3), "aé");
        assert_eq!(cut("", 3), "");
        assert_eq!(elements(&json!({"x": 1}), "/x").len(), 0);
    }
}
