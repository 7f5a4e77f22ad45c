//! Lines that are JSON objects: Docker's files, `journalctl -o json`, collectors, llama.cpp itself.
//!
//! An envelope gives the line in it. What llama.cpp logs as an object is written as a structured
//! line instead, so that one reader of pairs is enough.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::text::clock;
use super::{At, Told};

/// The text within, and what the object told.
pub(super) fn open(text: &str) -> Option<(String, Told)> {
    if !text.starts_with('{') || !text.trim_end().ends_with('}') {
        return None;
    }
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return None };
    docker(&object)
        .or_else(|| journald(&object))
        .or_else(|| program(&object))
        .or_else(|| collector(&object))
}

fn string<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

/// `{"log":"…\n","stream":"stderr","time":"…"}`.
fn docker(object: &Map<String, Value>) -> Option<(String, Told)> {
    /// Docker cuts longer lines into pieces of this size.
    const PIECE_BYTES: usize = 16 << 10;
    let log = string(object, "log")?;
    let line = log.strip_suffix('\n');
    let partial = line.is_none() && log.len() >= PIECE_BYTES;
    let at = string(object, "time").and_then(full_time);
    let told = Told { at, partial, collected: true, container: true, ..Told::default() };
    Some((clean(line.unwrap_or(log)), told))
}

/// `{"MESSAGE":"…","_PID":"2001","__REALTIME_TIMESTAMP":"microseconds"}`; a message that is not
/// UTF-8 is an array of bytes.
fn journald(object: &Map<String, Value>) -> Option<(String, Told)> {
    let message = match object.get("MESSAGE")? {
        Value::String(text) => clean(text),
        Value::Array(bytes) => {
            let bytes: Vec<u8> =
                bytes.iter().filter_map(|b| u8::try_from(b.as_u64()?).ok()).collect();
            clean(&String::from_utf8_lossy(&bytes))
        }
        _ => return None,
    };
    let number = |key: &str| string(object, key).and_then(|s| s.parse::<u64>().ok());
    let micros = number("__REALTIME_TIMESTAMP").and_then(|n| i64::try_from(n).ok());
    let told = Told {
        at: micros.and_then(|n| n.checked_mul(1000)).map(At::utc),
        process: number("_PID").and_then(|n| u32::try_from(n).ok()),
        collected: true,
        ..Told::default()
    };
    Some((message, told))
}

/// llama.cpp: `{"type":"log","time":µs,"level":"info","msg":"…"}` since 2026, an object of another
/// type with `data`, and `{"timestamp":s,"level":"INFO","function":"main","message":"…",…}` in
/// 2023 and 2024.
fn program(object: &Map<String, Value>) -> Option<(String, Told)> {
    match (string(object, "type"), string(object, "msg"), object.get("data")) {
        (Some("log"), Some(msg), _) => {
            let micros = object.get("time").and_then(Value::as_u64).filter(|n| *n > 0);
            let line = msg.strip_suffix('\n');
            let told = Told {
                elapsed_ns: micros.and_then(|n| n.checked_mul(1000)),
                partial: line.is_none(),
                ..Told::default()
            };
            return Some((clean(line.unwrap_or(msg)), told));
        }
        (Some(kind), None, Some(Value::Object(data))) => {
            return Some((structured("", kind, "", data, &[]), Told::default()));
        }
        _ => {}
    }
    let function = string(object, "function")?;
    let message = string(object, "message").or_else(|| string(object, "msg"))?;
    let level = string(object, "level").unwrap_or_default();
    let seconds = object.get("timestamp").and_then(Value::as_i64);
    let at = seconds.and_then(|s| s.checked_mul(1_000_000_000)).map(At::utc);
    let known = ["timestamp", "level", "function", "message", "msg", "line"];
    Some((structured(level, message, function, object, &known), Told { at, ..Told::default() }))
}

/// Anything else that carries a line under a usual name.
fn collector(object: &Map<String, Value>) -> Option<(String, Told)> {
    const TIMES: [&str; 5] = ["time", "timestamp", "ts", "@timestamp", "date"];
    const NAMES: [&str; 7] = ["message", "msg", "textPayload", "line", "body", "text", "@message"];
    let line = NAMES.iter().find_map(|name| string(object, name))?;
    let at = TIMES.iter().find_map(|name| full_time(string(object, name)?));
    Some((clean(line), Told { at, collected: true, ..Told::default() }))
}

fn full_time(text: &str) -> Option<At> {
    clock::date_time(text.as_bytes()).map(At::of)
}

/// A structured line with everything of the object but what is known.
fn structured(
    level: &str,
    message: &str,
    source: &str,
    object: &Map<String, Value>,
    known: &[&str],
) -> String {
    let mut line = String::new();
    // The reader of pairs knows a structured line by its first key.
    let _ = write!(line, "level={} ", if level.is_empty() { "INFO" } else { level });
    if !source.is_empty() {
        let _ = write!(line, "source={source:?} ");
    }
    let _ = write!(line, "msg={message:?}");
    for (key, value) in object.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        let _ = match value {
            Value::String(text) => write!(line, " {key:?}={text:?}"),
            Value::Array(_) | Value::Object(_) => {
                write!(line, " {key:?}={:?}", value.to_string())
            }
            plain => write!(line, " {key:?}={plain}"),
        };
    }
    line
}

/// Text that comes out of an escape may have what a line must not have.
fn clean(text: &str) -> String {
    let lines = text.trim_end_matches(['\n', '\r']);
    let parts: Vec<_> =
        lines.split('\n').map(|l| super::super::text::clean(l.as_bytes())).collect();
    parts.join("\n")
}
