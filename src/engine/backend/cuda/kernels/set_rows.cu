// SET_ROWS: writes rows of floats into the KV cache, in the cache's type. A row number outside the
// cache writes nothing.
//
// Quantised types are written bit for bit as the scalar code in src/engine/tensor/formats does it:
// one warp per block of 32 elements, one lane per element. A block with a number that is not finite
// becomes all ones, whose scale reads back as NaN.
#include "device.cuh"
#include "params_ops.cuh"

#define SET_ROWS_THREADS 256u

// ---- Plain types ----

template <class T, class Convert>
__device__ __forceinline__ void set_plain_rows(const SetRowsParams& p, Convert convert) {
    const SetRowsSide& side = p.sides[blockIdx.y];
    const u32 token = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
    const u32 row = static_cast<u32>(p.rows[token]);
    if (row >= side.cells) return;
    const float* src = side.src + token * side.src_row;
    T* dst = reinterpret_cast<T*>(static_cast<char*>(side.cache) + row * side.cache_row_bytes);
    for (u32 step = 0; step < 4; step++) {
        const u32 i = (chunk * 4 + step) * SET_ROWS_THREADS + threadIdx.x;
        if (i < side.n) dst[i] = convert(src[i]);
    }
}

CUDA_KERNEL(set_rows_f32, SetRowsParams, SET_ROWS_THREADS) {
    set_plain_rows<float>(p, [](float x) { return x; });
}

CUDA_KERNEL(set_rows_f16, SetRowsParams, SET_ROWS_THREADS) {
    set_plain_rows<half>(p, [](float x) { return __float2half_rn(x); });
}

CUDA_KERNEL(set_rows_bf16, SetRowsParams, SET_ROWS_THREADS) {
    set_plain_rows<uint16_t>(p, [](float x) { return float_to_bf16(x); });
}

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

// `Format::store(block, x)` writes the block whose element of this lane is `x`.
template <class Format>
__device__ __forceinline__ void set_block_rows(const SetRowsParams& p) {
    const SetRowsSide& side = p.sides[blockIdx.y];
    const u32 token = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
    const u32 row = static_cast<u32>(p.rows[token]);
    if (row >= side.cells) return;
    const u32 lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    const u32 block = chunk * (SET_ROWS_THREADS / WARP_LANES) + warp;
    if (block * 32 >= side.n) return;
    const float x = side.src[token * side.src_row + block * 32 + lane];
    uint8_t* to =
        static_cast<uint8_t*>(side.cache) + row * side.cache_row_bytes + block * Format::BYTES;
    if (__any_sync(ALL_LANES, !(fabsf(x) < INFINITY))) {
        for (u32 i = lane; i < Format::BYTES; i += WARP_LANES) to[i] = 0xff;
        return;
    }
    Format::store(to, x);
}

struct StoreQ8_0 {
    static constexpr u32 BYTES = 34;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float d = warp_max(fabsf(x)) / 127.0f;
        // Rounds ties away from zero. The clamp is for scales so small that their inverse is huge.
        const float whole = roundf(fminf(fmaxf(product(x, inverse(d)), -127.0f), 127.0f));
        store_half_bits(to, finite_half_bits(d));
        to[2 + threadIdx.x % WARP_LANES] = static_cast<uint8_t>(static_cast<int>(whole));
    }
};

struct StoreQ4_0 {
    static constexpr u32 BYTES = 18;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float d = signed_peak(x) / -8.0f;
        store_half_bits(to, finite_half_bits(d));
        store_nibbles(to + 2, level(sum(product(x, inverse(d)), 8.5f), 15));
    }
};

struct StoreQ4_1 {
    static constexpr u32 BYTES = 20;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float low = warp_min(x), d = (warp_max(x) - low) / 15.0f;
        store_half_bits(to, finite_half_bits(d));
        store_half_bits(to + 2, finite_half_bits(low));
        store_nibbles(to + 4, level(sum(product(x - low, inverse(d)), 0.5f), 15));
    }
};

struct StoreQ5_0 {
    static constexpr u32 BYTES = 22;
    static __device__ __forceinline__ void store(uint8_t* to, float x) {
        const float d = signed_peak(x) / -16.0f;
        const u32 five_bits = level(sum(product(x, inverse(d)), 16.5f), 31);
        store_half_bits(to, finite_half_bits(d));
        store_fifth_bits(to + 2, five_bits);
        store_nibbles(to + 6, five_bits & 15u);
    }
};

struct StoreQ5_1 {
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

CUDA_KERNEL(set_rows_q8_0, SetRowsParams, SET_ROWS_THREADS) { set_block_rows<StoreQ8_0>(p); }
CUDA_KERNEL(set_rows_q4_0, SetRowsParams, SET_ROWS_THREADS) { set_block_rows<StoreQ4_0>(p); }
CUDA_KERNEL(set_rows_q4_1, SetRowsParams, SET_ROWS_THREADS) { set_block_rows<StoreQ4_1>(p); }
CUDA_KERNEL(set_rows_q5_0, SetRowsParams, SET_ROWS_THREADS) { set_block_rows<StoreQ5_0>(p); }
CUDA_KERNEL(set_rows_q5_1, SetRowsParams, SET_ROWS_THREADS) { set_block_rows<StoreQ5_1>(p); }
