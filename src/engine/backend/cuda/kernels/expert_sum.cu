// MOE_SUM: dst = Σ weights[e] · src[e] over the experts of each token; four elements per thread.
#include "device.cuh"
#include "params_ops.cuh"

CUDA_KERNEL(expert_sum_f32, ExpertSumParams, 256) {
    begin_after_earlier_work();
    const u32 token = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
    const float* src = p.src + token * p.src_plane;
    const float* weights = p.weights + static_cast<u64>(token) * p.k;
    float* dst = p.dst + token * p.dst_row;
    const u32 i = (chunk * blockDim.x + threadIdx.x) * 4;
    if (p.vector && i + 4 <= p.n) {
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (u32 e = 0; e < p.k; e++) {
            const float4 x = *reinterpret_cast<const float4*>(src + e * p.src_row + i);
            const float w = weights[e];
            sum = make_float4(fmaf(x.x, w, sum.x), fmaf(x.y, w, sum.y), fmaf(x.z, w, sum.z),
                              fmaf(x.w, w, sum.w));
        }
        *reinterpret_cast<float4*>(dst + i) = sum;
    } else {
        for (u32 j = i; j < p.n && j < i + 4; j++) {
            float sum = 0.0f;
            for (u32 e = 0; e < p.k; e++) sum = fmaf(src[e * p.src_row + j], weights[e], sum);
            dst[j] = sum;
        }
    }
}
