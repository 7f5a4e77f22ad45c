// ROPE of queries and keys, and SET_ROWS of the turned keys and of the values, in one launch. The host
// joins them; see launch/fuse.rs for when.
//
// grid (tokens, groups of heads of both tensors + pieces of the values' rows), 256 threads. A block that
// turned keys writes them to the cache itself, so that nobody waits for another block.
#include "rope.cuh"
#include "set_rows.cuh"

template <class Store>
__device__ __forceinline__ void rope_set_rows(const RopeSetRowsParams& p) {
    begin_after_earlier_work();
    const u32 token = blockIdx.x, groups = p.rope.sides[0].groups + p.rope.sides[1].groups;
    const u32 row = static_cast<u32>(p.rows[token]);
    if (blockIdx.y >= groups) {
        if (row >= p.values.cells) return;
        const u32 from = (blockIdx.y - groups) * Store::ELEMENTS;
        char* to = static_cast<char*>(p.values.cache) + row * p.values.cache_row_bytes;
        const float* src = p.values.src + token * p.values.src_row;
        Store::range(to, src, from, min(p.values.n, from + Store::ELEMENTS));
        return;
    }
    turn_heads(p.rope, blockIdx.y);
    // Keys are the last tensor that turns.
    const u32 first_group = p.rope.sides[1].n_head > 0 ? p.rope.sides[0].groups : 0;
    if (blockIdx.y < first_group || row >= p.keys.cells) return;
    __syncthreads();
    const u32 elements = p.rope.heads_per_block * p.rope.d, from = (blockIdx.y - first_group) * elements;
    char* to = static_cast<char*>(p.keys.cache) + row * p.keys.cache_row_bytes;
    const float* src = p.keys.src + token * p.keys.src_row;
    Store::range(to, src, from, min(p.keys.n, from + elements));
}

CUDA_KERNEL(rope_set_rows_f32, RopeSetRowsParams, SET_ROWS_THREADS) {
    rope_set_rows<StoreF32>(p);
}
CUDA_KERNEL(rope_set_rows_f16, RopeSetRowsParams, SET_ROWS_THREADS) {
    rope_set_rows<StoreF16>(p);
}
CUDA_KERNEL(rope_set_rows_bf16, RopeSetRowsParams, SET_ROWS_THREADS) {
    rope_set_rows<StoreBF16>(p);
}
CUDA_KERNEL(rope_set_rows_q8_0, RopeSetRowsParams, SET_ROWS_THREADS) {
    rope_set_rows<StoreQ8_0>(p);
}
CUDA_KERNEL(rope_set_rows_q4_0, RopeSetRowsParams, SET_ROWS_THREADS) {
    rope_set_rows<StoreQ4_0>(p);
}
CUDA_KERNEL(rope_set_rows_q4_1, RopeSetRowsParams, SET_ROWS_THREADS) {
    rope_set_rows<StoreQ4_1>(p);
}
CUDA_KERNEL(rope_set_rows_q5_0, RopeSetRowsParams, SET_ROWS_THREADS) {
    rope_set_rows<StoreQ5_0>(p);
}
CUDA_KERNEL(rope_set_rows_q5_1, RopeSetRowsParams, SET_ROWS_THREADS) {
    rope_set_rows<StoreQ5_1>(p);
}
