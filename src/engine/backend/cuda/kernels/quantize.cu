// Activations for the products of several columns: in 8 bits, or in halves.
#include "activations.cuh"
#include "params_matmul.cuh"

__device__ __forceinline__ const float* source_row(const QuantizeParams& p) {
    const int row = blockIdx.y;
    const uint64_t offset = row % p.slots * p.x_slot_bytes + row / p.slots * p.x_token_bytes;
    return reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(p.x) + offset);
}

// Rows of k floats, k a multiple of 32, as QuantizedRow says. grid (any, rows), 256 threads; out and
// its stride are multiples of 16.
CUDA_KERNEL(quantize_q8, QuantizeParams, 256) {
    begin_after_earlier_work();
    quantize_row(source_row(p), p.out + blockIdx.y * p.out_bytes, p.k, blockIdx.x, gridDim.x);
}

// Rows of k floats, k a multiple of 4, as halves, each row times a power of two that brings its
// largest element just below the largest half, so that no element overflows and few vanish.
// grid (1, rows), 256 threads; out and its stride are multiples of 16.
CUDA_KERNEL(quantize_f16, QuantizeParams, 256) {
    SHARED_ARRAY(float, partial, 8);
    begin_after_earlier_work();
    const float* x = source_row(p);
    uint2* out = reinterpret_cast<uint2*>(p.out + blockIdx.y * p.out_bytes);
    float largest = 0.0f;
    for (int i = threadIdx.x; 4 * i < p.k; i += blockDim.x) {
        const float4 v = load_part(x, i, p.k);
        largest = fmaxf(fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))), largest);
    }
    largest = block_max(largest, partial);
    // The exponent of 2^14 … 2^15 is 14; infinite rows stay as they are, and show in the products.
    const int exponent = static_cast<int>(__float_as_uint(largest) >> 23);
    const int kept = max(exponent, 15);
    const bool infinite = exponent == 255;
    const float factor = infinite ? 1.0f : __uint_as_float(static_cast<uint32_t>(min(268 - kept, 254)) << 23);
    const float inverse = infinite ? 1.0f : 1.0f / factor;
    for (int i = threadIdx.x; 4 * i < p.k; i += blockDim.x) {
        const float4 v = load_part(x, i, p.k);
        out[i] = make_uint2(pack_half2(v.x * factor, v.y * factor), pack_half2(v.z * factor, v.w * factor));
    }
    if (threadIdx.x == 0) p.row_scales[blockIdx.y] = inverse;
}
