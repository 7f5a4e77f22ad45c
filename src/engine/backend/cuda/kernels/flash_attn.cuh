// What the kernels of attention share: reading the cache, scores, writing results.
#pragma once
#include "device.cuh"
#include "params_ops.cuh"

#define FLASH_ATTN_THREADS 128u
#define LOG2_E 1.4426950408889634f

__device__ __forceinline__ float half_at(const uint8_t* from) {
    return __half2float(*reinterpret_cast<const half*>(from));
}

// Element i of a row of the cache; the row starts at an even address.
__device__ __forceinline__ float cache_element(u32 type, const uint8_t* row, u32 i) {
    const u32 block = i / 32, at = i % 32;
    const auto nibble = [=](const uint8_t* levels) {
        return at < 16 ? levels[at] & 15u : static_cast<u32>(levels[at - 16]) >> 4;
    };
    const auto fifth_bit = [=](const uint8_t* bits) { return (bits[at / 8] >> at % 8 & 1u) << 4; };
    switch (type) {
        case CACHE_F32:
            return reinterpret_cast<const float*>(row)[i];
        case CACHE_F16:
            return half_at(row + 2 * i);
        case CACHE_BF16:
            return bf16_to_float(reinterpret_cast<const uint16_t*>(row)[i]);
        case CACHE_Q8_0: {
            const uint8_t* b = row + block * 34;
            return half_at(b) * static_cast<float>(static_cast<int8_t>(b[2 + at]));
        }
        case CACHE_Q4_0: {
            const uint8_t* b = row + block * 18;
            return half_at(b) * (static_cast<float>(nibble(b + 2)) - 8.0f);
        }
        case CACHE_Q4_1: {
            const uint8_t* b = row + block * 20;
            return half_at(b) * static_cast<float>(nibble(b + 4)) + half_at(b + 2);
        }
        case CACHE_Q5_0: {
            const uint8_t* b = row + block * 22;
            return half_at(b) * (static_cast<float>(nibble(b + 6) | fifth_bit(b + 2)) - 16.0f);
        }
        default: {
            const uint8_t* b = row + block * 24;
            const float level = static_cast<float>(nibble(b + 8) | fifth_bit(b + 4));
            return half_at(b) * level + half_at(b + 2);
        }
    }
}

// The score of a query and a key, in powers of 2: log2 of what softmax would take the sum of.
__device__ __forceinline__ float score(const FlashAttnParams& p, float dot, float mask) {
    float s = dot * p.scale;
    // tanh(x) = 1 − 2 / (1 + e^2x)
    if (p.softcap != 0.0f) {
        s = p.softcap * (1.0f - 2.0f / (1.0f + __expf(2.0f * s / p.softcap)));
    }
    return (s + mask) * LOG2_E;
}

// 2^(x − largest), where nothing was seen yet while `largest` is −∞.
__device__ __forceinline__ float weight_of(float x, float largest) {
    return fast_exp2(x - (largest == -INFINITY ? 0.0f : largest));
}

// Where a block writes the result of one head of one token, and its factor there.
struct ResultRow {
    float* to;
    float factor;
};

// `largest` and `sum` are those of the block's cells. One thread of each row says true to `first`.
__device__ __forceinline__ ResultRow result_row(const FlashAttnParams& p, u32 token, u32 head,
                                                u32 split, float largest, float sum, bool first) {
    if (p.splits == 1) {
        float* to = p.dst + token * p.dst_token + head * p.dst_head;
        return {to, sum > 0.0f ? 1.0f / sum : 0.0f};
    }
    const u64 at = (static_cast<u64>(token) * p.n_head + head) * p.splits + split;
    if (first) {
        p.stats[2 * at] = largest;
        p.stats[2 * at + 1] = sum;
    }
    return {p.partials + at * p.dv, 1.0f};
}
