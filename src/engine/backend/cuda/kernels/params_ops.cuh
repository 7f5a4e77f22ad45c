// The arguments of the kernels that are not matrix products. Each has a twin in params/ops.rs.
//
// Members of 8 bytes come first, padding is explicit, addresses are 64 bits wide everywhere.
// `_row` and `_plane` are strides of the second and third extent, in floats where the tensor is F32
// and in bytes (`_row_bytes`) where its type varies.
#pragma once

#ifdef CUDA_CPU
typedef uint64_t u64;
#else
typedef unsigned long long u64;
#endif
typedef unsigned int u32;

// dst = f(a) or f(a, b), elementwise over (ne0, ne1, …): ADD, MUL, GLU, SCALE. `b` repeats where its
// strides are 0.
struct ZipParams {
    const float* a;
    const float* b;
    float* dst;
    u64 a_row, a_plane;
    u64 b_row, b_plane;
    u64 dst_row, dst_plane;
    u32 ne0, ne1;
    u32 chunks;  // blocks per row
    u32 vector;  // whether everything is aligned to 16 bytes
    float factor;  // SCALE's
    u32 padding;
};
static_assert(sizeof(ZipParams) == 96);

// Norms and softmax over rows of `ne0`; rows are counted by (ne1, …).
struct RowParams {
    const float* src;
    const float* weight;  // (ne0), of RMS_NORM
    float* dst;
    u64 src_row, src_plane;
    u64 dst_row, dst_plane;
    u32 ne0, ne1;
    u32 vector;
    float eps;
};
static_assert(sizeof(RowParams) == 72);

// sum = a + b and dst = the norm of sum · weight, over rows of `ne0` without gaps.
struct AddNormParams {
    const float* a;
    const float* b;
    const float* weight;
    float* sum;
    float* dst;
    u32 ne0;
    float eps;
};
static_assert(sizeof(AddNormParams) == 48);

// What a kernel rounds to 8 bits beside its result, as quantize_q8 does; see activations.cuh.
struct RoundedRows {
    uint8_t* out;
    u64 out_bytes;  // from row to row
};

struct NormQ8Params {
    RowParams norm;
    RoundedRows rounded;
};
static_assert(sizeof(NormQ8Params) == 88);

struct AddNormQ8Params {
    AddNormParams norm;
    RoundedRows rounded;
};
static_assert(sizeof(AddNormQ8Params) == 64);

// A gated unit of flat rows of `k`, and its rounded result.
struct GluQ8Params {
    ZipParams zip;
    RoundedRows rounded;
    u32 k;
    u32 gelu;
};
static_assert(sizeof(GluQ8Params) == 120);

// Largest half of a head's turning elements.
#define ROPE_PAIRS_MAX 256

// One tensor that turns.
struct RopeSide {
    const float* src;  // (d, n_head, t)
    float* dst;
    u64 src_head, src_token;
    u64 dst_head, dst_token;
    u32 n_head;
    u32 groups;  // of heads that share a block
};

// Queries and keys may turn in one launch; the second side has no heads where there is one tensor.
struct RopeParams {
    RopeSide sides[2];
    const int* positions;
    const float* factors;  // (n_dims / 2), or null
    u32 d;
    u32 n_dims;
    u32 neox;
    u32 heads_per_block;
    float freq_scale;
    float ext_factor;
    float ramp_low;
    float ramp_width;
    float magnitude;
    u32 padding;
    float base[ROPE_PAIRS_MAX];  // radians per position of each pair
};
static_assert(sizeof(RopeParams) == 168 + 4 * ROPE_PAIRS_MAX);

struct GetRowsParams {
    const void* table;  // (n, rows)
    const int* ids;     // (t)
    float* dst;         // (n, t)
    u64 table_row_bytes;
    u64 dst_row;
    u32 n, rows;
    u32 chunks;
    u32 padding;
};
static_assert(sizeof(GetRowsParams) == 56);

// One tensor that is written.
struct SetRowsSide {
    const float* src;  // (n, t)
    void* cache;       // (n, cells)
    u64 src_row;
    u64 cache_row_bytes;
    u32 n, cells;
};

// Keys and values may be written in one launch, as blockIdx.y says.
struct SetRowsParams {
    SetRowsSide sides[2];
    const int* rows;  // (t)
    u32 chunks;
    u32 padding;
};
static_assert(sizeof(SetRowsParams) == 96);

// Queries and keys turn, keys and values are written. `keys.src` is what `rope` turns last.
struct RopeSetRowsParams {
    RopeParams rope;
    SetRowsSide keys;
    SetRowsSide values;
    const int* rows;  // (t)
};
static_assert(sizeof(RopeSetRowsParams) == sizeof(RopeParams) + 88);

// The k largest of each row, in one or two steps: parts of a row first, then their winners.
struct TopKParams {
    const float* src;  // (n, t), of the first step
    u64* winners;      // (k, parts, t), between the steps
    int* dst;          // (k, t), of the last step
    u64 src_row;
    u32 n, k;
    u32 parts;
    u32 part_len;
};
static_assert(sizeof(TopKParams) == 48);

struct ExpertWeightsParams {
    const float* probs;  // (n_expert, t)
    const int* ids;      // (k, t)
    float* dst;          // (k, t)
    u64 probs_row;
    u32 n_expert, k, t;
    u32 normalise;
};
static_assert(sizeof(ExpertWeightsParams) == 48);

// A router's three steps, of which the last one may be absent (its k is 0).
struct RouterParams {
    RowParams probs;
    TopKParams chosen;
    ExpertWeightsParams weights;
};
static_assert(sizeof(RouterParams) == 168);

struct ExpertSumParams {
    const float* src;      // (n, k, t)
    const float* weights;  // (k, t)
    float* dst;            // (n, t)
    u64 src_row, src_plane;
    u64 dst_row;
    u32 n, k;
    u32 chunks;
    u32 vector;
};
static_assert(sizeof(ExpertSumParams) == 64);

// Element types of the KV cache, as FlashAttnParams names them.
enum CacheType : u32 {
    CACHE_F32 = 0,
    CACHE_F16 = 1,
    CACHE_BF16 = 2,
    CACHE_Q8_0 = 3,
    CACHE_Q4_0 = 4,
    CACHE_Q4_1 = 5,
    CACHE_Q5_0 = 6,
    CACHE_Q5_1 = 7,
};

// Attention over cells [0, n_kv), which may be cut into `splits` of `split_len` cells. Then the blocks
// write their sums to `partials` (dv, splits, n_head, t) and the score maximum and the sum of weights
// to `stats` (2, splits, n_head, t), and flash_attn_merge puts them together.
struct FlashAttnParams {
    const float* q;    // (d, n_head, t)
    const void* k;     // (d, n_kv, n_head_kv)
    const void* v;     // (dv, n_kv, n_head_kv)
    const half* mask;  // (n_kv, t)
    float* dst;        // (dv, n_head, t)
    float* partials;
    float* stats;
    u64 q_head, q_token;
    u64 k_cell_bytes, k_head_bytes;
    u64 v_cell_bytes, v_head_bytes;
    u64 mask_row;
    u64 dst_head, dst_token;
    u32 d, dv;
    u32 n_head, t;
    u32 group;  // query heads per head of the cache
    u32 n_kv;
    u32 splits, split_len;
    u32 k_type, v_type;  // CacheType
    u32 stages;          // tiles of the cache that are under way or in use
    u32 mask_pairs;      // whether two neighbours of the mask can be read at once
    float scale;
    float softcap;
};
static_assert(sizeof(FlashAttnParams) == 184);
