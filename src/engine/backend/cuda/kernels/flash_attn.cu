// FLASH_ATTN_EXT on tensor cores, for heads of 64, 96, 128 and 256 elements.
//
// A block takes 16 · WARPS_M query rows that share a head of the cache (a row is one head of one
// token, heads of a group next to each other) and walks through its part of the context in tiles of
// CELLS cells, which lie in shared memory as halves whatever the cache's type is. Warps that stand
// side by side (WARPS_N) take slices of a tile's cells and are put together at the end: for decode,
// where there are few rows and the cache is read once.
//
// Tiles of which the mask hides everything from all rows of the block are not brought at all: half of
// them in a prompt, and other sequences' cells.
//
// Scores and sums are floats; queries are split into two halves where EXACT, which keeps 22 bits of
// them, and weights of softmax are rounded to halves.
#include "flash_attn.cuh"

// Bits for the tiles of the longest part of the context: launch/flash_attn.rs knows it, too.
#define VISIBLE_WORDS 128u

// Values of 0 to 255 in the bytes of `bytes` as four halves, less `middle`, times `scale`.
__device__ __forceinline__ uint2 widen_bytes(u32 bytes, half middle, half2 scale) {
    // 0x64 above a byte makes the half 1024 + byte.
    uint2 words = make_uint2(__byte_perm(bytes, 0x64646464u, 0x4140u),
                             __byte_perm(bytes, 0x64646464u, 0x4342u));
    half2 pairs[2];
    memcpy(pairs, &words, sizeof words);
    const half2 shift = __half2half2(middle);
    pairs[0] = __hmul2(__hsub2(pairs[0], shift), scale);
    pairs[1] = __hmul2(__hsub2(pairs[1], shift), scale);
    memcpy(&words, pairs, sizeof words);
    return words;
}

__device__ __forceinline__ u32 two_halfwords(const uint8_t* from) {
    const uint16_t* halfwords = reinterpret_cast<const uint16_t*>(from);
    return halfwords[0] | static_cast<u32>(halfwords[1]) << 16;
}

// As cache_halves, for types that are rarely chosen. Not inlined, because it is long.
__device__ __noinline__ uint4 cache_halves_of_any(u32 type, const uint8_t* row, u32 i) {
    u32 words[4];
#pragma unroll 1
    for (u32 j = 0; j < 4; j++) {
        words[j] = pack_half2(cache_element(type, row, i + 2 * j),
                              cache_element(type, row, i + 2 * j + 1));
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// Elements i to i + 7 (i a multiple of 8) of a row of the cache as halves.
__device__ __forceinline__ uint4 cache_halves(u32 type, const uint8_t* row, u32 i) {
    const u32 block = i / 32, at = i % 32;
    if (type == CACHE_Q8_0) {
        const uint8_t* b = row + block * 34;
        const half2 scale = __half2half2(*reinterpret_cast<const half*>(b));
        const half middle = __ushort_as_half(0x6480u);  // 1024 + 128
        const uint2 low = widen_bytes(two_halfwords(b + 2 + at) ^ 0x80808080u, middle, scale);
        const uint2 high = widen_bytes(two_halfwords(b + 6 + at) ^ 0x80808080u, middle, scale);
        return make_uint4(low.x, low.y, high.x, high.y);
    }
    if (type == CACHE_Q4_0) {
        const uint8_t* b = row + block * 18;
        const half2 scale = __half2half2(*reinterpret_cast<const half*>(b));
        const half middle = __ushort_as_half(0x6408u);  // 1024 + 8
        const u32 shift = at < 16 ? 0 : 4;
        const uint8_t* levels = b + 2 + at % 16;
        const uint2 low = widen_bytes(two_halfwords(levels) >> shift & 0x0f0f0f0fu, middle, scale);
        const uint2 high =
            widen_bytes(two_halfwords(levels + 4) >> shift & 0x0f0f0f0fu, middle, scale);
        return make_uint4(low.x, low.y, high.x, high.y);
    }
    return cache_halves_of_any(type, row, i);
}

// Brings cells [first, first + CELLS) of one head into a tile; those from `end` on become zeros.
template <u32 D, u32 CELLS, u32 STRIDE>
__device__ __forceinline__ void load_tile(half* tile, u32 type, const uint8_t* cells,
                                          u64 cell_bytes, u32 first, u32 end) {
    constexpr u32 PIECES = D / 8;
    if (type == CACHE_F16) {
        for (u32 i = threadIdx.x; i < CELLS * PIECES; i += FLASH_ATTN_THREADS) {
            const u32 cell = i / PIECES, at = i % PIECES * 8;
            const bool exists = first + cell < end;
            const uint8_t* row = cells + (exists ? first + cell : first) * cell_bytes;
            cp_async_or_zero<16>(tile + cell * STRIDE + at, row + 2 * at, exists);
        }
    } else {
#pragma unroll 4
        for (u32 i = threadIdx.x; i < CELLS * PIECES; i += FLASH_ATTN_THREADS) {
            const u32 cell = i / PIECES, at = i % PIECES * 8;
            const uint8_t* row = cells + (first + cell) * cell_bytes;
            *reinterpret_cast<uint4*>(tile + cell * STRIDE + at) =
                first + cell < end ? cache_halves(type, row, at) : make_uint4(0, 0, 0, 0);
        }
    }
}

// Which tiles of [begin, end) any row of the block sees anything of: one bit each.
template <u32 CELLS>
__device__ __forceinline__ void find_visible_tiles(const FlashAttnParams& p, u32* visible,
                                                   u32 first_token, u32 end_token, u32 begin,
                                                   u32 end) {
    const u32 lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    const u32 words = ceil_div(ceil_div(end - begin, CELLS), 32u);
    // A warp makes a word of 32 tiles.
    for (u32 word = warp; word < words; word += FLASH_ATTN_THREADS / WARP_LANES) {
        u32 bits = 0;
        for (u32 i = 0; i < 32; i++) {
            const u32 cell = begin + (word * 32 + i) * CELLS + lane * 2;
            const bool mine = lane * 2 < CELLS && cell < end;
            // The same for all lanes; most tiles are seen by the first token.
            bool seen = false;
            for (u32 token = first_token; token < end_token && !seen; token++) {
                bool see = false;
                if (mine) {
                    const uint16_t* from = reinterpret_cast<const uint16_t*>(
                        p.mask + token * p.mask_row + cell);
                    see = from[0] != 0xfc00u || (cell + 1 < end && from[1] != 0xfc00u);
                }
                seen = __any_sync(ALL_LANES, see);
            }
            bits |= static_cast<u32>(seen) << i;
        }
        if (lane == 0) visible[word] = bits;
    }
}

// The first visible tile from `tile` on, or `tiles`.
__device__ __forceinline__ u32 next_visible(const u32* visible, u32 tile, u32 tiles) {
    while (tile < tiles) {
        const u32 bits = visible[tile / 32] >> tile % 32;
        if (bits != 0) return tile + __ffs(bits) - 1;
        tile = (tile / 32 + 1) * 32;
    }
    return tiles;
}

// The query rows as halves: the rounded ones, and below them what rounding left.
template <u32 D, u32 ROWS, u32 STRIDE, bool EXACT>
__device__ __forceinline__ void load_queries(const FlashAttnParams& p, half* tile, u32 first_row,
                                             u32 head_kv) {
    for (u32 i = threadIdx.x; i < ROWS * D / 2; i += FLASH_ATTN_THREADS) {
        const u32 r = i / (D / 2), at = i % (D / 2) * 2;
        const u32 row = first_row + r, token = row / p.group;
        float2 x = make_float2(0.0f, 0.0f);
        if (token < p.t) {
            const u32 head = head_kv * p.group + row % p.group;
            const float* q = p.q + token * p.q_token + head * p.q_head + at;
            x = make_float2(q[0], q[1]);
        }
        const half2 rounded = __floats2half2_rn(x.x, x.y);
        *reinterpret_cast<half2*>(tile + r * STRIDE + at) = rounded;
        if (EXACT) {
            *reinterpret_cast<half2*>(tile + (ROWS + r) * STRIDE + at) = __floats2half2_rn(
                x.x - __low2float(rounded), x.y - __high2float(rounded));
        }
    }
}

// What a warp knows of the two query rows of each of its lanes.
template <u32 D>
struct Rows {
    float sums[D / 8][4];  // weighted values, as mma leaves them
    float largest[2];
    float sum[2];  // of this lane's cells
};

// The largest, or the sum, over the four lanes that share a row.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// Mask of this lane's cells: pairs for its two rows. True when any lane of the warp sees anything.
template <u32 TILES>
__device__ __forceinline__ bool load_mask(const FlashAttnParams& p, u32 (*hidden)[2],
                                          const half* const* mask_rows, u32 first, u32 end) {
    bool any = false;
#pragma unroll
    for (u32 n = 0; n < TILES; n++) {
        const u32 cell = first + n * 8 + threadIdx.x % 4 * 2;
#pragma unroll
        for (u32 r = 0; r < 2; r++) {
            u32 pair = 0xfc00fc00u;  // −∞ twice
            if (mask_rows[r] != nullptr && cell < end) {
                const uint16_t* from = reinterpret_cast<const uint16_t*>(mask_rows[r] + cell);
                if (p.mask_pairs && cell + 1 < end) {
                    pair = *reinterpret_cast<const u32*>(from);
                } else {
                    pair = from[0] | (cell + 1 < end ? static_cast<u32>(from[1]) : 0xfc00u) << 16;
                }
            }
            any |= pair != 0xfc00fc00u;
            hidden[n][r] = pair;
        }
    }
    return __any_sync(ALL_LANES, any);
}

// One tile for one warp: scores of its slice of cells, and their weighted values.
template <u32 D, u32 STRIDE, u32 TILES, u32 ROWS, bool EXACT>
__device__ __forceinline__ void attend(const FlashAttnParams& p, Rows<D>& rows, const half* queries,
                                       const half* keys, const half* values,
                                       u32 (*hidden)[2]) {
    const u32 lane = threadIdx.x % WARP_LANES;
    float s[TILES][4] = {};
#pragma unroll
    for (u32 k = 0; k < D; k += 16) {
        u32 a[4], rest[4];
        ldmatrix_x4(a, queries + lane % 16 * STRIDE + k + lane / 16 * 8);
        if (EXACT) ldmatrix_x4(rest, queries + (ROWS + lane % 16) * STRIDE + k + lane / 16 * 8);
#pragma unroll
        for (u32 n = 0; n < TILES; n += 2) {
            u32 b[4];
            ldmatrix_x4(b, keys + (n * 8 + lane / 16 * 8 + lane % 8) * STRIDE + k + lane / 8 % 2 * 8);
            mma_m16n8k16_f16(s[n], a, b);
            mma_m16n8k16_f16(s[n + 1], a, b + 2);
            if (EXACT) {
                mma_m16n8k16_f16(s[n], rest, b);
                mma_m16n8k16_f16(s[n + 1], rest, b + 2);
            }
        }
    }
#pragma unroll
    for (u32 r = 0; r < 2; r++) {
        float largest = rows.largest[r];
#pragma unroll
        for (u32 n = 0; n < TILES; n++) {
            half2 pair;
            memcpy(&pair, &hidden[n][r], sizeof pair);
            s[n][2 * r] = score(p, s[n][2 * r], __low2float(pair));
            s[n][2 * r + 1] = score(p, s[n][2 * r + 1], __high2float(pair));
            largest = fmaxf(largest, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        }
        largest = row_max(largest);
        const float fade = weight_of(rows.largest[r], largest);
        rows.largest[r] = largest;
        rows.sum[r] *= fade;
#pragma unroll
        for (u32 n = 0; n < TILES; n++) {
            s[n][2 * r] = weight_of(s[n][2 * r], largest);
            s[n][2 * r + 1] = weight_of(s[n][2 * r + 1], largest);
            rows.sum[r] += s[n][2 * r] + s[n][2 * r + 1];
        }
#pragma unroll
        for (u32 n = 0; n < D / 8; n++) {
            rows.sums[n][2 * r] *= fade;
            rows.sums[n][2 * r + 1] *= fade;
        }
    }
#pragma unroll
    for (u32 k = 0; k < TILES; k += 2) {
        const u32 a[4] = {pack_half2(s[k][0], s[k][1]), pack_half2(s[k][2], s[k][3]),
                          pack_half2(s[k + 1][0], s[k + 1][1]), pack_half2(s[k + 1][2], s[k + 1][3])};
#pragma unroll
        for (u32 n = 0; n < D / 8; n += 2) {
            u32 b[4];
            ldmatrix_x4_trans(b, values + (k * 8 + lane % 16) * STRIDE + n * 8 + lane / 16 * 8);
            mma_m16n8k16_f16(rows.sums[n], a, b);
            mma_m16n8k16_f16(rows.sums[n + 1], a, b + 2);
        }
    }
}

// Writes the rows of a warp that has no neighbours.
template <u32 D>
__device__ __forceinline__ void write_rows(const FlashAttnParams& p, const Rows<D>& rows,
                                           u32 first_row, u32 head_kv, u32 split) {
    const u32 lane = threadIdx.x % WARP_LANES;
#pragma unroll
    for (u32 r = 0; r < 2; r++) {
        const u32 row = first_row + lane / 4 + r * 8, token = row / p.group;
        const float sum = row_sum(rows.sum[r]);
        if (token >= p.t) continue;
        const u32 head = head_kv * p.group + row % p.group;
        const ResultRow to =
            result_row(p, token, head, split, rows.largest[r], sum, lane % 4 == 0);
#pragma unroll
        for (u32 n = 0; n < D / 8; n++) {
            to.to[n * 8 + lane % 4 * 2] = rows.sums[n][2 * r] * to.factor;
            to.to[n * 8 + lane % 4 * 2 + 1] = rows.sums[n][2 * r + 1] * to.factor;
        }
    }
}

// Puts together the rows of warps side by side, through shared memory: (WARPS_N, 16, D) floats, then
// the largest score and the sum of each row.
template <u32 D, u32 WARPS_N>
__device__ __forceinline__ void merge_and_write_rows(const FlashAttnParams& p, const Rows<D>& rows,
                                                     float* shared, u32 first_row, u32 head_kv,
                                                     u32 split) {
    const u32 lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    float* stats = shared + WARPS_N * 16 * D;
#pragma unroll
    for (u32 r = 0; r < 2; r++) {
        const u32 row = warp * 16 + lane / 4 + r * 8;
        const float sum = row_sum(rows.sum[r]);
        if (lane % 4 == 0) {
            stats[2 * row] = rows.largest[r];
            stats[2 * row + 1] = sum;
        }
#pragma unroll
        for (u32 n = 0; n < D / 8; n++) {
            shared[row * D + n * 8 + lane % 4 * 2] = rows.sums[n][2 * r];
            shared[row * D + n * 8 + lane % 4 * 2 + 1] = rows.sums[n][2 * r + 1];
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < 16 * D; i += FLASH_ATTN_THREADS) {
        const u32 r = i / D, at = i % D, row = first_row + r, token = row / p.group;
        if (token >= p.t) continue;
        float largest = -INFINITY, sum = 0.0f, x = 0.0f;
        for (u32 w = 0; w < WARPS_N; w++) largest = fmaxf(largest, stats[2 * (w * 16 + r)]);
        for (u32 w = 0; w < WARPS_N; w++) {
            const float weight = weight_of(stats[2 * (w * 16 + r)], largest);
            sum += stats[2 * (w * 16 + r) + 1] * weight;
            x += shared[(w * 16 + r) * D + at] * weight;
        }
        const u32 head = head_kv * p.group + row % p.group;
        const ResultRow to = result_row(p, token, head, split, largest, sum, at == 0);
        to.to[at] = x * to.factor;
    }
}

template <u32 D, u32 CELLS, u32 WARPS_M, u32 WARPS_N, bool EXACT>
__device__ __forceinline__ void flash_attn(const FlashAttnParams& p) {
    // Eight more halves per row put the rows of a matrix into different banks.
    constexpr u32 STRIDE = D + 8, ROWS = 16 * WARPS_M, TILES = CELLS / 8 / WARPS_N;
    static_assert(WARPS_M * WARPS_N * WARP_LANES == FLASH_ATTN_THREADS && TILES % 2 == 0);
    DYNAMIC_SHARED(half, shared);
    begin_after_earlier_work();
    half* queries = shared;
    half* tiles = queries + (EXACT ? 2 : 1) * ROWS * STRIDE;
    const u32 first_row = blockIdx.x * ROWS, head_kv = blockIdx.y, split = blockIdx.z;
    const u32 warp = threadIdx.x / WARP_LANES, lane = threadIdx.x % WARP_LANES;
    const u32 warp_m = warp % WARPS_M, warp_n = warp / WARPS_M;
    const uint8_t* k = static_cast<const uint8_t*>(p.k) + head_kv * p.k_head_bytes;
    const uint8_t* v = static_cast<const uint8_t*>(p.v) + head_kv * p.v_head_bytes;
    const u32 begin = split * p.split_len, end = min(p.n_kv, begin + p.split_len);

    const half* mask_rows[2];
    for (u32 r = 0; r < 2; r++) {
        const u32 token = (first_row + warp_m * 16 + lane / 4 + r * 8) / p.group;
        mask_rows[r] = token < p.t ? p.mask + token * p.mask_row : nullptr;
    }
    const auto start_tile = [&](u32 tile, u32 stage) {
        half* to = tiles + stage * (2 * CELLS * STRIDE);
        const u32 first = begin + tile * CELLS;
        load_tile<D, CELLS, STRIDE>(to, p.k_type, k, p.k_cell_bytes, first, end);
        load_tile<D, CELLS, STRIDE>(to + CELLS * STRIDE, p.v_type, v, p.v_cell_bytes, first, end);
    };

    Rows<D> rows = {};
    rows.largest[0] = rows.largest[1] = -INFINITY;
    SHARED_ARRAY(u32, visible, VISIBLE_WORDS);
    const u32 end_token = min((first_row + ROWS - 1) / p.group + 1, p.t);
    if (begin < end) {
        find_visible_tiles<CELLS>(p, visible, first_row / p.group, end_token, begin, end);
    }
    load_queries<D, ROWS, STRIDE, EXACT>(p, queries, first_row, head_kv);
    __syncthreads();
    const u32 n_tiles = begin < end ? ceil_div(end - begin, CELLS) : 0;
    u32 tile = next_visible(visible, 0, n_tiles);
    if (p.stages > 1 && tile < n_tiles) start_tile(tile, 0);
    cp_async_commit();
    for (u32 stage = 0; tile < n_tiles; stage = (stage + 1) % p.stages) {
        const u32 next = next_visible(visible, tile + 1, n_tiles);
        // The next tile comes while this one is used, if there is room for two.
        if (p.stages == 1) {
            start_tile(tile, 0);
        } else if (next < n_tiles) {
            start_tile(next, (stage + 1) % p.stages);
        }
        cp_async_commit();
        if (p.stages > 1) {
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        const half* keys = tiles + stage * (2 * CELLS * STRIDE) + warp_n * TILES * 8 * STRIDE;
        const u32 first = begin + tile * CELLS + warp_n * TILES * 8;
        u32 hidden[TILES][2];
        if (load_mask<TILES>(p, hidden, mask_rows, first, end)) {
            attend<D, STRIDE, TILES, ROWS, EXACT>(p, rows, queries + warp_m * 16 * STRIDE, keys,
                                                  keys + CELLS * STRIDE, hidden);
        }
        __syncthreads();
        tile = next;
    }
    cp_async_wait<0>();
    if constexpr (WARPS_N == 1) {
        write_rows<D>(p, rows, first_row + warp_m * 16, head_kv, split);
    } else {
        static_assert(WARPS_M == 1);
        __syncthreads();
        float* floats = reinterpret_cast<float*>(shared);
        merge_and_write_rows<D, WARPS_N>(p, rows, floats, first_row, head_kv, split);
    }
}

// For many rows: 64 to a block.
CUDA_KERNEL(flash_attn_rows_64, FlashAttnParams, FLASH_ATTN_THREADS) {
    flash_attn<64, 64, 4, 1, false>(p);
}
CUDA_KERNEL(flash_attn_rows_96, FlashAttnParams, FLASH_ATTN_THREADS) {
    flash_attn<96, 64, 4, 1, false>(p);
}
CUDA_KERNEL(flash_attn_rows_128, FlashAttnParams, FLASH_ATTN_THREADS) {
    flash_attn<128, 64, 4, 1, false>(p);
}
CUDA_KERNEL(flash_attn_rows_256, FlashAttnParams, FLASH_ATTN_THREADS) {
    flash_attn<256, 32, 4, 1, false>(p);
}

// For few rows: 16 to a block.
CUDA_KERNEL(flash_attn_few_64, FlashAttnParams, FLASH_ATTN_THREADS) {
    flash_attn<64, 64, 1, 4, true>(p);
}
CUDA_KERNEL(flash_attn_few_96, FlashAttnParams, FLASH_ATTN_THREADS) {
    flash_attn<96, 64, 1, 4, true>(p);
}
CUDA_KERNEL(flash_attn_few_128, FlashAttnParams, FLASH_ATTN_THREADS) {
    flash_attn<128, 64, 1, 4, true>(p);
}
CUDA_KERNEL(flash_attn_few_256, FlashAttnParams, FLASH_ATTN_THREADS) {
    flash_attn<256, 64, 1, 4, true>(p);
}
