// SET_ROWS: rows of floats into the KV cache. One block per token and piece of its row.
#include "set_rows.cuh"

template <class Store>
__device__ __forceinline__ void set_rows(const SetRowsParams& p) {
    begin_after_earlier_work();
    const SetRowsSide& side = p.sides[blockIdx.y];
    const u32 token = blockIdx.x / p.chunks, from = blockIdx.x % p.chunks * Store::ELEMENTS;
    const u32 row = static_cast<u32>(p.rows[token]);
    if (row >= side.cells) return;
    char* to = static_cast<char*>(side.cache) + row * side.cache_row_bytes;
    Store::range(to, side.src + token * side.src_row, from, min(side.n, from + Store::ELEMENTS));
}

CUDA_KERNEL(set_rows_f32, SetRowsParams, SET_ROWS_THREADS) { set_rows<StoreF32>(p); }
CUDA_KERNEL(set_rows_f16, SetRowsParams, SET_ROWS_THREADS) { set_rows<StoreF16>(p); }
CUDA_KERNEL(set_rows_bf16, SetRowsParams, SET_ROWS_THREADS) { set_rows<StoreBF16>(p); }
CUDA_KERNEL(set_rows_q8_0, SetRowsParams, SET_ROWS_THREADS) { set_rows<StoreQ8_0>(p); }
CUDA_KERNEL(set_rows_q4_0, SetRowsParams, SET_ROWS_THREADS) { set_rows<StoreQ4_0>(p); }
CUDA_KERNEL(set_rows_q4_1, SetRowsParams, SET_ROWS_THREADS) { set_rows<StoreQ4_1>(p); }
CUDA_KERNEL(set_rows_q5_0, SetRowsParams, SET_ROWS_THREADS) { set_rows<StoreQ5_0>(p); }
CUDA_KERNEL(set_rows_q5_1, SetRowsParams, SET_ROWS_THREADS) { set_rows<StoreQ5_1>(p); }
