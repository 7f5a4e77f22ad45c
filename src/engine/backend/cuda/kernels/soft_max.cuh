// SOFT_MAX of a row by a block. A row of −∞ becomes zeros. The result may be the operand.
#pragma once
#include "device.cuh"
#include "params_ops.cuh"

__device__ __forceinline__ void soft_max_of_row(const RowParams& p) {
    SHARED_ARRAY(float, partial, 32);
    const u32 i1 = blockIdx.x % p.ne1, i2 = blockIdx.x / p.ne1;
    const float* src = p.src + i1 * p.src_row + i2 * p.src_plane;
    float* dst = p.dst + i1 * p.dst_row + i2 * p.dst_plane;

    float largest = -INFINITY;
    for (u32 i = threadIdx.x; i < p.ne0; i += blockDim.x) largest = fmaxf(largest, src[i]);
    largest = block_max(largest, partial);
    const float shift = largest == -INFINITY ? 0.0f : largest;

    // Each thread comes back to its own elements only, so that no barrier is needed for them.
    float sum = 0.0f;
    for (u32 i = threadIdx.x; i < p.ne0; i += blockDim.x) {
        const float e = __expf(src[i] - shift);
        dst[i] = e;
        sum += e;
    }
    sum = block_sum(sum, partial);
    const float factor = sum > 0.0f ? 1.0f / sum : 0.0f;
    for (u32 i = threadIdx.x; i < p.ne0; i += blockDim.x) dst[i] *= factor;
}
