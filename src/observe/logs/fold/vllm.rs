//! vLLM's server: what of its log has a place in the session.

use super::super::record::Record;
use super::super::session::{Buffer, BufferKind, KvCache, LogSession, Seen};
use super::kind::Kind;
use super::memory::{add_kv, push};
use super::stage::Stage;
use super::store::Store;
use super::stream::Streams;
use super::value::{decimal, kept, mib};

/// Takes a line in.
pub(super) fn apply(
    session: &mut LogSession,
    streams: &mut Streams,
    store: &mut Store,
    record: &Record<'_>,
) {
    let (fields, line) = (&record.fields, record.line);
    if let Some(version) = fields.get("version") {
        session.version = Some(Seen { value: kept(version), line });
    }
    let stream = streams.of(record, store);
    match record.kind {
        Kind::VllmEngine => {
            let begins = stream.open.is_some();
            let load = &mut stream.enter(Stage::Loader, begins, record, store).load;
            load.model.name = fields.get("model").map(kept);
            load.n_ctx_seq = fields.number("ctx").map(|value| Seen { value, line });
        }
        Kind::VllmWeights => {
            let load = &mut stream.enter(Stage::Tensors, false, record, store).load;
            let bytes = fields.get("gib").and_then(decimal).and_then(|gib| mib(gib * 1024.0));
            if let Some(bytes) = bytes {
                let device = "GPU".to_string();
                push(load, Buffer { kind: BufferKind::Model, device, bytes, line });
            }
        }
        Kind::VllmKvCache => {
            let load = &mut stream.enter(Stage::Context, false, record, store).load;
            let cells = fields.get("tokens").and_then(|t| t.replace(',', "").parse().ok());
            add_kv(load, KvCache { cells, line, ..KvCache::default() });
        }
        Kind::VllmThroughput => {
            let number = |name: &str| fields.get(name).and_then(decimal);
            let running = number("running").filter(|n| *n >= 1.0);
            let each = |speed: Option<f64>| Some(speed? / running?);
            let waiting: u64 = fields.number("waiting").or(fields.number("pending")).unwrap_or(0);
            let kv = number("kv").unwrap_or(0.0) / 100.0;
            let speeds = [number("prompt"), each(number("decode"))];
            store.throughput(speeds, waiting.min(1 << 32), kv, line);
        }
        _ => {}
    }
}
