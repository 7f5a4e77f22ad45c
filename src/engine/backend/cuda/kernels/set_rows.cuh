// Writes floats into a row of the KV cache, in the cache's type: SET_ROWS. A row number outside the
// cache writes nothing.
//
// Quantised types are written bit for bit as the scalar code in src/engine/tensor/formats does it:
// one warp per block of 32 elements, one lane per element. A block with a number that is not finite
// becomes all ones, whose scale reads back as NaN.
//
// `Store::range(to, src, from, end)` writes elements `from` up to `end` of a row that starts at `to`,
// by a block of SET_ROWS_THREADS; ELEMENTS is what a block of set_rows.cu takes at a time.
#pragma once
#include "device.cuh"
#include "params_ops.cuh"

#define SET_ROWS_THREADS 256u

// ---- Plain types ----

template <class T, T CONVERT(float)>
struct StorePlain {
    static constexpr u32 ELEMENTS = 4 * SET_ROWS_THREADS;

    static __device__ __forceinline__ void range(void* to, const float* src, u32 from, u32 end) {
        T* dst = static_cast<T*>(to);
        for (u32 i = from + threadIdx.x; i < end; i += SET_ROWS_THREADS) dst[i] = CONVERT(src[i]);
    }
};

__device__ __forceinline__ float keep_float(float x) { return x; }
__device__ __forceinline__ half to_half(float x) { return __float2half_rn(x); }
__device__ __forceinline__ uint16_t to_bf16(float x) { return float_to_bf16(x); }

typedef StorePlain<float, keep_float> StoreF32;
typedef StorePlain<half, to_half> StoreF16;
typedef StorePlain<uint16_t, to_bf16> StoreBF16;

// ---- Blocks of 32 ----

// Products that must not be contracted into fused multiply-adds, which round differently.
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float sum(float a, float b) { return __fadd_rn(a, b); }

__device__ __forceinline__ float inverse(float d) { return d == 0.0f ? 0.0f : 1.0f / d; }

__device__ __forceinline__ uint16_t finite_half_bits(float x) {
    return __half_as_ushort(__float2half_rn(fminf(fmaxf(x, -65504.0f), 65504.0f)));
}

// The element of largest magnitude, the first one among equals.
__device__ __forceinline__ float signed_peak(float x) {
    int lane = threadIdx.x % WARP_LANES;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        const float other = __shfl_xor_sync(ALL_LANES, x, offset);
        const int from = __shfl_xor_sync(ALL_LANES, lane, offset);
        const bool take = fabsf(other) > fabsf(x) || (fabsf(other) == fabsf(x) && from < lane);
        if (take) {
            x = other;
            lane = from;
        }
    }
    return x;
}

__device__ __forceinline__ float warp_min(float x) { return -warp_max(-x); }

__device__ __forceinline__ u32 level(float x, u32 largest) {
    return min(static_cast<u32>(fmaxf(x, 0.0f)), largest);
}

// Low nibbles of elements 0 to 15 and those of 16 to 31 into bytes that lanes 0 to 15 store.
__device__ __forceinline__ void store_nibbles(uint8_t* to, u32 nibble) {
    const u32 lane = threadIdx.x % WARP_LANES;
    const u32 other = __shfl_down_sync(ALL_LANES, nibble, 16);
    if (lane < 16) to[lane] = static_cast<uint8_t>(nibble | other << 4);
}

// Bit i of 4 bytes is the fifth bit of element i.
__device__ __forceinline__ void store_fifth_bits(uint8_t* to, u32 five_bits) {
    const u32 lane = threadIdx.x % WARP_LANES;
    const u32 bits = __ballot_sync(ALL_LANES, five_bits >> 4 & 1u);
    if (lane < 4) to[lane] = static_cast<uint8_t>(bits >> 8 * lane);
}

__device__ __forceinline__ void store_half_bits(uint8_t* to, uint16_t bits) {
    const u32 lane = threadIdx.x % WARP_LANES;
    if (lane < 2) to[lane] = static_cast<uint8_t>(bits >> 8 * lane);
}

struct FormatQ8_0 {
    static constexpr u32 BYTES = 34;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float d = warp_max(fabsf(x)) / 127.0f;
        // Rounds ties away from zero. The clamp is for scales so small that their inverse is huge.
        const float whole = roundf(fminf(fmaxf(product(x, inverse(d)), -127.0f), 127.0f));
        store_half_bits(to, finite_half_bits(d));
        to[2 + threadIdx.x % WARP_LANES] = static_cast<uint8_t>(static_cast<int>(whole));
    }
};

struct FormatQ4_0 {
    static constexpr u32 BYTES = 18;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float d = signed_peak(x) / -8.0f;
        store_half_bits(to, finite_half_bits(d));
        store_nibbles(to + 2, level(sum(product(x, inverse(d)), 8.5f), 15));
    }
};

struct FormatQ4_1 {
    static constexpr u32 BYTES = 20;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float low = warp_min(x), d = (warp_max(x) - low) / 15.0f;
        store_half_bits(to, finite_half_bits(d));
        store_half_bits(to + 2, finite_half_bits(low));
        store_nibbles(to + 4, level(sum(product(x - low, inverse(d)), 0.5f), 15));
    }
};

struct FormatQ5_0 {
    static constexpr u32 BYTES = 22;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float d = signed_peak(x) / -16.0f;
        const u32 five_bits = level(sum(product(x, inverse(d)), 16.5f), 31);
        store_half_bits(to, finite_half_bits(d));
        store_fifth_bits(to + 2, five_bits);
        store_nibbles(to + 6, five_bits & 15u);
    }
};

struct FormatQ5_1 {
    static constexpr u32 BYTES = 24;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float low = warp_min(x), d = (warp_max(x) - low) / 31.0f;
        const u32 five_bits = level(sum(product(x - low, inverse(d)), 0.5f), 31);
        store_half_bits(to, finite_half_bits(d));
        store_half_bits(to + 2, finite_half_bits(low));
        store_fifth_bits(to + 4, five_bits);
        store_nibbles(to + 8, five_bits & 15u);
    }
};

// `Format::store(block, x)` writes the block whose element of this lane is `x`. `from` is a multiple of
// 32, and so is `end`.
template <class Format>
struct StoreBlocks {
    static constexpr u32 ELEMENTS = SET_ROWS_THREADS;

    static __device__ __forceinline__ void range(void* to, const float* src, u32 from, u32 end) {
        const u32 lane = threadIdx.x % WARP_LANES;
        for (u32 i = from + threadIdx.x; i - lane < end; i += SET_ROWS_THREADS) {
            const float x = src[i];
            uint8_t* block = static_cast<uint8_t*>(to) + i / 32 * Format::BYTES;
            if (__any_sync(ALL_LANES, !(fabsf(x) < INFINITY))) {
                for (u32 j = lane; j < Format::BYTES; j += WARP_LANES) block[j] = 0xff;
            } else {
                Format::store(block, x);
            }
        }
    }
};

typedef StoreBlocks<FormatQ8_0> StoreQ8_0;
typedef StoreBlocks<FormatQ4_0> StoreQ4_0;
typedef StoreBlocks<FormatQ4_1> StoreQ4_1;
typedef StoreBlocks<FormatQ5_0> StoreQ5_0;
typedef StoreBlocks<FormatQ5_1> StoreQ5_1;
