//! What the header of a model and the loader tell about it.

use super::super::record::Record;
use super::super::session::{Load, Seen};
use super::kind::Kind;
use super::value::{kept, largest, magnitude, size};

/// Takes a line about the model in.
pub(super) fn apply(load: &mut Load, record: &Record<'_>) {
    let fields = &record.fields;
    match record.kind {
        Kind::Metadata => {
            if let (Some(key), Some(value)) = (fields.get("key"), fields.get("value")) {
                metadata(load, key, value.trim(), record);
            }
        }
        Kind::ModelInfo => {
            if let (Some(key), Some(value)) = (fields.get("key"), fields.get("value")) {
                info(load, key, value.trim(), record);
            }
        }
        Kind::EngineModel => {
            if let Some(arch) = fields.get("architecture") {
                load.model.arch = Some(Seen { value: kept(arch), line: record.line });
            }
            let text = |name: &str| fields.get(name).filter(|v| !v.is_empty()).map(kept);
            load.model.file_type = text("file_type").or(load.model.file_type.take());
            load.model.name = text("name").or(load.model.name.take());
        }
        _ => {
            let path = fields.get("path").or_else(|| fields.get("model")).map(kept);
            load.model.path = path.filter(|p| !p.is_empty()).or(load.model.path.take());
        }
    }
}

/// A key of the header. `general.file_type` is a number there, which the loader then names.
fn metadata(load: &mut Load, key: &str, value: &str, record: &Record<'_>) {
    let model = &mut load.model;
    let number = || largest(value);
    if key == "general.architecture" {
        model.arch = Some(Seen { value: kept(value), line: record.line });
        return;
    }
    if key == "general.name" {
        model.name = Some(kept(value));
        return;
    }
    let Some((_, rest)) = key.split_once('.') else { return };
    match rest {
        "block_count" => model.n_layer = number(),
        "context_length" => {
            model.n_ctx_train = number().map(|value| Seen { value, line: record.line });
        }
        "embedding_length" => model.n_embd = number(),
        "feed_forward_length" => model.n_ff = number(),
        "attention.head_count" => model.n_head = number(),
        "attention.head_count_kv" => model.n_head_kv = number(),
        "attention.key_length" => model.n_embd_head_k = number(),
        "attention.value_length" => model.n_embd_head_v = number(),
        "attention.sliding_window" => model.n_swa = number(),
        "vocab_size" => model.n_vocab = number(),
        "expert_count" => model.n_expert = number(),
        "expert_used_count" => model.n_expert_used = number(),
        _ => {}
    }
}

/// A figure of the loader.
fn info(load: &mut Load, key: &str, value: &str, record: &Record<'_>) {
    let line = record.line;
    let number = || largest(value);
    match key {
        "n_ctx" => load.n_ctx = number().map(|value| Seen { value, line }),
        "arch" => load.model.arch = Some(Seen { value: kept(value), line }),
        "general.name" => load.model.name = Some(kept(value)),
        "model params" => load.model.parameters = magnitude(value),
        "model size" | "file size" => {
            let bytes = value.split('(').next().and_then(size);
            load.model.bytes = bytes.map(|value| Seen { value, line }).or(load.model.bytes);
        }
        "file type" | "model ftype" | "ftype" => load.model.file_type = Some(file_type(value)),
        "n_ctx_train" => load.model.n_ctx_train = number().map(|value| Seen { value, line }),
        _ => dimension(load, key, number()),
    }
}

fn dimension(load: &mut Load, key: &str, number: Option<u64>) {
    let model = &mut load.model;
    match key {
        "n_layer" => model.n_layer = number,
        "n_embd" => model.n_embd = number,
        "n_ff" => model.n_ff = number,
        "n_head" => model.n_head = number,
        "n_head_kv" => model.n_head_kv = number,
        "n_embd_head_k" => model.n_embd_head_k = number,
        "n_embd_head_v" => model.n_embd_head_v = number,
        "n_swa" => model.n_swa = number,
        "n_vocab" => model.n_vocab = number,
        "n_expert" => model.n_expert = number,
        "n_expert_used" => model.n_expert_used = number,
        _ => {}
    }
}

/// `2 (mostly Q4_0)` of 2023 is `Q4_0`.
fn file_type(value: &str) -> String {
    let mostly = value.split_once("(mostly ").map(|(_, rest)| rest.trim_end_matches(')'));
    kept(mostly.unwrap_or(value))
}
