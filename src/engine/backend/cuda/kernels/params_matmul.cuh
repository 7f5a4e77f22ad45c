// The arguments of the matrix products. Each has a twin in params/matmul.rs.
//
// Members of 8 bytes come first, padding is explicit. Strides are in bytes. A "pair" is one (slot,
// token) of a product by expert, numbered with the slot fastest; plain products have one slot.
#pragma once
#include "device.cuh"
#include "glu.cuh"

// Rounds rows of floats to 8 bits or to halves; see quantize.cu.
struct QuantizeParams {
    const float* x;
    uint8_t* out;
    // Halves only: what the products of each row must be multiplied with.
    float* row_scales;
    // Bytes from row to row: of `x` within a token, from token to token, of `out`.
    uint64_t x_slot_bytes;
    uint64_t x_token_bytes;
    uint64_t out_bytes;
    int k;
    // Rows of `x` in a token.
    int slots;
};
static_assert(sizeof(QuantizeParams) == 56);

// One matrix of a product of one column; see MulMatVecParams.
struct MulMatVecSide {
    const uint8_t* w;
    float* dst;
    // What each element of the result is added to for `sum`, both (n); null without. One pair only.
    const float* addend;
    float* sum;
    uint64_t w_row_bytes;
    uint64_t w_expert_bytes;
    uint64_t dst_slot_bytes;
    uint64_t dst_token_bytes;
    int n;
    // One past the last block of the grid that works on this matrix.
    int end_block;
};
static_assert(sizeof(MulMatVecSide) == 72);

// A column of activations per pair; see mul_mat_vec.cuh and mul_mat_float.cuh. Up to three matrices
// with rows of the same length take the same column, each in blocks of its own: query, key and value.
// Or, by the kernels that have `glu` in their names, gate and up in the same blocks.
struct MulMatVecParams {
    MulMatVecSide sides[3];
    const float* x;
    // Expert of each pair; null for a plain product.
    const int* ids;
    // glu only: the gated unit of both results, laid out like the gate's.
    float* gated;
    uint64_t x_slot_bytes;
    uint64_t x_token_bytes;
    uint64_t ids_token_bytes;
    int k;
    int slots;
    int n_expert;
    // Warps that share a row: 1, 2, 4 or 8.
    int split;
    // Lanes that share a row, 32, 16 or 8; less than 32 only where that is a whole row, unsplit.
    int lanes;
    // How many pairs there are.
    int pairs;
    // Mixed kernels only: the first side of the second type.
    int second_type_from;
    // glu only: whether the unit is a GELU rather than a SiLU.
    int gelu;
};
static_assert(sizeof(MulMatVecParams) == 296);

// The matrix that this block works on, the first of its blocks, and how many these are.
template <class Side>
struct Chosen {
    Side side;
    int index, first_block, blocks;
};
typedef Chosen<MulMatVecSide> ChosenSide;

template <class Side, class Params>
__device__ __forceinline__ Chosen<Side> choose_of(const Params& p) {
    const int block = blockIdx.x;
    Chosen<Side> chosen = {p.sides[0], 0, 0, p.sides[0].end_block};
    // Written out, since an index that is not constant would put the arguments into local memory.
    if (block >= p.sides[0].end_block) {
        chosen = {p.sides[1], 1, p.sides[0].end_block, p.sides[1].end_block - p.sides[0].end_block};
        if (block >= p.sides[1].end_block) {
            chosen = {p.sides[2], 2, p.sides[1].end_block, p.sides[2].end_block - p.sides[1].end_block};
        }
    }
    return chosen;
}

__device__ __forceinline__ ChosenSide choose_side(const MulMatVecParams& p) {
    return choose_of<MulMatVecSide>(p);
}

// For kernels whose blocks all work on the same rows.
__device__ __forceinline__ ChosenSide only_side(const MulMatVecParams& p) {
    return {p.sides[0], 0, 0, static_cast<int>(gridDim.x)};
}

// Element `row` of a pair's result, which lies `offset` bytes into `dst`.
__device__ __forceinline__ void store_product(const MulMatVecSide& side, uint64_t offset, int row, float value) {
    reinterpret_cast<float*>(reinterpret_cast<uint8_t*>(side.dst) + offset)[row] = value;
    if (side.addend != nullptr) side.sum[row] = value + side.addend[row];
}

// Element `row` of a pair's gate, up and gated unit.
__device__ __forceinline__ void store_gated(const MulMatVecParams& p, uint64_t offset, int row, float gate, float up) {
    const auto at = [&](float* start) {
        return reinterpret_cast<float*>(reinterpret_cast<uint8_t*>(start) + offset) + row;
    };
    *at(p.sides[0].dst) = gate;
    *at(p.sides[1].dst) = up;
    *at(p.gated) = p.gelu ? glu_gelu(gate, up) : glu_silu(gate, up);
}

// One matrix of a product of few columns; see MulMatFewParams.
struct MulMatFewSide {
    const uint8_t* w;
    float* dst;
    uint64_t w_row_bytes;
    uint64_t dst_column_bytes;
    int n;
    // One past the last block of the grid that works on this matrix.
    int end_block;
};
static_assert(sizeof(MulMatFewSide) == 40);

// Up to 8 columns of activations in 8 bits, times up to three matrices; see mul_mat_few.cuh.
struct MulMatFewParams {
    MulMatFewSide sides[3];
    const uint8_t* x;
    uint64_t x_column_bytes;
    int k;
    int columns;
};
static_assert(sizeof(MulMatFewParams) == 144);

// Many columns of activations in halves; see mul_mat.cuh.
struct MulMatParams {
    const uint8_t* w;
    const uint8_t* x;
    const float* row_scales;
    float* dst;
    // By expert only, null otherwise: what group_experts.cu wrote.
    const int* groups;
    uint64_t w_row_bytes;
    uint64_t w_expert_bytes;
    uint64_t x_row_bytes;
    uint64_t dst_slot_bytes;
    uint64_t dst_token_bytes;
    int k;
    int n;
    // Columns of a plain product, pairs of one by expert.
    int columns;
    int slots;
    // Rows of `x` in a token: 1 or `slots`.
    int x_slots;
    int n_expert;
};
static_assert(sizeof(MulMatParams) == 104);

// Sorts pairs by expert and cuts the groups into tiles; see group_experts.cu.
struct GroupExpertsParams {
    const int* ids;
    int* groups;
    uint64_t ids_token_bytes;
    int pairs;
    int slots;
    int n_expert;
    // Pairs of a tile.
    int tile;
};
static_assert(sizeof(GroupExpertsParams) == 40);
