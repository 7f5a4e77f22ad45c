// RMS_NORM: dst = x / sqrt(mean(x²) + eps) · weight over rows. One block per row; the second pass
// over the row finds it in the cache. The result may be `x` itself.
#include "device.cuh"
#include "params_ops.cuh"

CUDA_KERNEL(rms_norm_f32, RowParams, 1024) {
    SHARED_ARRAY(float, partial, 32);
    begin_after_earlier_work();
    const u32 i1 = blockIdx.x % p.ne1, i2 = blockIdx.x / p.ne1;
    const float* src = p.src + i1 * p.src_row + i2 * p.src_plane;
    float* dst = p.dst + i1 * p.dst_row + i2 * p.dst_plane;
    const u32 whole = p.vector ? p.ne0 / 4 * 4 : 0;

    float sum = 0.0f;
    for (u32 i = threadIdx.x * 4; i < whole; i += blockDim.x * 4) {
        const float4 x = *reinterpret_cast<const float4*>(src + i);
        sum += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
    }
    for (u32 i = whole + threadIdx.x; i < p.ne0; i += blockDim.x) sum += src[i] * src[i];
    sum = block_sum(sum, partial);
    const float factor = 1.0f / sqrtf(sum / static_cast<float>(p.ne0) + p.eps);

    for (u32 i = threadIdx.x * 4; i < whole; i += blockDim.x * 4) {
        const float4 x = *reinterpret_cast<const float4*>(src + i);
        const float4 w = *reinterpret_cast<const float4*>(p.weight + i);
        *reinterpret_cast<float4*>(dst + i) = make_float4(
            x.x * factor * w.x, x.y * factor * w.y, x.z * factor * w.z, x.w * factor * w.w);
    }
    for (u32 i = whole + threadIdx.x; i < p.ne0; i += blockDim.x) {
        dst[i] = src[i] * factor * p.weight[i];
    }
}
