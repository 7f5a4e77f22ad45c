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
    const float* x = source_row(p);
    uint8_t* out = p.out + blockIdx.y * p.out_bytes;
    const QuantizedRow at(p.k);
    const int lane = threadIdx.x % 32, word = lane % 8;
    const int warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    for (int first = 4 * warp; first < at.units; first += gridDim.x * blockDim.x / 32 * 4) {
        const int unit = first + lane / 8;
        const QuantizedPart part = quantize_part(load_part(x, unit * 8 + word, p.k));
        if (unit >= at.units) continue;
        reinterpret_cast<uint32_t*>(out)[unit * 8 + word_place(word)] = part.codes;
        float* half_sums = reinterpret_cast<float*>(out + at.half_sums());
        if (word == 0) {
            reinterpret_cast<float*>(out + at.scales())[unit] = part.scale;
            reinterpret_cast<float*>(out + at.sums())[unit] = part.sum;
            half_sums[2 * unit] = part.half_sum;
        } else if (word == 4) {
            half_sums[2 * unit + 1] = part.half_sum;
        }
    }
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
