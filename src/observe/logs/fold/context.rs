//! The context of a load: its parameters, KV cache and graph.

use super::super::record::Record;
use super::super::session::{KvCache, Seen};
use super::kind::Kind;
use super::memory::{add_kv, flash_attention, graph};
use super::stream::Open;
use super::value::{decimal, kept, mib};

/// Takes a line about a context in. Only the first context of a load gives its parameters: a second
/// one is of a draft head, which the same process makes after it.
pub(super) fn apply(open: &mut Open, record: &Record<'_>) {
    let fields = &record.fields;
    match record.kind {
        Kind::ContextStart => open.contexts += 1,
        Kind::ContextParameter => {
            if super::memory::begins_context(open, record) && open.contexts == 0 {
                open.contexts = 1;
            }
            if open.contexts <= 1 {
                parameter(open, record);
            }
        }
        Kind::KvInit | Kind::KvSize => {
            let bytes = fields.get("mib").and_then(decimal).and_then(mib);
            let kv = KvCache {
                bytes,
                cells: fields.number("cells"),
                layers: fields.number("layers"),
                sequences: fields.number("seqs"),
                type_k: fields.get("type_k").map(kept),
                type_v: fields.get("type_v").map(kept),
                line: record.line,
                ..KvCache::default()
            };
            if open.contexts <= 1 {
                add_kv(&mut open.load, kv);
            }
        }
        Kind::ReserveStart => {}
        Kind::FlashAttention => {
            let state = fields.get("state").and_then(flash_attention);
            if let Some(value) = state {
                open.load.flash_attention = Some(Seen { value, line: record.line });
            }
        }
        Kind::ServerSlots => {
            let line = record.line;
            if let Some(value) = fields.number("slots") {
                open.load.n_seq_max = Some(Seen { value, line });
            }
            if let Some(value) = fields.number("ctx_slot") {
                open.load.n_ctx_seq = Some(Seen { value, line });
            }
        }
        _ if open.contexts <= 1 => apply_graph(open, record),
        _ => {}
    }
}

fn parameter(open: &mut Open, record: &Record<'_>) {
    let (Some(key), Some(value)) = (record.fields.get("key"), record.fields.get("value")) else {
        return;
    };
    let (load, line) = (&mut open.load, record.line);
    let number = value.parse().ok().map(|value| Seen { value, line });
    match key {
        "n_ctx" => load.n_ctx = number,
        "n_ctx_per_seq" | "n_ctx_seq" => load.n_ctx_seq = number,
        "n_seq_max" => load.n_seq_max = number,
        "n_batch" => load.n_batch = number,
        "n_ubatch" => load.n_ubatch = number,
        "n_threads" => load.n_threads = number,
        "flash_attn" => {
            let state = flash_attention(value).map(|value| Seen { value, line });
            load.flash_attention = state.or(load.flash_attention);
        }
        _ => {}
    }
}

fn apply_graph(open: &mut Open, record: &Record<'_>) {
    let fields = &record.fields;
    let graph = graph(&mut open.load);
    match record.kind {
        Kind::GraphNodes => {
            graph.nodes_prompt = fields.number("nodes");
            graph.nodes_decode = fields.number("nodes_decode");
        }
        Kind::GraphSplits | Kind::GraphSummary | Kind::GraphTotal => {
            graph.splits_prompt = fields.number("splits");
            graph.splits_decode = fields.number("splits_decode");
            if record.kind != Kind::GraphSplits {
                graph.nodes_prompt = fields.number("nodes");
                graph.nodes_decode = fields.number("nodes_decode");
            }
            graph.line = record.line;
        }
        Kind::ReserveTook | Kind::PipelineParallel => {
            graph.copies = fields.number("copies").or(graph.copies);
        }
        _ => {}
    }
    graph.batch = fields.number("batch").or(graph.batch);
    if graph.line.0 == 0 {
        graph.line = record.line;
    }
}
