// One column of activations times quantised weights: decode.
//
// Each warp takes whole rows, one or a few at a time, and streams them through a ring in shared
// memory with cp.async. A slot holds 64 elements for every lane, two units that share bytes where the
// format lets them. So loads are of 16 bytes whatever the format's alignment, the bytes in flight do
// not depend on registers, and few instructions are left for each byte. Short rows share a warp:
// `lanes` of it, 32, 16 or 8, work on a row. While the first slots fill, the block rounds its column
// to 8 bits in shared memory, which costs no launch. The first fetches need nothing of the kernel
// before, so that they may be under way while it ends.
//
// With GLU a warp takes a row of the gate and then the same row of up, and writes their gated unit as
// well. Without, a block works on one of up to three matrices.
//
// grid (blocks, pairs), up to 8 warps. Shared memory: MulMatVec<F>::shared_bytes(k, warps).
// Rows and tensor start at multiples of the format's alignment, the tensor at one of 16. Reads reach
// to the next multiple of 16 behind a row.
#pragma once
#include "activations.cuh"
#include "blocks.cuh"
#include "params_matmul.cuh"

template <class F, bool GLU>
struct MulMatVec {
    // Bytes of the blocks that hold a lane's 64 elements in a slot, times 4, since it may be a part.
    static constexpr int LANES_BYTES = 256 / F::BLOCK * F::BYTES;
    // Bytes of a slot for one row of 32 lanes; the room is for starts that are not aligned to 16, of
    // up to 4 rows, and for what `codes` reads behind a block.
    static constexpr int CHUNK_BYTES = 8 * LANES_BYTES;
    static constexpr int SLOT_BYTES = (CHUNK_BYTES + 4 * 32 + 4 + 15) / 16 * 16;
    // 3 to 5 KB on their way per warp.
    static constexpr int SLOTS = CHUNK_BYTES < 1600 ? 4 : 3;
    // Pieces of 16 bytes that a lane copies for a slot at most.
    static constexpr int COPIES = (LANES_BYTES + 15 + 63) / 64;

    static constexpr bool HALF_SUMS = F::HALVES && F::OFFSET;
    // A pair of units of the column: codes of the first, of the second, as QuantizedRow orders them;
    // scale and sum of either; sums of the halves of either where they have offsets of their own. An
    // odd number of 16 bytes, so that neighbouring lanes read from different banks.
    static constexpr int PAIR_BYTES = HALF_SUMS ? 112 : 80, SCALES_AT = 64, HALF_SUMS_AT = 80;

    const MulMatVecParams& p;
    int lane, warp, warps;
    uint8_t* ring;
    uint8_t* column;

    static __host__ __device__ constexpr size_t shared_bytes(int k, int warps) {
        return size_t(warps) * SLOTS * SLOT_BYTES + size_t((k + 63) / 64) * PAIR_BYTES;
    }

    __device__ MulMatVec(const MulMatVecParams& params, uint8_t* shared)
        : p(params), lane(threadIdx.x % 32), warp(threadIdx.x / 32), warps(blockDim.x / 32) {
        ring = shared + warp * SLOTS * SLOT_BYTES;
        column = shared + warps * SLOTS * SLOT_BYTES;
    }

    __device__ void quantize(const float* x) {
        const int units = ceil_div(p.k, 64) * 2;
        // 4 units per warp and step; a unit behind the last is zeros.
        for (int first = 4 * warp; first < units; first += 4 * warps) {
            const int unit = first + lane / 8, word = lane % 8;
            const QuantizedPart part = quantize_part(load_part(x, unit * 8 + word, p.k));
            if (unit >= units) continue;
            const int pair = F::SPREAD ? unit / 4 * 2 + unit % 2 : unit / 2, which = F::SPREAD ? unit / 2 % 2 : unit % 2;
            uint8_t* to = column + pair * PAIR_BYTES;
            reinterpret_cast<uint32_t*>(to)[8 * which + word_place(word)] = part.codes;
            if (word == 0) reinterpret_cast<float2*>(to + SCALES_AT)[which] = make_float2(part.scale, part.sum);
            if constexpr (HALF_SUMS) {
                if (word % 4 == 0) reinterpret_cast<float*>(to + HALF_SUMS_AT)[2 * which + word / 4] = part.half_sum;
            }
        }
    }

    // The products of a pair of units: that of `block`, and that of the column at `x`. `odd`: there is
    // no second unit, and what lies there may be anything.
    __device__ float pair_product(const uint8_t* block, int in_block, const uint8_t* x, bool odd) const {
        int q[16];
        PairScales w;
        F::pair(block, in_block, q, w);
        const float4 s = *reinterpret_cast<const float4*>(x + SCALES_AT);
        float sum = 0.0f;
#pragma unroll
        for (int u = 0; u < 2; u++) {
            uint32_t words[8];
            load_words<16, 8>(x + 32 * u, words);
            int product[2] = {};
#pragma unroll
            for (int i = 0; i < 8; i++) product[i % 2] = __dp4a(q[8 * u + i], static_cast<int>(words[i]), product[i % 2]);
            const float scale = u == 0 ? s.x : s.z;
            UnitScales of = w.of[u];
            if (F::BLOCK == UNIT && u == 1 && odd) of = symmetric(0.0f);
            if constexpr (F::HALVES) {
                sum += scale * (of.scale[0] * static_cast<float>(product[0]) + of.scale[1] * static_cast<float>(product[1]));
                if constexpr (F::OFFSET) {
                    const float2 halves = reinterpret_cast<const float2*>(x + HALF_SUMS_AT)[u];
                    sum += of.offset[0] * halves.x + of.offset[1] * halves.y;
                }
            } else {
                sum += scale * of.scale[0] * static_cast<float>(product[0] + product[1]);
                if constexpr (F::OFFSET) sum += of.offset[0] * (u == 0 ? s.y : s.w);
            }
        }
        return sum;
    }

    // How far an expert's weights lie into each matrix, or -1 if this block's id names no expert; then
    // its results are zeros.
    __device__ int64_t choose_expert(const ChosenSide& at, int slot, int token, uint64_t dst_offset) const {
        const uint8_t* ids = reinterpret_cast<const uint8_t*>(p.ids) + token * p.ids_token_bytes;
        const int expert = reinterpret_cast<const int*>(ids)[slot];
        if (expert >= 0 && expert < p.n_expert) return expert * at.side.w_expert_bytes;
        const int first = (blockIdx.x - at.first_block) * blockDim.x + threadIdx.x;
        for (int row = first; row < at.side.n; row += at.blocks * blockDim.x) {
            if constexpr (GLU) {
                store_gated(p, dst_offset, row, 0.0f, 0.0f);
            } else {
                store_product(at.side, dst_offset, row, 0.0f);
            }
        }
        return -1;
    }

    // Chooses the side anew, so that its addresses keep no registers while rows are streamed.
    __device__ void store(int side, uint64_t dst_offset, int row, const float* sums) const {
        if constexpr (GLU) {
            store_gated(p, dst_offset, row, sums[0], sums[1]);
        } else if (side == 0) {
            store_product(p.sides[0], dst_offset, row, sums[0]);
        } else if (side == 1) {
            store_product(p.sides[1], dst_offset, row, sums[0]);
        } else {
            store_product(p.sides[2], dst_offset, row, sums[0]);
        }
    }

    __device__ void run(const ChosenSide& at) {
        let_next_kernel_start();
        const int slot_of_pair = blockIdx.y % p.slots, token = blockIdx.y / p.slots;
        const uint64_t dst_offset = slot_of_pair * at.side.dst_slot_bytes + token * at.side.dst_token_bytes;
        const uint8_t* w = at.side.w;
        const int n = at.side.n;
        const uint64_t w_row_bytes = at.side.w_row_bytes;
        if (p.ids != nullptr) {
            wait_for_earlier_work();
            const int64_t offset = choose_expert(at, slot_of_pair, token, dst_offset);
            if (offset < 0) return;
            w += offset;
        }

        // Rows of a warp, of a block; this lane's place in its row. `split` warps share a row, each
        // taking every `split`-th chunk; with less than 32 lanes a row is one chunk. A chunk of 32
        // lanes is a multiple of 16 bytes, so all chunks of a row are shifted alike.
        const int lanes = p.lanes, rows_of_warp = 32 / lanes, rows_of_block = warps / p.split * rows_of_warp;
        const int in_row = lane % lanes, first_chunk = warp % p.split;
        const int chunk_bytes = LANES_BYTES * lanes / 4;
        const int chunks = ceil_div(p.k, 64 * lanes), row_bytes = p.k / F::BLOCK * F::BYTES;
        const int row_step = at.blocks * rows_of_block, first_base = (blockIdx.x - at.first_block) * rows_of_block;
        const int row_of_lane = warp / p.split * rows_of_warp + lane / lanes;
        // Where the lane's row lies in a slot; rows are apart by a chunk and room for its start.
        uint8_t* slot_row = ring + lane / lanes * ((chunk_bytes + 32) / 16 * 16);
        constexpr int RING_BYTES = SLOTS * SLOT_BYTES;

        // Fetches run ahead of the products by SLOTS - 1 chunks, over the ends of rows. `ahead` is
        // where this lane's first piece comes from, `left` the bytes from there to the row's end, and
        // `most` those of them that belong to the chunk.
        int ahead_row = first_base + row_of_lane, ahead_chunk = first_chunk, left = 0, most = 0;
        [[maybe_unused]] bool ahead_up = false;
        const uint8_t* ahead = w;
        const auto begin_row = [&] {
            ahead_chunk = first_chunk;
            const uint8_t* row = w + ahead_row * w_row_bytes;
            if constexpr (GLU) {
                if (ahead_up) row += p.sides[1].w - p.sides[0].w;
            }
            const int shift = static_cast<int>(reinterpret_cast<uint64_t>(row) % 16);
            most = ahead_row < n ? shift + chunk_bytes - 16 * in_row : 0;
            left = shift + row_bytes - 16 * in_row - first_chunk * chunk_bytes;
            ahead = row - shift + 16 * in_row + first_chunk * chunk_bytes;
        };
        const auto fetch = [&](int slot_at) {
            const int bytes = min(most, left);
            uint8_t* to = slot_row + slot_at + 16 * in_row;
#pragma unroll
            for (int i = 0; i < COPIES; i++) {
                if (16 * i * lanes < bytes) cp_async<16>(to + 16 * i * lanes, ahead + 16 * i * lanes);
            }
            cp_async_commit();
            ahead_chunk += p.split;
            left -= p.split * chunk_bytes;
            ahead += p.split * chunk_bytes;
            if (ahead_chunk >= chunks) {
                if (!GLU || ahead_up) ahead_row += row_step;
                if constexpr (GLU) ahead_up = !ahead_up;
                begin_row();
            }
        };
        begin_row();
        for (int slot = 0; slot < SLOTS - 1; slot++) fetch(slot * SLOT_BYTES);
        if (p.ids == nullptr) wait_for_earlier_work();
        {
            const uint64_t offset = slot_of_pair * p.x_slot_bytes + token * p.x_token_bytes;
            quantize(reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(p.x) + offset));
        }
        __syncthreads();

        // Pairs of units in a block, or one pair of blocks.
        constexpr int PAIRS = F::BLOCK == UNIT ? 1 : F::BLOCK / 64;
        constexpr int PAIR_STEP = F::BLOCK == UNIT ? 2 * F::BYTES : F::BYTES;
        const uint8_t* lane_block = slot_row + in_row / PAIRS * PAIR_STEP;
        constexpr int PARTS = GLU ? 2 : 1;
        SHARED_ARRAY(float, partial, 8 * PARTS);
        int here = 0, before = RING_BYTES - SLOT_BYTES;
        for (int base = first_base; base < n; base += row_step) {
            const int row = base + row_of_lane;
            // The same for gate and up, since both matrices start at multiples of 16.
            const int shift = static_cast<int>((reinterpret_cast<uint64_t>(w) + row * w_row_bytes) % 16);
            float sums[PARTS];
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const uint8_t* x = column + (first_chunk * lanes + in_row) * PAIR_BYTES;
                int left_here = row < n ? p.k - 64 * (first_chunk * lanes + in_row) : 0;
                float sum = 0.0f;
                for (int chunk = first_chunk; chunk < chunks; chunk += p.split) {
                    cp_async_wait<SLOTS - 2>();
                    __syncwarp();
                    // The slot before this one, which every lane has left behind.
                    fetch(before);
                    if (left_here > 0) sum += pair_product(lane_block + here + shift, in_row % PAIRS, x, left_here <= UNIT);
                    x += p.split * lanes * PAIR_BYTES;
                    left_here -= p.split * lanes * 64;
                    before = here;
                    here = here == RING_BYTES - SLOT_BYTES ? 0 : here + SLOT_BYTES;
                }
#pragma unroll
                for (int offset = 16; offset > 0; offset /= 2) {
                    const float other = __shfl_xor_sync(ALL_LANES, sum, offset);
                    if (offset < lanes) sum += other;
                }
                sums[part] = sum;
            }
            if (p.split == 1) {
                if (in_row == 0 && row < n) store(at.index, dst_offset, row, sums);
                continue;
            }
            if (lane == 0) {
#pragma unroll
                for (int part = 0; part < PARTS; part++) partial[8 * part + warp] = sums[part];
            }
            __syncthreads();
            if (static_cast<int>(threadIdx.x) < rows_of_block && base + static_cast<int>(threadIdx.x) < n) {
                float totals[PARTS] = {};
#pragma unroll
                for (int part = 0; part < PARTS; part++) {
                    for (int i = 0; i < p.split; i++) totals[part] += partial[8 * part + threadIdx.x * p.split + i];
                }
                store(at.index, dst_offset, base + threadIdx.x, totals);
            }
            __syncthreads();
        }
        cp_async_wait<0>();
    }
};

// The kernels of one type: `mul_mat_vec_q4_k`, `mul_mat_vec_glu_q4_k`.
#define MUL_MAT_VEC_KERNELS(type, F)                              \
    CUDA_KERNEL(mul_mat_vec_##type, MulMatVecParams, 256, 3) {     \
        DYNAMIC_SHARED(uint8_t, shared);                           \
        MulMatVec<F, false>(p, shared).run(choose_side(p));        \
    }                                                              \
    CUDA_KERNEL(mul_mat_vec_glu_##type, MulMatVecParams, 256, 3) { \
        DYNAMIC_SHARED(uint8_t, shared);                           \
        MulMatVec<F, true>(p, shared).run(only_side(p));           \
    }

// Matrices of two types at once, as many mixtures of quantisations have them in a layer.
#define MUL_MAT_VEC_MIXED_KERNEL(name, F, G)                           \
    CUDA_KERNEL(name, MulMatVecParams, 256, 3) {                       \
        DYNAMIC_SHARED(uint8_t, shared);                               \
        const ChosenSide at = choose_side(p);                          \
        if (at.index < p.second_type_from) {                           \
            MulMatVec<F, false>(p, shared).run(at);                    \
        } else {                                                       \
            MulMatVec<G, false>(p, shared).run(at);                    \
        }                                                              \
    }
