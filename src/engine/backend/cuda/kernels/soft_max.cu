// SOFT_MAX over rows, one block per row. A row of −∞ becomes zeros. The result may be the operand.
#include "device.cuh"
#include "params_ops.cuh"

CUDA_KERNEL(soft_max_f32, RowParams, 1024) {
    SHARED_ARRAY(float, partial, 32);
    begin_after_earlier_work();
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
