// Two to eight columns of activations times quantised weights: decode of several sequences.
//
// A block takes 16 rows; its warps share the row's length in chunks of 256 elements, each streaming
// its chunks of the 16 rows through a ring in shared memory. Products are those of int8 tensor cores
// (16 rows, 32 elements, 8 columns), scaled unit by unit, so that 8 columns cost little more than 2.
//
// The first fetches need nothing of the kernel before, so that they may be under way while it ends.
//
// grid (n / 16 of all matrices, up to three), 256 threads. Shared memory: MulMatFew<F>::SHARED_BYTES. Alignment as in
// mul_mat_vec.cuh; activations come from quantize_q8.
#pragma once
#include "activations.cuh"
#include "blocks.cuh"
#include "params_matmul.cuh"

template <class F>
struct MulMatFew {
    static constexpr int WARPS = 8, ROWS = 16, COLUMNS = 8;
    // Elements of a chunk, and bytes of the blocks that hold them.
    static constexpr int ELEMENTS = 256, UNITS = ELEMENTS / UNIT;
    static constexpr int CHUNK_BYTES = ELEMENTS / F::BLOCK * F::BYTES;
    // An odd number of 16 bytes, so that the 8 rows of a fragment lie in different banks. Formats
    // aligned to 16 need no room for a shift.
    static constexpr int PITCH_16 = F::ALIGN >= 16 ? (CHUNK_BYTES + 15) / 16 : (CHUNK_BYTES + 15 + 15 + 4) / 16;
    static constexpr int PITCH = (PITCH_16 | 1) * 16;
    static constexpr int SLOT_BYTES = ROWS * PITCH, SLOTS = 2;
    // Scales of a chunk by unit and row: {scale, offset} or {scale, scale, offset, offset}.
    static constexpr int SCALE_FLOATS = F::HALVES ? 4 : 2;
    static constexpr int TABLE_BYTES = UNITS * ROWS * SCALE_FLOATS * 4;
    static constexpr int WARP_BYTES = SLOTS * SLOT_BYTES + TABLE_BYTES;
    static constexpr int SHARED_BYTES = WARPS * WARP_BYTES;

    const MulMatFewParams& p;
    Chosen<MulMatFewSide> at;
    int lane, warp, group, member, first_row;
    uint8_t* ring;
    float* table;
    // This thread's share of the result: rows `group` and `group + 8`, columns 2 · member and next.
    float sums[4];

    __device__ MulMatFew(const MulMatFewParams& params, uint8_t* shared)
        : p(params), at(choose_of<MulMatFewSide>(params)), lane(threadIdx.x % 32), warp(threadIdx.x / 32), group(lane / 4), member(lane % 4),
          first_row((blockIdx.x - at.first_block) * ROWS), ring(shared + warp * WARP_BYTES),
          table(reinterpret_cast<float*>(ring + SLOTS * SLOT_BYTES)), sums{} {}

    // Rows behind the last are the last once more.
    __device__ const uint8_t* chunk_of(int row, int chunk) const {
        return at.side.w + min(first_row + row, at.side.n - 1) * at.side.w_row_bytes + chunk * CHUNK_BYTES;
    }

    __device__ void fetch(int slot, int chunk, int row_bytes) {
        const int offset = chunk * CHUNK_BYTES;
        if (offset < row_bytes) {
            // Half a warp copies one row.
#pragma unroll 2
            for (int row = lane / 16; row < ROWS; row += 2) {
                const uint8_t* from = chunk_of(row, chunk);
                const int shift = F::ALIGN >= 16 ? 0 : reinterpret_cast<uint64_t>(from) % 16;
                const int bytes = shift + min(CHUNK_BYTES, row_bytes - offset);
                uint8_t* to = ring + slot * SLOT_BYTES + row * PITCH;
#pragma unroll
                for (int j = 0; j < (PITCH_16 + 15) / 16; j++) {
                    const int at = 16 * (lane % 16 + 16 * j);
                    if (at < bytes) cp_async<16>(to + at, from - shift + at);
                }
            }
        }
        cp_async_commit();
    }

    // Where block `unit / …` of a row lies in a slot.
    __device__ const uint8_t* block_at(int slot, int row, int chunk, int unit) const {
        const int shift = F::ALIGN >= 16 ? 0 : reinterpret_cast<uint64_t>(chunk_of(row, chunk)) % 16;
        return ring + slot * SLOT_BYTES + row * PITCH + shift + unit / (F::BLOCK / UNIT) * F::BYTES;
    }

    __device__ void fill_table(int slot, int chunk, int units) {
        for (int i = lane; i < ROWS * units; i += 32) {
            const int row = i % ROWS, unit = i / ROWS;
            const UnitScales s = F::scales(block_at(slot, row, chunk, unit), unit % (F::BLOCK / UNIT));
            float* to = table + i * SCALE_FLOATS;
            if constexpr (F::HALVES) {
                *reinterpret_cast<float4*>(to) = make_float4(s.scale[0], s.scale[1], s.offset[0], s.offset[1]);
            } else {
                *reinterpret_cast<float2*>(to) = make_float2(s.scale[0], s.offset[0]);
            }
        }
    }

    __device__ void multiply(int slot, int chunk, int units) {
        const QuantizedRow x_at(p.k);
        const uint8_t* low = block_at(slot, group, chunk, 0);
        const uint8_t* high = block_at(slot, group + 8, chunk, 0);
        // Columns behind the last are the last once more.
        const uint8_t* x = p.x + min(group, p.columns - 1) * p.x_column_bytes;
        const uint8_t* x_of[2];
        for (int c = 0; c < 2; c++) x_of[c] = p.x + min(2 * member + c, p.columns - 1) * p.x_column_bytes;
#pragma unroll 2
        for (int unit = 0; unit < units; unit++) {
            constexpr int UNITS_OF_BLOCK = F::BLOCK / UNIT;
            const int block = unit / UNITS_OF_BLOCK * F::BYTES, in_block = unit % UNITS_OF_BLOCK;
            const int unit_of_row = chunk * UNITS + unit;
            int q[2][2];
            F::template codes<1>(low + block, in_block, member, q[0]);
            F::template codes<1>(high + block, in_block, member, q[1]);
            const uint32_t a[4] = {static_cast<uint32_t>(q[0][0]), static_cast<uint32_t>(q[1][0]),
                                   static_cast<uint32_t>(q[0][1]), static_cast<uint32_t>(q[1][1])};
            const uint2 b = reinterpret_cast<const uint2*>(x + unit_of_row * UNIT)[member];
            float x_scale[2];
            for (int c = 0; c < 2; c++) {
                x_scale[c] = reinterpret_cast<const float*>(x_of[c] + x_at.scales())[unit_of_row];
            }
            if constexpr (F::HALVES) {
                const uint32_t b_low[2] = {b.x, 0}, b_high[2] = {0, b.y};
                int product[2][4] = {};
                mma_m16n8k32_s8(product[0], a, b_low);
                mma_m16n8k32_s8(product[1], a, b_high);
                float2 x_sums[2];
                if constexpr (F::OFFSET) {
                    for (int c = 0; c < 2; c++) {
                        x_sums[c] = reinterpret_cast<const float2*>(x_of[c] + x_at.half_sums())[unit_of_row];
                    }
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int row = group + i / 2 * 8, c = i % 2;
                    const float4 w = *reinterpret_cast<const float4*>(table + (unit * ROWS + row) * 4);
                    const float sum = w.x * static_cast<float>(product[0][i]) + w.y * static_cast<float>(product[1][i]);
                    sums[i] += x_scale[c] * sum;
                    if constexpr (F::OFFSET) sums[i] += w.z * x_sums[c].x + w.w * x_sums[c].y;
                }
            } else {
                const uint32_t b_all[2] = {b.x, b.y};
                int product[4] = {};
                mma_m16n8k32_s8(product, a, b_all);
                float x_sum[2];
                if constexpr (F::OFFSET) {
                    for (int c = 0; c < 2; c++) {
                        x_sum[c] = reinterpret_cast<const float*>(x_of[c] + x_at.sums())[unit_of_row];
                    }
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int row = group + i / 2 * 8, c = i % 2;
                    const float2 w = *reinterpret_cast<const float2*>(table + (unit * ROWS + row) * 2);
                    sums[i] += x_scale[c] * w.x * static_cast<float>(product[i]);
                    if constexpr (F::OFFSET) sums[i] += w.y * x_sum[c];
                }
            }
        }
    }

    __device__ void run() {
        let_next_kernel_start();
        const int row_bytes = p.k / F::BLOCK * F::BYTES, units = p.k / UNIT;
        const int chunks = ceil_div(units, UNITS);
        int slot = 0;
        for (int i = 0; i < SLOTS - 1; i++) fetch(i, warp + i * WARPS, row_bytes);
        wait_for_earlier_work();
        for (int chunk = warp; chunk < chunks; chunk += WARPS) {
            const int ahead = slot == 0 ? SLOTS - 1 : slot - 1;
            fetch(ahead, chunk + (SLOTS - 1) * WARPS, row_bytes);
            cp_async_wait<SLOTS - 1>();
            __syncwarp();
            const int here = min(UNITS, units - chunk * UNITS);
            fill_table(slot, chunk, here);
            __syncwarp();
            multiply(slot, chunk, here);
            // Before the next round overwrites the slot and the table.
            __syncwarp();
            slot = slot == SLOTS - 1 ? 0 : slot + 1;
        }
        cp_async_wait<0>();
        // The warps' sums meet in shared memory, which the ring needs no more.
        __syncthreads();
        float* partial = reinterpret_cast<float*>(ring - warp * WARP_BYTES);
        *reinterpret_cast<float4*>(partial + (warp * 32 + lane) * 4) = make_float4(sums[0], sums[1], sums[2], sums[3]);
        __syncthreads();
        if (threadIdx.x >= ROWS * COLUMNS) return;
        const int row = threadIdx.x % ROWS, column = threadIdx.x / ROWS;
        if (first_row + row >= at.side.n || column >= p.columns) return;
        const int from = (row % 8 * 4 + column / 2) * 4 + row / 8 * 2 + column % 2;
        float total = 0.0f;
        for (int i = 0; i < WARPS; i++) total += partial[i * 128 + from];
        float* dst = reinterpret_cast<float*>(reinterpret_cast<uint8_t*>(at.side.dst) + column * at.side.dst_column_bytes);
        dst[first_row + row] = total;
    }
};

#define MUL_MAT_FEW_KERNEL(name, F)              \
    CUDA_KERNEL(name, MulMatFewParams, 256, 2) { \
        DYNAMIC_SHARED(uint8_t, shared);         \
        MulMatFew<F>(p, shared).run();           \
    }
