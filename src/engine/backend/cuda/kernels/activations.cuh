// Activations in 8 bits: blocks of 32 with one scale each, as the CPU engine rounds them.
//
// Codes of a unit lie in the order of words 0 4 1 5 2 6 3 7, which is the order in which
// `codes` of blocks.cuh yields weights. With them go the scale d and d · Σq of each half and of
// both, since weights with an offset need those.
#pragma once
#include "device.cuh"

// Elements that share a scale.
constexpr int UNIT = 32;

// Where the parts of a row of k activations lie, in bytes from the start of the row: codes first, at
// 32 a unit. k is a multiple of 32.
struct QuantizedRow {
    int units;

    __host__ __device__ constexpr explicit QuantizedRow(int k) : units(k / UNIT) {}
    // float (units): the scales.
    __host__ __device__ constexpr size_t scales() const { return size_t(units) * UNIT; }
    // float (units): sums of both halves, times the scale.
    __host__ __device__ constexpr size_t sums() const { return scales() + size_t(units) * 4; }
    // float (units, 2): sums of each half, times the scale.
    __host__ __device__ constexpr size_t half_sums() const { return sums() + size_t(units) * 4; }
};

// Four activations of a unit as a lane holds them, and what the unit's 8 lanes know together.
struct QuantizedPart {
    uint32_t codes;
    float scale;
    float half_sum;
    float sum;
};

// Quantises a unit by 8 neighbouring lanes, which hold 4 elements each. All lanes of the warp call it.
__device__ __forceinline__ QuantizedPart quantize_part(float4 x) {
    // Magnitudes compare like their bits, and NaN is above them all: then the scale is NaN too, so
    // that the products show it.
    uint32_t largest = max(max(__float_as_uint(x.x) & 0x7fffffffu, __float_as_uint(x.y) & 0x7fffffffu),
                           max(__float_as_uint(x.z) & 0x7fffffffu, __float_as_uint(x.w) & 0x7fffffffu));
#pragma unroll
    for (int offset = 4; offset > 0; offset /= 2) {
        largest = max(largest, __shfl_xor_sync(ALL_LANES, largest, offset));
    }
    const float magnitude = __uint_as_float(largest);
    // Below, the scale would be subnormal and its inverse overflow; such blocks count as zeros.
    const bool tiny = magnitude < 1e-35f;
    const float inverse = tiny || !(magnitude > 0.0f) ? 0.0f : 127.0f / magnitude;
    const float scale = tiny ? 0.0f : magnitude / 127.0f;
    const int q[4] = {__float2int_rn(x.x * inverse), __float2int_rn(x.y * inverse),
                      __float2int_rn(x.z * inverse), __float2int_rn(x.w * inverse)};
    const uint32_t codes = (q[0] & 0xff) | (q[1] & 0xff) << 8 | (q[2] & 0xff) << 16 |
                           static_cast<uint32_t>(q[3]) << 24;
    int half_sum = __dp4a(static_cast<int>(codes), 0x01010101, 0);
    half_sum += __shfl_xor_sync(ALL_LANES, half_sum, 1);
    half_sum += __shfl_xor_sync(ALL_LANES, half_sum, 2);
    const int sum = half_sum + __shfl_xor_sync(ALL_LANES, half_sum, 4);
    return {codes, scale, scale * static_cast<float>(half_sum), scale * static_cast<float>(sum)};
}

// Elements 4i … 4i+3 of a row of k floats that may be aligned to 4 bytes only; zeros behind its end.
__device__ __forceinline__ float4 load_part(const float* row, int i, int k) {
    const float* from = row + 4 * i;
    if (4 * i >= k) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (reinterpret_cast<uint64_t>(row) % 16 == 0) return *reinterpret_cast<const float4*>(from);
    return make_float4(from[0], from[1], from[2], from[3]);
}

// Where word i of a unit, i < 8, stands in the unit's codes.
__device__ __forceinline__ int word_place(int i) { return 2 * (i % 4) + i / 4; }

// Stores what a lane holds of a unit of a row, `word` its place in the unit, as QuantizedRow says.
__device__ __forceinline__ void store_part(uint8_t* out, const QuantizedRow& at, int unit, int word,
                                           const QuantizedPart& part) {
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

// Quantises a row of k floats by `blocks` blocks, of which this one is number `block`.
__device__ __forceinline__ void quantize_row(const float* x, uint8_t* out, int k, int block, int blocks) {
    const QuantizedRow at(k);
    const int lane = threadIdx.x % 32, word = lane % 8;
    const int warp = (block * blockDim.x + threadIdx.x) / 32;
    for (int first = 4 * warp; first < at.units; first += blocks * blockDim.x / 32 * 4) {
        const int unit = first + lane / 8;
        const QuantizedPart part = quantize_part(load_part(x, unit * 8 + word, k));
        if (unit < at.units) store_part(out, at, unit, word, part);
    }
}
