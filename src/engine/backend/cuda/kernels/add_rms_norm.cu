// ADD and the RMS_NORM that follows it, in one pass: sum = a + b, dst = norm(sum) · weight. One block
// per row. The host joins the two operations; see launch/fuse.rs for when.
#include "device.cuh"
#include "params_ops.cuh"

CUDA_KERNEL(add_rms_norm_f32, AddNormParams, 1024) {
    SHARED_ARRAY(float, partial, 32);
    begin_after_earlier_work();
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
