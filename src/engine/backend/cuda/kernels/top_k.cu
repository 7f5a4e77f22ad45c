// TOP_K. A long row is cut into parts, whose winners a second kernel searches.
#include "top_k.cuh"

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
    top_k_of_row(p);
}
