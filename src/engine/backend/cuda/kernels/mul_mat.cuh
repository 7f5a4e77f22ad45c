// Many columns of activations times weights on tensor cores: prompts.
//
// A block computes BM columns (rows of halves, from quantize_f16) times BN rows of weights, 32
// elements of the inner extent a step. Activations come by cp.async through a ring of 3 tiles. So do
// F16 weights; the others come by cp.async as they are, some steps' worth at a time, and each step
// turns the next 32 elements of each row into halves: code · scale + offset in half2 arithmetic, the
// scales having been unpacked a step earlier by one thread per row. So the tensor cores, the
// unpacking and the copies of different steps overlap, with one barrier a step.
//
// Weights are held times 2^SHIFT so that the scales of small weights are no subnormal halves; the
// result is divided by it, and by what quantize_f16 multiplied the row with.
//
// grid (column tiles, ceil(n / BN)), so that blocks that share weights run together; by expert the
// tiles come from group_experts.cu. 128 threads. k is a multiple of 32 and of the format's block;
// rows of weights are aligned as in mul_mat_vec.cuh, those of F16 and BF16 to 16.
// Shared memory: MulMat<…>::SHARED_BYTES. All activations are less than 4 GiB.
#pragma once
#include "activations.cuh"
#include "blocks.cuh"
#include "params_matmul.cuh"

// Weights that are halves already.
struct PlainF16 {
    static constexpr bool DIRECT = true;
    static constexpr int SHIFT = 0, ROW_UNIT_BYTES = 64;
};

// BF16, each rounded to a half; its 8 bits of precision fit.
struct PlainBF16 {
    static constexpr bool DIRECT = false, QUANTIZED = false;
    static constexpr int SHIFT = 4, BLOCK = 32, BYTES = 64, ALIGN = 16;
    static constexpr bool HALVES = false, OFFSET = false;
};

template <class F>
struct Quantized : F {
    static constexpr bool DIRECT = false, QUANTIZED = true;
    static constexpr int SHIFT = 8;
};

__device__ __forceinline__ half2 half2_of_bits(uint32_t bits) {
    half2 value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

__device__ __forceinline__ uint32_t bits_of_half2(half2 value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Four signed bytes as halves, times scale, plus offset.
template <bool OFFSET>
__device__ __forceinline__ uint2 unpack_halves(int codes, half2 scale, half2 offset) {
    // 0x6400 + u is the half 1024 + u, for u = code + 128.
    const uint32_t biased = static_cast<uint32_t>(codes) ^ 0x80808080u;
    const half2 bias = half2_of_bits(0x64806480u);
    uint32_t out[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const half2 value = __hsub2(half2_of_bits(__byte_perm(biased, 0x64646464u, i == 0 ? 0x4140 : 0x4342)), bias);
        out[i] = bits_of_half2(OFFSET ? __hfma2(value, scale, offset) : __hmul2(value, scale));
    }
    return make_uint2(out[0], out[1]);
}

template <class W, int BM, int BN, int WM, int WN>
struct MulMat {
    static constexpr int THREADS = 128, BK = 32, STAGES = 3;
    static_assert(BM / WM * (BN / WN) * 32 == THREADS && BN <= THREADS);
    // Bytes of a row of a tile of halves.
    static constexpr int PITCH = BK * 2;
    static constexpr int X_BYTES = BM * PITCH, W_BYTES = BN * PITCH;

    // Raw weights: steps per chunk, bytes of a row's chunk. Blocks of 256 come whole.
    static __host__ __device__ constexpr int raw_steps() {
        if constexpr (W::DIRECT) return 1;
        else return W::BLOCK == 256 ? 8 : 4;
    }
    static __host__ __device__ constexpr int raw_bytes() {
        if constexpr (W::DIRECT) return 0;
        else return raw_steps() * BK / W::BLOCK * W::BYTES;
    }
    // As in mul_mat_few.cuh.
    static __host__ __device__ constexpr int raw_pitch() {
        if constexpr (W::DIRECT) return 0;
        else return ((W::ALIGN >= 16 ? (raw_bytes() + 15) / 16 : (raw_bytes() + 15 + 15 + 4) / 16) | 1) * 16;
    }
    static constexpr int RAW_SLOT = BN * raw_pitch();
    static constexpr int SCALE_BYTES = W::DIRECT ? 0 : BN * 8;
    // Activations; halves of weights (a ring of 3 if direct, else 2); raw weights; scales; rows.
    static constexpr int W_AT = STAGES * X_BYTES;
    static constexpr int RAW_AT = W_AT + (W::DIRECT ? STAGES : 2) * W_BYTES;
    static constexpr int SCALES_AT = RAW_AT + 2 * RAW_SLOT;
    static constexpr int PAIRS_AT = SCALES_AT + 2 * SCALE_BYTES;
    static constexpr int SHARED_BYTES = PAIRS_AT + BM * 4;

    const MulMatParams& p;
    uint8_t* shared;
    int* pairs;
    // Row `first_row` of the weights.
    const uint8_t* w;
    int thread, lane, warp, first_column, first_row, columns, steps;
    // What a thread copies each step, from the start of the activations and from `w`: pieces of 16
    // bytes of every 32nd row. Kept, since finding them costs more than the products.
    static constexpr int X_PIECES = BM * 4 / THREADS, W_PIECES = W::DIRECT ? BN * 4 / THREADS : 1;
    unsigned x_piece[X_PIECES], w_piece[W_PIECES];
    // Distance of the rows that a thread unpacks from multiples of 16, 4 bits each.
    static constexpr int UNPACKED_ROWS = BN / 32;
    unsigned shifts;
    // Where this lane finds its rows of either half of a step in a tile, for ldmatrix.
    int x_fragment[2], w_fragment[2];
    float sums[WM / 16][WN / 8][4];

    // Where 16 bytes `piece` of a row of a tile lie: pieces of 8 neighbouring rows fall into different
    // banks, for ldmatrix and for the stores. Rows 8 apart lie alike.
    static __device__ __forceinline__ int place(int row, int piece) {
        return row * PITCH + (piece ^ (row / 2 % 4)) * 16;
    }

    __device__ MulMat(const MulMatParams& params, uint8_t* shared_memory)
        : p(params), shared(shared_memory), pairs(reinterpret_cast<int*>(shared + PAIRS_AT)), w(p.w),
          thread(threadIdx.x), lane(thread % 32), warp(thread / 32), first_row(blockIdx.y * BN),
          steps(p.k / BK), sums{} {
        const int column = warp % (BM / WM) * WM, row = warp / (BM / WM) * WN;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            x_fragment[half] = place(column + lane % 16, 2 * half + lane / 16);
            w_fragment[half] = place(row + lane / 16 * 8 + lane % 8, 2 * half + lane / 8 % 2);
        }
    }

    // The columns of this block; false if there are none.
    __device__ bool choose_columns() {
        const int* list = nullptr;
        if (p.groups == nullptr) {
            first_column = blockIdx.x * BM;
            columns = min(BM, p.columns - first_column);
        } else {
            if (static_cast<int>(blockIdx.x) >= p.groups[0]) return false;
            const int4 tile = reinterpret_cast<const int4*>(p.groups)[1 + blockIdx.x];
            first_column = tile.y;
            columns = tile.z;
            list = p.groups + 4 + 4 * (p.columns / BM + p.n_expert + 1);
            if (tile.x < 0) {
                clear(list);
                return false;
            }
            w += tile.x * p.w_expert_bytes;
        }
        for (int i = thread; i < BM; i += THREADS) {
            const int column = first_column + min(i, columns - 1);
            pairs[i] = list == nullptr ? column : list[column];
        }
        __syncthreads();
        w += static_cast<uint64_t>(first_row) * p.w_row_bytes;
#pragma unroll
        for (int i = 0; i < X_PIECES; i++) {
            const int row = x_row(pairs[thread / 4 + 32 * i]);
            x_piece[i] = static_cast<unsigned>(row * p.x_row_bytes) + thread % 4 * 16;
        }
        if constexpr (W::DIRECT) {
#pragma unroll
            for (int i = 0; i < W_PIECES; i++) w_piece[i] = row_offset(thread / 4 + 32 * i) + thread % 4 * 16;
        } else {
            shifts = 0;
#pragma unroll
            for (int i = 0; i < UNPACKED_ROWS; i++) {
                shifts |= (static_cast<unsigned>(reinterpret_cast<uint64_t>(w)) + row_offset(thread / 4 + 32 * i)) % 16 << 4 * i;
            }
        }
        return true;
    }

    __device__ float* result(int pair) const {
        return reinterpret_cast<float*>(reinterpret_cast<uint8_t*>(p.dst) + pair % p.slots * p.dst_slot_bytes +
                                        pair / p.slots * p.dst_token_bytes);
    }

    __device__ int x_row(int pair) const {
        return p.x_slots == p.slots ? pair : pair / p.slots;
    }

    // Pairs that chose no expert: their result is zeros.
    __device__ void clear(const int* list) const {
        for (int i = 0; i < columns; i++) {
            float* dst = result(list[first_column + i]);
            for (int row = first_row + thread; row < min(first_row + BN, p.n); row += THREADS) dst[row] = 0.0f;
        }
    }

    // Bytes from `w` to a row; rows behind the last are the last once more.
    __device__ unsigned row_offset(int row) const {
        return static_cast<unsigned>(min(row, p.n - 1 - first_row)) * static_cast<unsigned>(p.w_row_bytes);
    }

    // ---- Copies ----

    __device__ void fetch_tiles(int step) {
        if (step < steps) {
            const int to = place(thread / 4, thread % 4), slot = step % STAGES;
            const uint8_t* x = p.x + step * PITCH;
#pragma unroll
            for (int i = 0; i < X_PIECES; i++) {
                cp_async<16>(shared + slot * X_BYTES + to + 32 * i * PITCH, x + x_piece[i]);
            }
            if constexpr (W::DIRECT) {
#pragma unroll
                for (int i = 0; i < W_PIECES; i++) {
                    cp_async<16>(shared + W_AT + slot * W_BYTES + to + 32 * i * PITCH, w + step * PITCH + w_piece[i]);
                }
            }
        }
    }

    __device__ void fetch_raw(int chunk) {
        if constexpr (!W::DIRECT) {
            const int row_bytes = p.k / W::BLOCK * W::BYTES, offset = chunk * raw_bytes();
            if (offset >= row_bytes) return;
            constexpr int LANES = 8;  // of a row
            uint8_t* to = shared + RAW_AT + chunk % 2 * RAW_SLOT;
#pragma unroll 1
            for (int row = thread / LANES; row < BN; row += THREADS / LANES) {
                const uint8_t* from = w + row_offset(row) + offset;
                const int shift = W::ALIGN >= 16 ? 0 : reinterpret_cast<uint64_t>(from) % 16;
                const int bytes = shift + min(raw_bytes(), row_bytes - offset);
#pragma unroll
                for (int j = 0; j < (raw_pitch() / 16 + LANES - 1) / LANES; j++) {
                    const int at = 16 * (thread % LANES + LANES * j);
                    if (at < bytes) cp_async<16>(to + row * raw_pitch() + at, from - shift + at);
                }
            }
        }
    }

    // ---- Unpacking ----

    // The block of `step` in a row's raw chunk; `shift` is the row's distance from a multiple of 16.
    __device__ const uint8_t* block_at(int row, unsigned shift, int step) const {
        const int chunk = step / raw_steps(), unit = step % raw_steps();
        const unsigned here = W::ALIGN >= 16 ? 0 : (shift + chunk * raw_bytes()) % 16;
        return shared + RAW_AT + chunk % 2 * RAW_SLOT + row * raw_pitch() + here +
               unit / (W::BLOCK / BK) * W::BYTES;
    }

    // Scales of `step` by one thread per row, as {scale, offset} of each half.
    __device__ void unpack_scales(int step) {
        if constexpr (!W::DIRECT) {
            if constexpr (W::QUANTIZED) {
                if (thread >= BN || step >= steps) return;
                constexpr float FACTOR = 1 << W::SHIFT;
                const unsigned shift = static_cast<unsigned>(reinterpret_cast<uint64_t>(w)) + row_offset(thread);
                const UnitScales s = W::scales(block_at(thread, shift, step), step % (W::BLOCK / BK));
                uint2* to = reinterpret_cast<uint2*>(shared + SCALES_AT + step % 2 * SCALE_BYTES) + thread;
                *to = make_uint2(pack_half2(s.scale[0] * FACTOR, s.offset[0] * FACTOR),
                                 pack_half2(s.scale[1] * FACTOR, s.offset[1] * FACTOR));
            }
        }
    }

    // Weights of `step` as halves; four lanes per row, 8 elements each.
    __device__ void unpack(int step) {
        if constexpr (!W::DIRECT) {
            if (step >= steps) return;
            const int word = thread % 4;
            uint8_t* to[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                to[h] = shared + W_AT + step % 2 * W_BYTES + place(thread / 4, 2 * h + word / 2) + word % 2 * 8;
            }
#pragma unroll
            for (int i = 0; i < UNPACKED_ROWS; i++) {
                const int row = thread / 4 + 32 * i;
                const uint8_t* block = block_at(row, shifts >> 4 * i, step);
                uint2 halves[2];
                if constexpr (W::QUANTIZED) {
                    int q[2];
                    W::template codes<1>(block, step % (W::BLOCK / BK), word, q);
                    const uint2 packed = reinterpret_cast<const uint2*>(shared + SCALES_AT + step % 2 * SCALE_BYTES)[row];
                    const uint32_t of_half[2] = {packed.x, W::HALVES ? packed.y : packed.x};
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        const half2 scale = half2_of_bits(__byte_perm(of_half[h], 0, 0x1010));
                        const half2 offset = half2_of_bits(__byte_perm(of_half[h], 0, 0x3232));
                        halves[h] = unpack_halves<W::OFFSET>(q[h], scale, offset);
                    }
                } else {
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        const uint2 pairs_of = *reinterpret_cast<const uint2*>(block + 32 * h + 8 * word);
                        halves[h] = make_uint2(round_pair(pairs_of.x), round_pair(pairs_of.y));
                    }
                }
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    *reinterpret_cast<uint2*>(to[h] + 32 * i * PITCH) = halves[h];
                }
            }
        }
    }

    // Two BF16 as halves, times 2^SHIFT.
    static __device__ __forceinline__ uint32_t round_pair(uint32_t pair) {
        constexpr float FACTOR = 1 << W::SHIFT;
        return pack_half2(__uint_as_float(pair << 16) * FACTOR, __uint_as_float(pair & 0xffff0000u) * FACTOR);
    }

    // ---- Products ----

    __device__ void multiply(int step) {
        const uint8_t* x_tile = shared + step % STAGES * X_BYTES;
        const uint8_t* w_tile = shared + W_AT + step % (W::DIRECT ? STAGES : 2) * W_BYTES;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t a[WM / 16][4], b[WN / 16][4];
#pragma unroll
            for (int i = 0; i < WM / 16; i++) {
                ldmatrix_x4(a[i], x_tile + x_fragment[half] + 16 * i * PITCH);
            }
#pragma unroll
            for (int j = 0; j < WN / 16; j++) {
                ldmatrix_x4(b[j], w_tile + w_fragment[half] + 16 * j * PITCH);
            }
#pragma unroll
            for (int i = 0; i < WM / 16; i++) {
#pragma unroll
                for (int j = 0; j < WN / 8; j++) mma_m16n8k16_f16(sums[i][j], a[i], b[j / 2] + j % 2 * 2);
            }
        }
    }

    __device__ void store() const {
        constexpr float FACTOR = 1.0f / (1 << W::SHIFT);
        const int column = warp % (BM / WM) * WM + lane / 4, row = first_row + warp / (BM / WM) * WN + lane % 4 * 2;
        const bool paired = (reinterpret_cast<uint64_t>(p.dst) | p.dst_slot_bytes | p.dst_token_bytes) % 8 == 0;
#pragma unroll
        for (int i = 0; i < WM / 8; i++) {
            if (column + 8 * i >= columns) continue;
            const int pair = pairs[column + 8 * i];
            const float scale = p.row_scales[x_row(pair)] * FACTOR;
            float* dst = result(pair);
#pragma unroll
            for (int j = 0; j < WN / 8; j++) {
                const float left = sums[i / 2][j][i % 2 * 2] * scale, right = sums[i / 2][j][i % 2 * 2 + 1] * scale;
                const int at = row + 8 * j;
                if (paired && at + 1 < p.n) {
                    *reinterpret_cast<float2*>(dst + at) = make_float2(left, right);
                } else {
                    if (at < p.n) dst[at] = left;
                    if (at + 1 < p.n) dst[at + 1] = right;
                }
            }
        }
    }

    __device__ void run() {
        if (!choose_columns()) return;
        fetch_raw(0);
        for (int step = 0; step < STAGES - 1; step++) {
            fetch_tiles(step);
            cp_async_commit();
        }
        if constexpr (!W::DIRECT) {
            cp_async_wait<STAGES - 2>();
            __syncthreads();
            unpack_scales(0);
            unpack_scales(1);
            __syncthreads();
            unpack(0);
        }
        for (int step = 0; step < steps; step++) {
            // Tiles of this step have landed, its weights are halves, and nobody reads those of the
            // step before any more.
            cp_async_wait<STAGES - 2>();
            __syncthreads();
            if (step % raw_steps() == 0) fetch_raw(step / raw_steps() + 1);
            fetch_tiles(step + STAGES - 1);
            cp_async_commit();
            unpack_scales(step + 2);
            unpack(step + 1);
            multiply(step);
        }
        cp_async_wait<0>();
        store();
    }
};

#define MUL_MAT_KERNEL(name, W, bm, bn, wm, wn)          \
    CUDA_KERNEL(name, MulMatParams, 128, 2) {            \
        DYNAMIC_SHARED(uint8_t, shared);                 \
        MulMat<W, bm, bn, wm, wn>(p, shared).run();      \
    }
// Wide tiles for long prompts; narrow ones for short ones, for experts and for old devices, whose
// shared memory the wide ones exceed.
#if defined(CUDA_CPU) || __CUDA_ARCH__ >= 800
#define MUL_MAT_WIDE_KERNEL(name, W) MUL_MAT_KERNEL(name, W, 128, 128, 64, 64)
#else
#define MUL_MAT_WIDE_KERNEL(name, W)
#endif
#define MUL_MAT_KERNELS(type, W)               \
    MUL_MAT_WIDE_KERNEL(mul_mat_wide_##type, W) \
    MUL_MAT_KERNEL(mul_mat_narrow_##type, W, 32, 64, 16, 32)
