// RMS_NORM of a row by a block: dst = x / sqrt(mean(x²) + eps) · weight. The second pass over the row
// finds it in the cache. The result may be `x` itself. Also with the sum before it: x = a + b.
#pragma once
#include "device.cuh"
#include "params_ops.cuh"

__device__ __forceinline__ void norm_row(const RowParams& p) {
    SHARED_ARRAY(float, partial, 32);
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

__device__ __forceinline__ void add_and_norm_row(const AddNormParams& p) {
    SHARED_ARRAY(float, partial, 32);
    const u64 row = static_cast<u64>(blockIdx.x) * p.ne0;
    float squares = 0.0f;
    for (u32 i = threadIdx.x * 4; i < p.ne0; i += blockDim.x * 4) {
        const float4 a = *reinterpret_cast<const float4*>(p.a + row + i);
        const float4 b = *reinterpret_cast<const float4*>(p.b + row + i);
        const float4 x = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
        *reinterpret_cast<float4*>(p.sum + row + i) = x;
        squares += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
    }
    squares = block_sum(squares, partial);
    const float factor = 1.0f / sqrtf(squares / static_cast<float>(p.ne0) + p.eps);
    // Each thread reads what it wrote itself.
    for (u32 i = threadIdx.x * 4; i < p.ne0; i += blockDim.x * 4) {
        const float4 x = *reinterpret_cast<const float4*>(p.sum + row + i);
        const float4 w = *reinterpret_cast<const float4*>(p.weight + i);
        *reinterpret_cast<float4*>(p.dst + row + i) = make_float4(
            x.x * factor * w.x, x.y * factor * w.y, x.z * factor * w.z, x.w * factor * w.w);
    }
}
