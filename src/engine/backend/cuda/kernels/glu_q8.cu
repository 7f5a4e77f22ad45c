// GLU over rows without gaps, and its result in 8 bits as products of a few columns take it (see
// quantize.cu). The host joins them; see launch/fuse_rounding.rs for when.
#include "activations.cuh"
#include "elementwise.cuh"
#include "glu.cuh"

CUDA_KERNEL(glu_q8, GluQ8Params, ZIP_THREADS) {
    begin_after_earlier_work();
    const u32 i = (blockIdx.x * ZIP_THREADS + threadIdx.x) * 4;
    const bool exists = i < p.zip.ne0;
    float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (exists) {
        const float4 gate = *reinterpret_cast<const float4*>(p.zip.a + i);
        const float4 up = *reinterpret_cast<const float4*>(p.zip.b + i);
        y = p.gelu ? make_float4(glu_gelu(gate.x, up.x), glu_gelu(gate.y, up.y), glu_gelu(gate.z, up.z),
                                 glu_gelu(gate.w, up.w))
                   : make_float4(glu_silu(gate.x, up.x), glu_silu(gate.y, up.y), glu_silu(gate.z, up.z),
                                 glu_silu(gate.w, up.w));
        *reinterpret_cast<float4*>(p.zip.dst + i) = y;
    }
    const QuantizedPart part = quantize_part(y);
    if (!exists) return;
    const u32 in_row = i % p.k;
    store_part(p.rounded.out + i / p.k * p.rounded.out_bytes, QuantizedRow(p.k), in_row / 32, in_row % 32 / 4, part);
}
