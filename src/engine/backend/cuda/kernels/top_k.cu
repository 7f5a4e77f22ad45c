// TOP_K: indices of the k largest of each row, largest first, the lower index first among equals;
// NaN counts as −∞. With k = 1 this is the argmax of the logits.
//
// A value and its index become one integer that sorts as they do, so that each round of the search
// only looks for the largest integer below the last one. A long row is cut into parts, whose winners
// a second kernel searches.
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

// One block per part: its k largest keys.
CUDA_KERNEL(top_k_parts_f32, TopKParams, TOP_K_THREADS) {
    begin_after_earlier_work();
    const u32 row = blockIdx.x / p.parts, part = blockIdx.x % p.parts;
    const u32 first = part * p.part_len;
    const u32 count = min(p.part_len, p.n - first);
    const float* src = p.src + row * p.src_row + first;
    u64* winners = p.winners + static_cast<u64>(blockIdx.x) * p.k;
    select_largest(
        count, p.k, [=](u32 i) { return sort_key(src[i], first + i); },
        [=](u32 round, u64 key) { winners[round] = key; });
}

// One block per row: the k largest of its parts' winners.
CUDA_KERNEL(top_k_merge, TopKParams, TOP_K_THREADS) {
    begin_after_earlier_work();
    const u64* winners = p.winners + static_cast<u64>(blockIdx.x) * p.parts * p.k;
    int* dst = p.dst + static_cast<u64>(blockIdx.x) * p.k;
    select_largest(
        p.parts * p.k, p.k, [=](u32 i) { return winners[i]; },
        [=](u32 round, u64 key) { dst[round] = static_cast<int>(~static_cast<u32>(key)); });
}

// One block per row, for rows that need no parts.
CUDA_KERNEL(top_k_f32, TopKParams, TOP_K_THREADS) {
    begin_after_earlier_work();
    const float* src = p.src + blockIdx.x * p.src_row;
    int* dst = p.dst + static_cast<u64>(blockIdx.x) * p.k;
    select_largest(
        p.n, p.k, [=](u32 i) { return sort_key(src[i], i); },
        [=](u32 round, u64 key) { dst[round] = static_cast<int>(~static_cast<u32>(key)); });
}
