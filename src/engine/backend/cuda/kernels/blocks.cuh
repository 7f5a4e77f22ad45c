// Block formats of quantised weights, read from shared memory.
//
// A "unit" is 32 consecutive elements of a row, half 0 its first 16, half 1 the others. Every format
// is read as x = scale[h] · q + offset[h] with q in 8 signed bits, h the half, so that kernels know
// no format by name. Layouts: src/engine/tensor/formats, one file each, whose scalar code is the
// reference.
//
// A format has
//   BLOCK, BYTES   elements and bytes of a block; BLOCK is 32 or 256
//   ALIGN          what the address of a block is a multiple of, if the row's is one of 16
//   HALVES         whether the halves of a unit have scales of their own
//   OFFSET         whether there is an offset
//   scales(block, unit)            of a unit, which is counted within the block
//   codes<N>(block, unit, first, q)  for i < N: q[2i] holds elements 4(first + i) and the next 3,
//                                  q[2i + 1] those 16 further on
// and, for decode, where every instruction counts, reads two units that share bytes at a time:
//   SPREAD         whether these are units u and u + 2 of four, rather than neighbours
//   pair(block, i, q, scales)      pair `i` of a block of 256, or two blocks of 32: of one unit
//                                  after the other what `codes<4>` and `scales` give
// Where levels are not signed bytes, `codes` leaves them in the upper bits with the top bit flipped,
// which subtracts the middle at no cost; `scales` has the power of two that makes up for it.
//
// `codes` may read up to 4 bytes behind a block and 3 before it, never using them.
#pragma once
#include "device.cuh"

struct UnitScales {
    float scale[2];
    float offset[2];
};

// Of the two units of a pair.
struct PairScales {
    UnitScales of[2];
};

__device__ __forceinline__ UnitScales symmetric(float scale) {
    return {{scale, scale}, {0.0f, 0.0f}};
}

// ---- Loads from shared memory ----

__device__ __forceinline__ uint32_t load_u16(const uint8_t* from) {
    return *reinterpret_cast<const uint16_t*>(from);
}

__device__ __forceinline__ uint32_t load_u32(const uint8_t* from) {
    return *reinterpret_cast<const uint32_t*>(from);
}

__device__ __forceinline__ float half_bits_to_float(uint32_t bits) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

__device__ __forceinline__ float load_half(const uint8_t* from) {
    return half_bits_to_float(load_u16(from));
}

// N words from an address that is a multiple of ALIGN.
template <int ALIGN, int N>
__device__ __forceinline__ void load_words(const uint8_t* from, uint32_t* words) {
    if constexpr (ALIGN >= 16 && N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const uint4 w = *reinterpret_cast<const uint4*>(from + 4 * i);
            words[i] = w.x;
            words[i + 1] = w.y;
            words[i + 2] = w.z;
            words[i + 3] = w.w;
        }
    } else if constexpr (ALIGN >= 8 && N % 2 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            const uint2 w = *reinterpret_cast<const uint2*>(from + 4 * i);
            words[i] = w.x;
            words[i + 1] = w.y;
        }
    } else if constexpr (ALIGN >= 4) {
#pragma unroll
        for (int i = 0; i < N; i++) words[i] = load_u32(from + 4 * i);
    } else if constexpr (ALIGN == 2 && N == 1) {
        words[0] = load_u16(from) | load_u16(from + 2) << 16;
    } else {
        // One aligned word more than asked for, shifted into place.
        const unsigned shift = reinterpret_cast<uint64_t>(from) % 4;
        uint32_t low = load_u32(from - shift);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const uint32_t high = load_u32(from - shift + 4 * i + 4);
            words[i] = __funnelshift_r(low, high, 8 * shift);
            low = high;
        }
    }
}

// ---- Pieces that several formats share ----

// Codes from levels in the upper bits of each byte.
__device__ __forceinline__ int flip_top(uint32_t bits) { return static_cast<int>(bits ^ 0x80808080u); }

// Bit i of `bits`, i < 4, as bit `at` of byte i.
template <int AT>
__device__ __forceinline__ uint32_t spread_bits(uint32_t bits) {
    return (bits & 15u) * (0x00204081u << AT) & (0x01010101u << AT);
}

// Values of 8 levels: the low nibbles of `word` into q[0], the high ones into q[1]. `table` has the
// 16 values, one byte each.
__device__ __forceinline__ void look_up(const uint32_t (&table)[4], uint32_t word, int* q) {
    const uint32_t index = word & 0x77777777u;
    // Per nibble: byte i of the result comes from the lower or the upper half of the table.
    const uint32_t choice = (word >> 1 & 0x44444444u) | 0x32103210u;
    uint32_t pair[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t low = __byte_perm(table[0], table[1], index >> 16 * i);
        const uint32_t high = __byte_perm(table[2], table[3], index >> 16 * i);
        pair[i] = __byte_perm(low, high, choice >> 16 * i);
    }
    q[0] = static_cast<int>(__byte_perm(pair[0], pair[1], 0x6420));
    q[1] = static_cast<int>(__byte_perm(pair[0], pair[1], 0x7531));
}

// -127 -104 -83 -65, -49 -35 -22 -10, 1 13 25 38, 53 69 89 113
#define IQ4_TABLE \
    { 0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u }
// 0 1 2 3, 4 6 8 12, and the same with a minus: twice the values of the 4-bit floats
#define MXFP4_TABLE \
    { 0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu }

// The two units of pair `i` read one by one.
template <class F>
__device__ __forceinline__ void plain_pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
#pragma unroll
    for (int u = 0; u < 2; u++) {
        const uint8_t* from = F::BLOCK == 32 ? block + u * F::BYTES : block;
        scales.of[u] = F::scales(from, 2 * i + u);
        F::template codes<4>(from, 2 * i + u, 0, q + 8 * u);
    }
}

// Scales and minima of two neighbouring sub-blocks from the 16 bytes at the start of a Q4_K or Q5_K
// block, both at once as bytes of a word. The second unit's codes are FACTOR · (level - MIDDLE).
template <int FACTOR, int MIDDLE>
__device__ __forceinline__ void k_scales_pair(const uint8_t* block, int pair, PairScales& scales) {
    uint32_t head[4];
    load_words<16, 4>(block, head);
    const unsigned shift = pair % 2 * 16;
    const uint32_t a = head[1] >> shift, b = head[2] >> shift, c = head[3] >> shift;
    const bool early = pair < 2;
    const uint32_t scale = early ? a & 0x3f3fu : (c & 0x0f0fu) | (a >> 2 & 0x3030u);
    const uint32_t min = early ? b & 0x3f3fu : (c >> 4 & 0x0f0fu) | (b >> 2 & 0x3030u);
    const float d = half_bits_to_float(head[0] & 0xffffu), dmin = half_bits_to_float(head[0] >> 16);
    const float first = d * static_cast<float>(scale & 0xffu);
    const float second = d * static_cast<float>(scale >> 8);
    const float first_offset = -dmin * static_cast<float>(min & 0xffu);
    const float second_offset = -dmin * static_cast<float>(min >> 8);
    scales.of[0] = {{first, first}, {first_offset, first_offset}};
    const float moved = second_offset + MIDDLE * second;
    scales.of[1] = {{second * (1.0f / FACTOR), second * (1.0f / FACTOR)}, {moved, moved}};
}

// Scale and minimum of sub-block `unit` from the 16 bytes at the start of a Q4_K or Q5_K block.
__device__ __forceinline__ UnitScales k_scales(const uint8_t* block, int unit) {
    uint32_t head[4];
    load_words<16, 4>(block, head);
    const unsigned shift = unit % 4 * 8;
    uint32_t scale = head[1] >> shift, min = head[2] >> shift;
    if (unit < 4) {
        scale &= 63u;
        min &= 63u;
    } else {
        const uint32_t low = head[3] >> shift;
        scale = (low & 15u) | (scale >> 2 & 48u);
        min = (low >> 4 & 15u) | (min >> 2 & 48u);
    }
    const float d = half_bits_to_float(head[0] & 0xffffu);
    const float offset = -half_bits_to_float(head[0] >> 16) * static_cast<float>(min);
    const float whole = d * static_cast<float>(scale);
    return {{whole, whole}, {offset, offset}};
}

// ---- The formats ----

struct Q4_0 {
    static constexpr int BLOCK = 32, BYTES = 18, ALIGN = 2;
    static constexpr bool HALVES = false, OFFSET = false;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int) {
        return symmetric(load_half(block) * (1.0f / 16.0f));
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int, int first, int* q) {
        uint32_t w[N];
        load_words<ALIGN, N>(block + 2 + 4 * first, w);
#pragma unroll
        for (int i = 0; i < N; i++) {
            q[2 * i] = flip_top(w[i] << 4 & 0xf0f0f0f0u);
            q[2 * i + 1] = flip_top(w[i] & 0xf0f0f0f0u);
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        plain_pair<Q4_0>(block, i, q, scales);
    }
};

struct Q4_1 {
    static constexpr int BLOCK = 32, BYTES = 20, ALIGN = 4;
    static constexpr bool HALVES = false, OFFSET = true;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int) {
        const uint32_t head = load_u32(block);
        const float d = half_bits_to_float(head & 0xffffu), m = half_bits_to_float(head >> 16);
        return {{d, d}, {m, m}};
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int, int first, int* q) {
        uint32_t w[N];
        load_words<ALIGN, N>(block + 4 + 4 * first, w);
#pragma unroll
        for (int i = 0; i < N; i++) {
            q[2 * i] = static_cast<int>(w[i] & 0x0f0f0f0fu);
            q[2 * i + 1] = static_cast<int>(w[i] >> 4 & 0x0f0f0f0fu);
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        plain_pair<Q4_1>(block, i, q, scales);
    }
};

struct Q5_0 {
    static constexpr int BLOCK = 32, BYTES = 22, ALIGN = 2;
    static constexpr bool HALVES = false, OFFSET = false;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int) {
        return symmetric(load_half(block) * (1.0f / 8.0f));
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int, int first, int* q) {
        uint32_t w[N];
        load_words<ALIGN, N>(block + 6 + 4 * first, w);
        uint32_t high;
        load_words<ALIGN, 1>(block + 2, &high);
        high >>= 4 * first;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const uint32_t low = w[i] << 3 & 0x78787878u, up = w[i] >> 1 & 0x78787878u;
            q[2 * i] = flip_top(low | spread_bits<7>(high >> 4 * i));
            q[2 * i + 1] = flip_top(up | spread_bits<7>(high >> (4 * i + 16)));
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        plain_pair<Q5_0>(block, i, q, scales);
    }
};

struct Q5_1 {
    static constexpr int BLOCK = 32, BYTES = 24, ALIGN = 8;
    static constexpr bool HALVES = false, OFFSET = true;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int) {
        return Q4_1::scales(block, 0);
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int, int first, int* q) {
        uint32_t w[N];
        load_words<ALIGN, N>(block + 8 + 4 * first, w);
        const uint32_t high = load_u32(block + 4) >> 4 * first;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const uint32_t low = w[i] & 0x0f0f0f0fu, up = w[i] >> 4 & 0x0f0f0f0fu;
            q[2 * i] = static_cast<int>(low | spread_bits<4>(high >> 4 * i));
            q[2 * i + 1] = static_cast<int>(up | spread_bits<4>(high >> (4 * i + 16)));
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        plain_pair<Q5_1>(block, i, q, scales);
    }
};

struct Q8_0 {
    static constexpr int BLOCK = 32, BYTES = 34, ALIGN = 2;
    static constexpr bool HALVES = false, OFFSET = false;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int) {
        return symmetric(load_half(block));
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int, int first, int* q) {
        uint32_t w[2][N];
        if constexpr (N == 4) {
            uint32_t all[8];
            load_words<ALIGN, 8>(block + 2, all);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                w[0][i] = all[i];
                w[1][i] = all[i + 4];
            }
        } else {
            load_words<ALIGN, N>(block + 2 + 4 * first, w[0]);
            load_words<ALIGN, N>(block + 18 + 4 * first, w[1]);
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            q[2 * i] = static_cast<int>(w[0][i]);
            q[2 * i + 1] = static_cast<int>(w[1][i]);
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        plain_pair<Q8_0>(block, i, q, scales);
    }
};

struct Q2_K {
    static constexpr int BLOCK = 256, BYTES = 84, ALIGN = 4;
    static constexpr bool HALVES = true, OFFSET = true;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int unit) {
        const uint32_t head = load_u32(block + 80), packed = load_u16(block + 2 * unit);
        const float d = half_bits_to_float(head & 0xffffu), dmin = half_bits_to_float(head >> 16);
        return {{d * static_cast<float>(packed & 15u), d * static_cast<float>(packed >> 8 & 15u)},
                {-dmin * static_cast<float>(packed >> 4 & 15u), -dmin * static_cast<float>(packed >> 12)}};
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int unit, int first, int* q) {
        const uint8_t* from = block + 16 + unit / 4 * 32 + 4 * first;
        uint32_t w[2][N];
        load_words<ALIGN, N>(from, w[0]);
        load_words<ALIGN, N>(from + 16, w[1]);
        const unsigned shift = unit % 4 * 2;
#pragma unroll
        for (int i = 0; i < N; i++) {
            q[2 * i] = static_cast<int>(w[0][i] >> shift & 0x03030303u);
            q[2 * i + 1] = static_cast<int>(w[1][i] >> shift & 0x03030303u);
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        uint32_t w[8];
        load_words<ALIGN, 8>(block + 16 + i / 2 * 32, w);
        const unsigned shift = i % 2 * 4;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const uint32_t both = w[j] >> shift;
            q[j % 4 * 2 + j / 4] = static_cast<int>(both & 0x03030303u);
            q[8 + j % 4 * 2 + j / 4] = static_cast<int>(both >> 2 & 0x03030303u);
        }
        const uint32_t head = load_u32(block + 80), packed = load_u32(block + 4 * i);
        const float d = half_bits_to_float(head & 0xffffu), dmin = half_bits_to_float(head >> 16);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            scales.of[j / 2].scale[j % 2] = d * static_cast<float>(packed >> 8 * j & 15u);
            scales.of[j / 2].offset[j % 2] = -dmin * static_cast<float>(packed >> (8 * j + 4) & 15u);
        }
    }
};

struct Q3_K {
    static constexpr int BLOCK = 256, BYTES = 110, ALIGN = 2;
    static constexpr bool HALVES = true, OFFSET = false;
    static constexpr bool SPREAD = false;

    // Scale j of 16, less 32.
    static __device__ __forceinline__ float scale(const uint8_t* packed, int j) {
        const uint32_t low = packed[j % 8] >> j / 8 * 4 & 15u;
        const uint32_t high = packed[8 + j % 4] >> j / 4 * 2 & 3u;
        return static_cast<float>(static_cast<int>(low | high << 4) - 32);
    }
    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int unit) {
        const float d = load_half(block + 108) * (1.0f / 32.0f);
        return {{d * scale(block + 96, 2 * unit), d * scale(block + 96, 2 * unit + 1)}, {0.0f, 0.0f}};
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int unit, int first, int* q) {
        const uint8_t* from = block + 32 + unit / 4 * 32 + 4 * first;
        const unsigned shift = unit % 4 * 2;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t w[N], high[N];
            load_words<ALIGN, N>(from + 16 * h, w);
            load_words<ALIGN, N>(block + 16 * h + 4 * first, high);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const uint32_t low = (w[i] >> shift & 0x03030303u) << 5;
                const uint32_t up = (high[i] >> unit & 0x01010101u) << 7;
                q[2 * i + h] = flip_top(low | up);
            }
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        uint32_t w[8], high[8];
        load_words<ALIGN, 8>(block + 32 + i / 2 * 32, w);
        load_words<ALIGN, 8>(block, high);
        const unsigned shift = i % 2 * 4;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            // Low bits to bits 5 and 6, the high bit to bit 7.
            const uint32_t low = w[j] >> shift, up = high[j] >> 2 * i;
            const int at = j % 4 * 2 + j / 4;
            q[at] = flip_top((low << 5 & 0x60606060u) | (up << 7 & 0x80808080u));
            q[8 + at] = flip_top((low << 3 & 0x60606060u) | (up << 6 & 0x80808080u));
        }
        scales.of[0] = Q3_K::scales(block, 2 * i);
        scales.of[1] = Q3_K::scales(block, 2 * i + 1);
    }
};

struct Q4_K {
    static constexpr int BLOCK = 256, BYTES = 144, ALIGN = 16;
    static constexpr bool HALVES = false, OFFSET = true;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int unit) {
        return k_scales(block, unit);
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int unit, int first, int* q) {
        const uint8_t* from = block + 16 + unit / 2 * 32 + 4 * first;
        const unsigned shift = unit % 2 * 4;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t w[N];
            load_words<ALIGN, N>(from + 16 * h, w);
#pragma unroll
            for (int i = 0; i < N; i++) q[2 * i + h] = static_cast<int>(w[i] >> shift & 0x0f0f0f0fu);
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        uint32_t w[8];
        load_words<ALIGN, 8>(block + 16 + i * 32, w);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            q[j % 4 * 2 + j / 4] = static_cast<int>(w[j] & 0x0f0f0f0fu);
            // In place, which makes it 16 · (level - 8).
            q[8 + j % 4 * 2 + j / 4] = flip_top(w[j] & 0xf0f0f0f0u);
        }
        k_scales_pair<16, 8>(block, i, scales);
    }
};

struct Q5_K {
    static constexpr int BLOCK = 256, BYTES = 176, ALIGN = 16;
    static constexpr bool HALVES = false, OFFSET = true;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int unit) {
        return k_scales(block, unit);
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int unit, int first, int* q) {
        const uint8_t* from = block + 48 + unit / 2 * 32 + 4 * first;
        const unsigned shift = unit % 2 * 4;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t w[N], high[N];
            load_words<ALIGN, N>(from + 16 * h, w);
            load_words<ALIGN, N>(block + 16 + 16 * h + 4 * first, high);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const uint32_t low = w[i] >> shift & 0x0f0f0f0fu;
                const uint32_t up = (high[i] >> unit & 0x01010101u) << 4;
                q[2 * i + h] = static_cast<int>(low | up);
            }
        }
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        uint32_t w[8], high[8];
        load_words<ALIGN, 8>(block + 48 + i * 32, w);
        load_words<ALIGN, 8>(block + 16, high);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const uint32_t up = high[j] >> 2 * i;
            const int at = j % 4 * 2 + j / 4;
            q[at] = static_cast<int>((w[j] & 0x0f0f0f0fu) | (up << 4 & 0x10101010u));
            // One bit to the right of the top, which makes it 8 · (level - 16).
            q[8 + at] = flip_top((w[j] >> 1 & 0x78787878u) | (up << 6 & 0x80808080u));
        }
        k_scales_pair<8, 16>(block, i, scales);
    }
};

struct Q6_K {
    static constexpr int BLOCK = 256, BYTES = 210, ALIGN = 2;
    static constexpr bool HALVES = true, OFFSET = false;
    static constexpr bool SPREAD = true;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int unit) {
        const uint32_t packed = load_u16(block + 192 + 2 * unit);
        const float d = load_half(block + 208) * (1.0f / 4.0f);
        return {{d * static_cast<float>(static_cast<int8_t>(packed & 0xffu)),
                 d * static_cast<float>(static_cast<int8_t>(packed >> 8))},
                {0.0f, 0.0f}};
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int unit, int first, int* q) {
        const uint8_t* from = block + unit / 4 * 64 + unit % 2 * 32 + 4 * first;
        const uint8_t* from_high = block + 128 + unit / 4 * 32 + 4 * first;
        const unsigned shift = unit % 4 / 2 * 4, shift_high = unit % 4 * 2;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t w[N], high[N];
            load_words<ALIGN, N>(from + 16 * h, w);
            load_words<ALIGN, N>(from_high + 16 * h, high);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const uint32_t low = (w[i] >> shift & 0x0f0f0f0fu) << 2;
                const uint32_t up = (high[i] >> shift_high & 0x03030303u) << 6;
                q[2 * i + h] = flip_top(low | up);
            }
        }
    }
    // Units u and u + 2 of a half block share their bytes.
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        uint32_t w[8], high[8];
        load_words<ALIGN, 8>(block + i * 32, w);
        load_words<ALIGN, 8>(block + 128 + i / 2 * 32, high);
        const unsigned shift = i % 2 * 2;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const uint32_t up = high[j] >> shift;
            const int at = j % 4 * 2 + j / 4;
            q[at] = flip_top((w[j] << 2 & 0x3c3c3c3cu) | (up << 6 & 0xc0c0c0c0u));
            q[8 + at] = flip_top((w[j] >> 2 & 0x3c3c3c3cu) | (up << 2 & 0xc0c0c0c0u));
        }
        const int unit = i / 2 * 4 + i % 2;
        scales.of[0] = Q6_K::scales(block, unit);
        scales.of[1] = Q6_K::scales(block, unit + 2);
    }
};

struct IQ4_NL {
    static constexpr int BLOCK = 32, BYTES = 18, ALIGN = 2;
    static constexpr bool HALVES = false, OFFSET = false;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int) {
        return symmetric(load_half(block));
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int, int first, int* q) {
        uint32_t w[N];
        load_words<ALIGN, N>(block + 2 + 4 * first, w);
        const uint32_t table[4] = IQ4_TABLE;
#pragma unroll
        for (int i = 0; i < N; i++) look_up(table, w[i], q + 2 * i);
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        plain_pair<IQ4_NL>(block, i, q, scales);
    }
};

struct IQ4_XS {
    static constexpr int BLOCK = 256, BYTES = 136, ALIGN = 8;
    static constexpr bool HALVES = false, OFFSET = false;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int unit) {
        const uint32_t head = load_u32(block);
        const uint32_t low = load_u32(block + 4) >> 4 * unit & 15u;
        const uint32_t high = head >> (16 + 2 * unit) & 3u;
        const int scale = static_cast<int>(low | high << 4) - 32;
        return symmetric(half_bits_to_float(head & 0xffffu) * static_cast<float>(scale));
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int unit, int first, int* q) {
        uint32_t w[N];
        load_words<ALIGN, N>(block + 8 + 16 * unit + 4 * first, w);
        const uint32_t table[4] = IQ4_TABLE;
#pragma unroll
        for (int i = 0; i < N; i++) look_up(table, w[i], q + 2 * i);
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        plain_pair<IQ4_XS>(block, i, q, scales);
    }
};

struct MXFP4 {
    static constexpr int BLOCK = 32, BYTES = 17, ALIGN = 1;
    static constexpr bool HALVES = false, OFFSET = false;
    static constexpr bool SPREAD = false;

    // Half of 2^(e - 127); the two smallest are below the normal numbers.
    static __device__ __forceinline__ UnitScales scales(const uint8_t* block, int) {
        const uint32_t e = block[0];
        return symmetric(__uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23));
    }
    template <int N>
    static __device__ __forceinline__ void codes(const uint8_t* block, int, int first, int* q) {
        uint32_t w[N];
        load_words<ALIGN, N>(block + 1 + 4 * first, w);
        const uint32_t table[4] = MXFP4_TABLE;
#pragma unroll
        for (int i = 0; i < N; i++) look_up(table, w[i], q + 2 * i);
    }
    static __device__ __forceinline__ void pair(const uint8_t* block, int i, int (&q)[16], PairScales& scales) {
        plain_pair<MXFP4>(block, i, q, scales);
    }
};
