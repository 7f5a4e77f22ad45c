// CONCAT: rows side by side, what several devices computed of one product. One thread takes four
// neighbours; with `vector` every part begins at a multiple of four floats, so that they are of one.
#include "device.cuh"

#ifdef CUDA_CPU
typedef uint64_t u64;
#else
typedef unsigned long long u64;
#endif
typedef unsigned int u32;

#define CONCAT_THREADS 256u
#define CONCAT_MAX 16u

struct ConcatParams {
    float* dst;  // (ne0, t)
    u64 dst_row;
    const float* src[CONCAT_MAX];
    u64 src_row[CONCAT_MAX];
    u32 end[CONCAT_MAX];  // where each part ends in a row of dst; ne0 for those that are not there
    u32 ne0;
    u32 chunks;
    u32 vector;
    u32 padding;
};
static_assert(sizeof(ConcatParams) == 352);

CUDA_KERNEL(concat_f32, ConcatParams, CONCAT_THREADS) {
    const u32 row = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
    const u32 first = (chunk * CONCAT_THREADS + threadIdx.x) * 4;
    float* dst = p.dst + row * p.dst_row;
    for (u32 i = first; i < p.ne0 && i < first + 4; i++) {
        u32 part = 0, begin = 0;
        while (i >= p.end[part]) begin = p.end[part++];
        const float* src = p.src[part] + row * p.src_row[part] + (i - begin);
        if (p.vector) {
            *reinterpret_cast<float4*>(dst + i) = *reinterpret_cast<const float4*>(src);
            return;
        }
        dst[i] = *src;
    }
}
