//! What Ollama asks of its own engine, and what the engine allocated, in Go's notation.

use std::collections::BTreeMap;

use super::super::record::Record;
use super::super::session::{Buffer, BufferKind, FlashAttention, LoadOutcome, LogSession, Seen};
use super::memory::{device_name, flash_attention, push};
use super::stage::Stage;
use super::stream::Open;
use super::value::kept;

/// `{Operation:commit … KvSize:8192 … GPULayers:30[ID:… Layers:30(18..47)] …}`. The requests of one
/// load follow each other: fit, alloc (several times), commit; the last one counts.
pub(super) fn load_request(session: &LogSession, open: &mut Open, record: &Record<'_>) {
    let Some(request) = record.fields.get("request") else { return };
    let (load, line) = (&mut open.load, record.line);
    let number = |name: &str| value(request, name).and_then(|v| v.parse::<u64>().ok());
    let seen = |name: &str| number(name).map(|value| Seen { value, line });
    if value(request, "Operation") == Some("alloc") {
        load.attempts += 1;
    }
    if value(request, "Operation") == Some("close") {
        open.stage = Stage::Ended;
        if matches!(load.outcome, LoadOutcome::Ready(_)) {
            load.outcome = LoadOutcome::Unloaded(line);
        }
        return;
    }
    load.buffers.clear();
    load.n_ctx = seen("KvSize").or(load.n_ctx);
    load.n_seq_max = seen("Parallel").or(load.n_seq_max);
    load.n_batch = seen("BatchSize").or(load.n_batch);
    load.n_threads = seen("NumThreads").or(load.n_threads);
    if let (Some(ctx), Some(parallel)) = (load.n_ctx, load.n_seq_max)
        && parallel.value > 0
    {
        load.n_ctx_seq = Some(Seen { value: ctx.value / parallel.value, line });
    }
    let state = value(request, "FlashAttention").and_then(flash_attention);
    load.flash_attention = state.map(|value: FlashAttention| Seen { value, line });
    let types = value(request, "KvCacheType").filter(|t| !t.is_empty()).map(kept);
    load.requested.kv_type_k = types.clone().map(|value| Seen { value, line });
    load.requested.kv_type_v = types.map(|value| Seen { value, line });
    let mmap = value(request, "UseMmap").map(|v| Seen { value: v == "true", line });
    load.requested.mmap = mmap.or(load.requested.mmap);
    load.layers_by_device = layers(session, request);
}

/// Whether the engine is asked to give up its model.
pub(super) fn is_close(record: &Record<'_>) -> bool {
    record.fields.get("request").and_then(|r| value(r, "Operation")) == Some("close")
}

/// The value after `Name:`, up to the next blank or the end of the struct.
fn value<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = request;
    loop {
        let at = rest.find(name)?;
        let before = rest[..at].chars().next_back();
        let after = &rest[at + name.len()..];
        if matches!(before, None | Some(' ' | '{')) && after.starts_with(':') {
            return after[1..].split([' ', '}']).next();
        }
        rest = after;
    }
}

/// Layers by device, of `GPULayers:30[ID:a Layers:20(0..19) ID:b Layers:10(20..29)]`.
fn layers(session: &LogSession, request: &str) -> Vec<(String, u64)> {
    const DEVICES_MAX: usize = 64;
    let Some((_, list)) = request.split_once("GPULayers:") else { return Vec::new() };
    let mut found = Vec::new();
    for part in list.split("ID:").skip(1).take(DEVICES_MAX) {
        let id = part.split([' ', '}']).next().unwrap_or_default();
        let count = part.split_once("Layers:").map_or("", |(_, rest)| rest);
        let digits = count.find(|c: char| !c.is_ascii_digit()).unwrap_or(count.len());
        if let Ok(count) = count[..digits].parse() {
            found.push((device_name(session, id), count));
        }
    }
    found
}

/// `allocated.CUDA0.Weights="[476020736A 0U]" allocated.CUDA0.Graph=123A`: the sums by device.
pub(super) fn memory_tree(open: &mut Open, record: &Record<'_>) {
    let Some(tree) = record.fields.get("tree") else { return };
    let mut sums: BTreeMap<(BufferKind, String), u64> = BTreeMap::new();
    let mut rest = tree;
    while let Some((key, after)) = rest.split_once('=') {
        let quoted = after.strip_prefix('"');
        let (value, next) = match quoted {
            Some(inner) => inner.split_once('"').unwrap_or((inner, "")),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        rest = next.trim_start();
        // prefix, device (absent for input weights, which are the CPU's), what
        let parts: Vec<&str> = key.trim().split('.').collect();
        let (device, what) = match parts.as_slice() {
            [_, "InputWeights"] => ("CPU", "Weights"),
            [_, device, what] => (*device, *what),
            _ => continue,
        };
        let kind = match what {
            "Weights" => BufferKind::Model,
            "Cache" => BufferKind::Kv,
            "Graph" => BufferKind::Compute,
            _ => continue,
        };
        let numbers = value
            .split([' ', '[', ']'])
            .filter_map(|n| n.trim_end_matches(['A', 'U', 'F']).parse::<u64>().ok());
        let sum = numbers.fold(0u64, u64::saturating_add);
        if sum > 0 {
            let entry = sums.entry((kind, kept(device))).or_default();
            *entry = entry.saturating_add(sum);
        }
    }
    open.load.buffers.clear();
    for ((kind, device), bytes) in sums {
        push(&mut open.load, Buffer { kind, device, bytes, line: record.line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::logs::session::Device;

    const REQUEST: &str = "{Operation:commit LoraPath:[] Parallel:2 BatchSize:512 FlashAttention:true \
                           KvSize:16384 KvCacheType: NumThreads:8 GPULayers:30[ID:GPU-a Layers:20(18..37) \
                           ID:GPU-b Layers:10[38 40 42]] MultiUserCache:false UseMmap:false}";

    #[test]
    fn fields_of_a_struct_may_be_empty() {
        assert_eq!(value(REQUEST, "KvSize"), Some("16384"));
        assert_eq!(value(REQUEST, "KvCacheType"), Some(""));
        assert_eq!(value(REQUEST, "UseMmap"), Some("false"));
        assert_eq!(value(REQUEST, "NoSuch"), None);
    }

    #[test]
    fn layers_have_the_name_of_a_known_device() {
        let mut session = LogSession::default();
        let id = Some("GPU-b".to_string());
        session.devices.push(Device { id, name: Some("CUDA1".into()), ..Device::default() });
        let read = layers(&session, REQUEST);
        assert_eq!(read, vec![("GPU-a".to_string(), 20), ("CUDA1".to_string(), 10)]);
        assert_eq!(layers(&session, "{GPULayers:[] X:1}"), Vec::new());
    }
}
