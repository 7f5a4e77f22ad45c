// Operations on each element alone: one thread takes four neighbours.
#pragma once
#include "device.cuh"
#include "params_ops.cuh"

#define ZIP_THREADS 256u

// dst = f(a, b). The result may be `a` itself.
template <class F>
__device__ __forceinline__ void zip_rows(const ZipParams& p, F f) {
    begin_after_earlier_work();
    const u32 row = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
    const u32 i1 = row % p.ne1, i2 = row / p.ne1;
    const float* a = p.a + i1 * p.a_row + i2 * p.a_plane;
    const float* b = p.b + i1 * p.b_row + i2 * p.b_plane;
    float* dst = p.dst + i1 * p.dst_row + i2 * p.dst_plane;
    const u32 i = (chunk * ZIP_THREADS + threadIdx.x) * 4;
    if (p.vector && i + 4 <= p.ne0) {
        const float4 x = *reinterpret_cast<const float4*>(a + i);
        const float4 y = *reinterpret_cast<const float4*>(b + i);
        *reinterpret_cast<float4*>(dst + i) =
            make_float4(f(x.x, y.x), f(x.y, y.y), f(x.z, y.z), f(x.w, y.w));
    } else {
        for (u32 j = i; j < p.ne0 && j < i + 4; j++) dst[j] = f(a[j], b[j]);
    }
}
