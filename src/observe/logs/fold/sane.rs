//! Numbers that no machine has are taken as not told, so that whoever reckons with a session need
//! not fear them: a damaged line, or one that somebody wrote to see what happens.
//!
//! Bounds are far above what exists. Invariant: sums over a session, and the product of bytes and
//! layers or of tokens and sequences, are in the range of 64 bits.

use super::super::session::{Estimate, Fit, Load, LogSession, Model, Request, Requested, Seen};

/// 16 TiB of memory.
const BYTES_MAX: u64 = 1 << 44;
/// Tokens of a context or a request.
const TOKENS_MAX: u64 = 1 << 28;
/// Sequences, threads.
const FEW_MAX: u64 = 1 << 12;
/// Layers.
const LAYERS_MAX: u64 = 1 << 14;
/// Heads, widths, experts, nodes, splits.
const MANY_MAX: u64 = 1 << 24;
/// A hundred years.
const NS_MAX: u64 = 100 * 365 * 24 * 3600 * 1_000_000_000;

/// Goes through all that a session holds.
pub(super) fn without_absurd_numbers(session: &mut LogSession) {
    let of_loads = session.loads.iter_mut().filter_map(|l| l.host.as_mut());
    for host in session.host.iter_mut().chain(of_loads) {
        caps([&mut host.total_bytes, &mut host.free_bytes, &mut host.swap_bytes], BYTES_MAX);
    }
    for device in &mut session.devices {
        caps([&mut device.total_bytes, &mut device.free_bytes], BYTES_MAX);
    }
    session.loads.iter_mut().for_each(load);
    let requests = &mut session.requests;
    requests.first.iter_mut().chain(&mut requests.last).for_each(request);
    session.threads_and_cores.take_if(|s| s.value.0 > FEW_MAX || s.value.1 > FEW_MAX);
}

fn caps<const N: usize>(values: [&mut Option<u64>; N], most: u64) {
    for value in values {
        value.take_if(|v| *v > most);
    }
}

fn seen<const N: usize>(values: [&mut Option<Seen<u64>>; N], most: u64) {
    for value in values {
        value.take_if(|v| v.value > most);
    }
}

fn load(load: &mut Load) {
    model(&mut load.model);
    requested(&mut load.requested);
    load.estimate.iter_mut().for_each(estimate);
    load.fit.iter_mut().for_each(fit);
    load.gpu_free.retain(|g| g.free_bytes <= BYTES_MAX);
    load.gpu_free.iter_mut().for_each(|g| caps([&mut g.usable_bytes], BYTES_MAX));
    load.buffers.retain(|b| b.bytes <= BYTES_MAX);
    load.layers.take_if(|l| l.total > LAYERS_MAX || l.offloaded > LAYERS_MAX);
    load.layers_by_device.retain(|(_, n)| *n <= LAYERS_MAX);
    load.nodes_by_device.retain(|(_, _, n)| *n <= MANY_MAX);
    if let Some(kv) = &mut load.kv {
        caps([&mut kv.bytes], BYTES_MAX);
        let all = kv.bytes.unwrap_or(0);
        kv.window_bytes_cells.take_if(|(bytes, cells)| *bytes > all || *cells > TOKENS_MAX);
        caps([&mut kv.cells], TOKENS_MAX);
        caps([&mut kv.layers], LAYERS_MAX);
        caps([&mut kv.sequences], FEW_MAX);
    }
    if let Some(graph) = &mut load.graph {
        let nodes = [&mut graph.nodes_prompt, &mut graph.nodes_decode];
        caps(nodes, MANY_MAX);
        caps([&mut graph.splits_prompt, &mut graph.splits_decode], MANY_MAX);
        caps([&mut graph.batch, &mut graph.copies], TOKENS_MAX);
    }
    let tokens = [&mut load.n_ctx, &mut load.n_ctx_seq, &mut load.n_batch, &mut load.n_ubatch];
    seen(tokens, TOKENS_MAX);
    seen([&mut load.n_seq_max, &mut load.n_threads], FEW_MAX);
    seen([&mut load.load_ns], NS_MAX);
    load.size_vram_and_total.take_if(|s| s.value.0 > BYTES_MAX || s.value.1 > BYTES_MAX);
    load.breakdown.retain(|row| {
        let parts = [row.model_bytes, row.context_bytes, row.compute_bytes];
        let rest = row.unaccounted_bytes.map_or(0, i64::unsigned_abs);
        let all = [row.total_bytes, row.free_bytes].into_iter().flatten();
        all.chain(parts).chain([rest]).all(|b| b <= BYTES_MAX)
    });
}

fn model(model: &mut Model) {
    seen([&mut model.bytes], BYTES_MAX);
    seen([&mut model.n_ctx_train], TOKENS_MAX);
    caps([&mut model.n_layer], LAYERS_MAX);
    let heads = [&mut model.n_head, &mut model.n_head_kv];
    caps(heads, FEW_MAX);
    caps([&mut model.n_embd_head_k, &mut model.n_embd_head_v], LAYERS_MAX);
    let widths = [&mut model.n_embd, &mut model.n_ff, &mut model.n_vocab, &mut model.n_swa];
    caps(widths, MANY_MAX);
    caps([&mut model.n_expert, &mut model.n_expert_used], MANY_MAX);
}

fn requested(asked: &mut Requested) {
    seen([&mut asked.ctx, &mut asked.batch, &mut asked.ubatch], TOKENS_MAX);
    seen([&mut asked.parallel, &mut asked.threads, &mut asked.main_gpu], FEW_MAX);
}

fn estimate(estimate: &mut Estimate) {
    caps([&mut estimate.layers_model, &mut estimate.layers_offload], LAYERS_MAX);
    // Of a list one entry may be absurd, and then it is not known which GPU the others are for.
    if estimate.layers_split.iter().any(|n| *n > LAYERS_MAX) {
        estimate.layers_split.clear();
    }
    for list in [&mut estimate.available_bytes, &mut estimate.allocations_bytes] {
        if list.iter().any(|b| *b > BYTES_MAX) {
            list.clear();
        }
    }
    let sizes = [
        &mut estimate.overhead_bytes,
        &mut estimate.full_bytes,
        &mut estimate.partial_bytes,
        &mut estimate.kv_bytes,
        &mut estimate.weights_bytes,
        &mut estimate.repeating_bytes,
        &mut estimate.nonrepeating_bytes,
        &mut estimate.graph_full_bytes,
        &mut estimate.graph_partial_bytes,
        &mut estimate.projector_bytes,
    ];
    caps(sizes, BYTES_MAX);
}

fn fit(fit: &mut Fit) {
    let sizes = [
        &mut fit.projected_bytes,
        &mut fit.free_bytes,
        &mut fit.target_bytes,
        &mut fit.deficit_bytes,
    ];
    caps(sizes, BYTES_MAX);
    caps([&mut fit.ctx_fixed], TOKENS_MAX);
    fit.ctx_from_to.take_if(|(from, to)| *from > TOKENS_MAX || *to > TOKENS_MAX);
    fit.devices.retain(|d| {
        let sizes = [d.used_bytes, d.free_bytes.unsigned_abs()];
        d.layers <= LAYERS_MAX
            && d.overflowing <= LAYERS_MAX
            && sizes.iter().all(|b| *b <= BYTES_MAX)
    });
}

fn request(request: &mut Request) {
    let tokens = [
        &mut request.prompt_tokens,
        &mut request.cached_tokens,
        &mut request.decode_tokens,
        &mut request.held_tokens,
        &mut request.graphs_reused,
    ];
    caps(tokens, TOKENS_MAX);
    caps([&mut request.duration_ns, &mut request.wait_ns, &mut request.sampling_ns], NS_MAX);
    request.truncated_from_to.take_if(|(from, to)| *from > TOKENS_MAX || *to > TOKENS_MAX);
}
