// FLASH_ATTN_EXT, the last step where the context was split: adds up the parts of each head of each
// token.
#include "flash_attn.cuh"

CUDA_KERNEL(flash_attn_merge, FlashAttnParams, FLASH_ATTN_THREADS) {
    begin_after_earlier_work();
    const u32 head = blockIdx.x % p.n_head, token = blockIdx.x / p.n_head;
    const u64 first = static_cast<u64>(blockIdx.x) * p.splits;
    const float* stats = p.stats + 2 * first;
    float largest = -INFINITY;
    for (u32 s = 0; s < p.splits; s++) largest = fmaxf(largest, stats[2 * s]);
    float total = 0.0f;
    for (u32 s = 0; s < p.splits; s++) total += stats[2 * s + 1] * weight_of(stats[2 * s], largest);
    const float factor = total > 0.0f ? 1.0f / total : 0.0f;
    float* dst = p.dst + token * p.dst_token + head * p.dst_head;
    for (u32 i = threadIdx.x; i < p.dv; i += FLASH_ATTN_THREADS) {
        float sum = 0.0f;
        for (u32 s = 0; s < p.splits; s++) {
            sum += p.partials[(first + s) * p.dv + i] * weight_of(stats[2 * s], largest);
        }
        dst[i] = sum * factor;
    }
}
