// GET_ROWS: rows of a table of any type, widened to floats. A row number outside the table gives NaN.
//
// A block takes 2048 elements of one row: it stages their bytes in shared memory, which is what
// blocks.cuh reads from, and each thread widens eight of them.
#include "blocks.cuh"
#include "device.cuh"
#include "params_ops.cuh"

#define GET_ROWS_THREADS 256u
#define GET_ROWS_ELEMENTS 2048u

template <class T, class Convert>
__device__ __forceinline__ void get_plain_rows(const GetRowsParams& p, Convert convert) {
    begin_after_earlier_work();
    const u32 token = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
    const u32 row = static_cast<u32>(p.ids[token]);
    const T* src = reinterpret_cast<const T*>(static_cast<const char*>(p.table) +
                                              (row < p.rows ? row : 0) * p.table_row_bytes);
    float* dst = p.dst + token * p.dst_row;
    for (u32 step = 0; step < GET_ROWS_ELEMENTS / GET_ROWS_THREADS; step++) {
        const u32 i = chunk * GET_ROWS_ELEMENTS + step * GET_ROWS_THREADS + threadIdx.x;
        if (i < p.n) dst[i] = row < p.rows ? convert(src[i]) : NAN_F32;
    }
}

CUDA_KERNEL(get_rows_f32, GetRowsParams, GET_ROWS_THREADS) {
    get_plain_rows<float>(p, [](float x) { return x; });
}

CUDA_KERNEL(get_rows_f16, GetRowsParams, GET_ROWS_THREADS) {
    get_plain_rows<half>(p, [](half x) { return __half2float(x); });
}

CUDA_KERNEL(get_rows_bf16, GetRowsParams, GET_ROWS_THREADS) {
    get_plain_rows<uint16_t>(p, [](uint16_t x) { return bf16_to_float(x); });
}

// Four signed bytes of `codes` as floats, scaled.
__device__ __forceinline__ float4 widen(int codes, float scale, float offset) {
    const auto at = [=](int i) {
        return static_cast<float>(static_cast<int8_t>(codes >> 8 * i)) * scale + offset;
    };
    return make_float4(at(0), at(1), at(2), at(3));
}

template <class Format>
__device__ __forceinline__ void get_block_rows(const GetRowsParams& p) {
    constexpr u32 CHUNK_BYTES = GET_ROWS_ELEMENTS / Format::BLOCK * Format::BYTES;
    // Formats may look a few bytes to either side of a block.
    SHARED_ARRAY(uint8_t, staged, 16 + CHUNK_BYTES + 16);
    begin_after_earlier_work();
    const u32 token = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
    const u32 row = static_cast<u32>(p.ids[token]);
    const bool exists = row < p.rows;
    const u32 first = chunk * GET_ROWS_ELEMENTS;
    const u32 elements = min(p.n - first, GET_ROWS_ELEMENTS);
    const uint8_t* src = static_cast<const uint8_t*>(p.table) +
                         (exists ? row : 0) * p.table_row_bytes + chunk * CHUNK_BYTES;
    const u32 bytes = elements / Format::BLOCK * Format::BYTES;
    if ((reinterpret_cast<u64>(src) | bytes) % 4 == 0) {
        for (u32 i = threadIdx.x * 4; i < bytes; i += GET_ROWS_THREADS * 4) {
            *reinterpret_cast<u32*>(staged + 16 + i) = *reinterpret_cast<const u32*>(src + i);
        }
    } else {
        for (u32 i = threadIdx.x; i < bytes; i += GET_ROWS_THREADS) staged[16 + i] = src[i];
    }
    __syncthreads();
    const u32 unit = threadIdx.x / 4, quarter = threadIdx.x % 4;
    if (unit * 32 >= elements) return;
    constexpr u32 UNITS = Format::BLOCK / 32;
    const uint8_t* block = staged + 16 + unit / UNITS * Format::BYTES;
    const UnitScales s = Format::scales(block, unit % UNITS);
    int q[2];
    Format::template codes<1>(block, unit % UNITS, quarter, q);
    float* dst = p.dst + token * p.dst_row + first + unit * 32 + quarter * 4;
    for (int h = 0; h < 2; h++) {
        const float4 x = widen(q[h], s.scale[h], Format::OFFSET ? s.offset[h] : 0.0f);
        const float values[4] = {x.x, x.y, x.z, x.w};
        for (int i = 0; i < 4; i++) dst[16 * h + i] = exists ? values[i] : NAN_F32;
    }
}

#define GET_ROWS_KERNEL(name, Format) \
    CUDA_KERNEL(name, GetRowsParams, GET_ROWS_THREADS) { get_block_rows<Format>(p); }

GET_ROWS_KERNEL(get_rows_q4_0, Q4_0)
GET_ROWS_KERNEL(get_rows_q4_1, Q4_1)
GET_ROWS_KERNEL(get_rows_q5_0, Q5_0)
GET_ROWS_KERNEL(get_rows_q5_1, Q5_1)
GET_ROWS_KERNEL(get_rows_q8_0, Q8_0)
GET_ROWS_KERNEL(get_rows_q2_k, Q2_K)
GET_ROWS_KERNEL(get_rows_q3_k, Q3_K)
GET_ROWS_KERNEL(get_rows_q4_k, Q4_K)
GET_ROWS_KERNEL(get_rows_q5_k, Q5_K)
GET_ROWS_KERNEL(get_rows_q6_k, Q6_K)
GET_ROWS_KERNEL(get_rows_iq4_nl, IQ4_NL)
GET_ROWS_KERNEL(get_rows_iq4_xs, IQ4_XS)
GET_ROWS_KERNEL(get_rows_mxfp4, MXFP4)
