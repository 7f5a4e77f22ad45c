// FLASH_ATTN_EXT for every cache type and head size, in floats throughout: what the tensor cores'
// kernel does not take. One block per head, token and part of the context; its four warps take turns
// at the cells.
#include "flash_attn.cuh"

#define WARPS (FLASH_ATTN_THREADS / WARP_LANES)
// Values of a head per lane, so that heads have up to 512.
#define VALUES_PER_LANE 16u

// Dynamic shared memory: d floats of the query, dv floats per warp.
CUDA_KERNEL(flash_attn_any, FlashAttnParams, FLASH_ATTN_THREADS) {
    begin_after_earlier_work();
    DYNAMIC_SHARED(float, query);
    SHARED_ARRAY(float, largest_of, WARPS);
    SHARED_ARRAY(float, sum_of, WARPS);
    const u32 head = blockIdx.x % p.n_head, token = blockIdx.x / p.n_head, split = blockIdx.y;
    const u32 lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    const float* q = p.q + token * p.q_token + head * p.q_head;
    for (u32 i = threadIdx.x; i < p.d; i += FLASH_ATTN_THREADS) query[i] = q[i];
    __syncthreads();

    const uint8_t* k = static_cast<const uint8_t*>(p.k) + head / p.group * p.k_head_bytes;
    const uint8_t* v = static_cast<const uint8_t*>(p.v) + head / p.group * p.v_head_bytes;
    const half* mask = p.mask + token * p.mask_row;
    const u32 end = min(p.n_kv, (split + 1) * p.split_len);
    float largest = -INFINITY, sum = 0.0f;
    float values[VALUES_PER_LANE] = {};
    for (u32 cell = split * p.split_len + warp; cell < end; cell += WARPS) {
        const float hidden = __half2float(mask[cell]);
        if (hidden == -INFINITY) continue;  // the same for all lanes
        const uint8_t* key = k + cell * p.k_cell_bytes;
        float dot = 0.0f;
        for (u32 i = lane; i < p.d; i += WARP_LANES) {
            dot += query[i] * cache_element(p.k_type, key, i);
        }
        const float s = score(p, warp_sum(dot), hidden);
        const float before = largest;
        largest = fmaxf(largest, s);
        const float fade = weight_of(before, largest), weight = weight_of(s, largest);
        sum = sum * fade + weight;
        const uint8_t* value = v + cell * p.v_cell_bytes;
#pragma unroll
        for (u32 j = 0; j < VALUES_PER_LANE; j++) {
            const u32 i = j * WARP_LANES + lane;
            if (i < p.dv) values[j] = values[j] * fade + weight * cache_element(p.v_type, value, i);
        }
    }

    float* parts = query + p.d;
#pragma unroll
    for (u32 j = 0; j < VALUES_PER_LANE; j++) {
        const u32 i = j * WARP_LANES + lane;
        if (i < p.dv) parts[warp * p.dv + i] = values[j];
    }
    if (lane == 0) {
        largest_of[warp] = largest;
        sum_of[warp] = sum;
    }
    __syncthreads();
    largest = -INFINITY;
    for (u32 w = 0; w < WARPS; w++) largest = fmaxf(largest, largest_of[w]);
    sum = 0.0f;
    for (u32 w = 0; w < WARPS; w++) sum += sum_of[w] * weight_of(largest_of[w], largest);
    const ResultRow row = result_row(p, token, head, split, largest, sum, threadIdx.x == 0);
    for (u32 i = threadIdx.x; i < p.dv; i += FLASH_ATTN_THREADS) {
        float x = 0.0f;
        for (u32 w = 0; w < WARPS; w++) x += parts[w * p.dv + i] * weight_of(largest_of[w], largest);
        row.to[i] = x * row.factor;
    }
}
