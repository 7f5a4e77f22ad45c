// Weights in F32, F16 or BF16 times activations as they are, summed in float: one column in decode,
// up to 8 at once for small batches, and any number where tensor cores would round too much (F32) or
// rows lie too crooked for them.
//
// Each warp takes ROWS rows at a time and COLUMNS columns, reading 16 bytes of each row per lane and
// several such steps ahead; columns come from the first-level cache. `split` warps share rows where
// rows are few. A block works on one of up to three matrices; with GLU, whose ROWS are 2, on a row of
// the gate and the same one of up.
//
// grid (blocks, pairs / COLUMNS), 256 threads. Rows that are not aligned to 16 bytes are read element
// by element. By expert, COLUMNS must be 1.
#pragma once
#include "params_matmul.cuh"

struct WeightF32 {
    static constexpr int BYTES = 4, STEP = 4;
    static __device__ __forceinline__ float one(const uint8_t* from) {
        return *reinterpret_cast<const float*>(from);
    }
    static __device__ __forceinline__ void many(const uint4& w, float* out) {
        out[0] = __uint_as_float(w.x);
        out[1] = __uint_as_float(w.y);
        out[2] = __uint_as_float(w.z);
        out[3] = __uint_as_float(w.w);
    }
};

struct WeightF16 {
    static constexpr int BYTES = 2, STEP = 8;
    static __device__ __forceinline__ float one(const uint8_t* from) {
        return __half2float(*reinterpret_cast<const half*>(from));
    }
    static __device__ __forceinline__ void many(const uint4& w, float* out) {
        const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[2 * i] = __half2float(__ushort_as_half(static_cast<unsigned short>(words[i] & 0xffffu)));
            out[2 * i + 1] = __half2float(__ushort_as_half(static_cast<unsigned short>(words[i] >> 16)));
        }
    }
};

struct WeightBF16 {
    static constexpr int BYTES = 2, STEP = 8;
    static __device__ __forceinline__ float one(const uint8_t* from) {
        return bf16_to_float(*reinterpret_cast<const uint16_t*>(from));
    }
    static __device__ __forceinline__ void many(const uint4& w, float* out) {
        const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[2 * i] = __uint_as_float(words[i] << 16);
            out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
        }
    }
};

template <class W, int COLUMNS, int ROWS, bool GLU>
struct MulMatFloat {
    static constexpr int WARPS = 8;
    // Rows of each matrix that a warp takes at a time.
    static constexpr int STEP = GLU ? 1 : ROWS;
    static_assert(!GLU || (ROWS == 2 && COLUMNS == 1));

    const MulMatVecParams& p;
    int lane, warp, first_pair, columns;
    ChosenSide at;
    const uint8_t* w;
    const uint8_t* x;
    uint64_t dst_offset;
    // Floats from `x` to each column's; columns behind the last are the last once more.
    unsigned x_offset[COLUMNS];
    bool aligned;

    __device__ explicit MulMatFloat(const MulMatVecParams& params)
        : p(params), lane(threadIdx.x % 32), warp(threadIdx.x / 32), first_pair(blockIdx.y * COLUMNS),
          at(GLU ? only_side(p) : choose_side(p)), w(at.side.w) {
        // With several columns there is one slot.
        const int slot = first_pair % p.slots, token = first_pair / p.slots;
        columns = min(COLUMNS, p.pairs - first_pair);
        x = reinterpret_cast<const uint8_t*>(p.x) + slot * p.x_slot_bytes + token * p.x_token_bytes;
        dst_offset = slot * at.side.dst_slot_bytes + token * at.side.dst_token_bytes;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            x_offset[c] = static_cast<unsigned>(min(c, columns - 1) * (p.x_token_bytes / sizeof(float)));
        }
        aligned = p.k % W::STEP == 0 &&
                  (reinterpret_cast<uint64_t>(w) | at.side.w_row_bytes | at.side.w_expert_bytes |
                   reinterpret_cast<uint64_t>(x) | p.x_token_bytes) % 16 == 0;
        if constexpr (GLU) aligned = aligned && reinterpret_cast<uint64_t>(p.sides[1].w) % 16 == 0;
    }

    __device__ void store(int column, int row, float value) const {
        store_product(at.side, dst_offset + column * at.side.dst_token_bytes, row, value);
    }

    // False if the pair's id names no expert; then its result is zeros.
    __device__ bool choose_expert() {
        if (p.ids == nullptr) return true;
        const uint8_t* ids = reinterpret_cast<const uint8_t*>(p.ids) + first_pair / p.slots * p.ids_token_bytes;
        const int expert = reinterpret_cast<const int*>(ids)[first_pair % p.slots];
        if (expert >= 0 && expert < p.n_expert) {
            w += expert * at.side.w_expert_bytes;
            return true;
        }
        const int first = (blockIdx.x - at.first_block) * blockDim.x + threadIdx.x;
        for (int row = first; row < at.side.n; row += at.blocks * blockDim.x) {
            if constexpr (GLU) {
                store_gated(p, dst_offset, row, 0.0f, 0.0f);
            } else {
                store(0, row, 0.0f);
            }
        }
        return false;
    }

    // Adds this lane's part of the products of ROWS rows from `row` on; the `part`-th of `split`.
    __device__ void add_products(int row, int part, float (&sums)[ROWS][COLUMNS]) const {
        const float* floats = reinterpret_cast<const float*>(x);
        const uint8_t* rows[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            rows[r] = w + min(GLU ? row : row + r, at.side.n - 1) * at.side.w_row_bytes;
            if (GLU && r == 1) rows[r] += p.sides[1].w - p.sides[0].w;
        }
        if (!aligned) {
            for (int i = part * 32 + lane; i < p.k; i += p.split * 32) {
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    const float weight = W::one(rows[r] + i * W::BYTES);
#pragma unroll
                    for (int c = 0; c < COLUMNS; c++) sums[r][c] += weight * floats[x_offset[c] + i];
                }
            }
            return;
        }
#pragma unroll (ROWS == 1 ? 4 : GLU ? 2 : 1)
        for (int i = (part * 32 + lane) * W::STEP; i < p.k; i += p.split * 32 * W::STEP) {
            float weights[ROWS][W::STEP];
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                W::many(load_streaming(reinterpret_cast<const uint4*>(rows[r] + i * W::BYTES)), weights[r]);
            }
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
                for (int j = 0; j < W::STEP; j += 4) {
                    const float4 v = *reinterpret_cast<const float4*>(floats + x_offset[c] + i + j);
#pragma unroll
                    for (int r = 0; r < ROWS; r++) {
                        sums[r][c] += weights[r][j] * v.x;
                        sums[r][c] += weights[r][j + 1] * v.y;
                        sums[r][c] += weights[r][j + 2] * v.z;
                        sums[r][c] += weights[r][j + 3] * v.w;
                    }
                }
            }
        }
    }

    __device__ void run() {
        begin_after_earlier_work();
        if (!choose_expert()) return;
        SHARED_ARRAY(float, partial, WARPS * ROWS * COLUMNS);
        const int groups = WARPS / p.split, part = warp % p.split, n = at.side.n;
        const int step = at.blocks * groups * STEP;
        for (int base = (blockIdx.x - at.first_block) * groups * STEP; base < n; base += step) {
            const int row = base + warp / p.split * STEP;
            float sums[ROWS][COLUMNS] = {};
            if (row < n) add_products(row, part, sums);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) {
                    const float sum = warp_sum(sums[r][c]);
                    if (GLU) sums[r][c] = sum;
                    if (lane != 0) continue;
                    if (p.split > 1) {
                        partial[(warp * ROWS + r) * COLUMNS + c] = sum;
                    } else if (!GLU && row + r < n && c < columns) {
                        store(c, row + r, sum);
                    }
                }
            }
            if constexpr (GLU) {
                if (p.split == 1 && lane == 0 && row < n) store_gated(p, dst_offset, row, sums[0][0], sums[1][0]);
            }
            if (p.split == 1) continue;
            __syncthreads();
            if (part == 0 && row < n && lane < (GLU ? 1 : ROWS * COLUMNS)) {
                float totals[GLU ? 2 : 1] = {};
                for (int i = 0; i < p.split; i++) {
                    totals[0] += partial[(warp + i) * ROWS * COLUMNS + lane];
                    if constexpr (GLU) totals[1] += partial[(warp + i) * ROWS * COLUMNS + 1];
                }
                const int r = lane / COLUMNS, c = lane % COLUMNS;
                if constexpr (GLU) {
                    store_gated(p, dst_offset, row, totals[0], totals[1]);
                } else if (row + r < n && c < columns) {
                    store(c, row + r, totals[0]);
                }
            }
            __syncthreads();
        }
    }
};

#define MUL_MAT_FLOAT_KERNEL(name, W, columns, rows, glu) \
    CUDA_KERNEL(name, MulMatVecParams, 256, 2) {          \
        MulMatFloat<W, columns, rows, glu>(p).run();      \
    }
