// TOP_K: indices of the k largest of each row, largest first, the lower index first among equals;
// NaN counts as −∞. With k = 1 this is the argmax of the logits.
//
// A value and its index become one integer that sorts as they do, so that each round of the search
// only looks for the largest integer below the last one.
#pragma once
#include "device.cuh"
#include "params_ops.cuh"

#define TOP_K_THREADS 256u

// Sorts by value, then by falling index. Never 0.
__device__ __forceinline__ u64 sort_key(float value, u32 index) {
    u32 bits = value == value ? __float_as_uint(value == 0.0f ? 0.0f : value) : 0xff800000u;
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<u64>(bits) << 32 | static_cast<u32>(~index);
}

__device__ __forceinline__ u64 warp_max_key(u64 key) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        const u64 other = __shfl_xor_sync(ALL_LANES, key, offset);
        key = other > key ? other : key;
    }
    return key;
}

__device__ __forceinline__ u64 block_max_key(u64 key, u64* partial) {
    key = warp_max_key(key);
    const u32 lane = threadIdx.x % WARP_LANES;
    if (lane == 0) partial[threadIdx.x / WARP_LANES] = key;
    __syncthreads();
    key = warp_max_key(lane < TOP_K_THREADS / WARP_LANES ? partial[lane] : 0);
    __syncthreads();
    return key;
}

// The k largest of `count` keys, one after the other; 0 when there are no more.
template <class KeyAt, class Take>
__device__ __forceinline__ void select_largest(u32 count, u32 k, KeyAt key_at, Take take) {
    SHARED_ARRAY(u64, partial, TOP_K_THREADS / WARP_LANES);
    u64 last = ~static_cast<u64>(0);
    for (u32 round = 0; round < k; round++) {
        u64 best = 0;
        for (u32 i = threadIdx.x; i < count; i += TOP_K_THREADS) {
            const u64 key = key_at(i);
            if (key < last && key > best) best = key;
        }
        best = block_max_key(best, partial);
        if (threadIdx.x == 0) take(round, best);
        last = best;
    }
}

// The k largest of the block's row.
__device__ __forceinline__ void top_k_of_row(const TopKParams& p) {
    const float* src = p.src + blockIdx.x * p.src_row;
    int* dst = p.dst + static_cast<u64>(blockIdx.x) * p.k;
    select_largest(
        p.n, p.k, [=](u32 i) { return sort_key(src[i], i); },
        [=](u32 round, u64 key) { dst[round] = static_cast<int>(~static_cast<u32>(key)); });
}
