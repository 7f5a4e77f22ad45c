// The arguments of the matrix products. Each has a twin in params/matmul.rs.
//
// Members of 8 bytes come first, padding is explicit. Strides are in bytes. A "pair" is one (slot,
// token) of a product by expert, numbered with the slot fastest; plain products have one slot.
#pragma once
#include "device.cuh"

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

// A column of activations per pair; see mul_mat_vec.cuh and mul_mat_float.cuh.
struct MulMatVecParams {
    const uint8_t* w;
    const float* x;
    float* dst;
    // Expert of each pair; null for a plain product.
    const int* ids;
    uint64_t w_row_bytes;
    uint64_t w_expert_bytes;
    uint64_t x_slot_bytes;
    uint64_t x_token_bytes;
    uint64_t dst_slot_bytes;
    uint64_t dst_token_bytes;
    uint64_t ids_token_bytes;
    int k;
    int n;
    int slots;
    int n_expert;
    // Warps that share a row: 1, 2, 4 or 8.
    int split;
    // Lanes that share a row, 32, 16 or 8; less than 32 only where that is a whole row, unsplit.
    int lanes;
    // How many pairs there are.
    int pairs;
    int padding;
};
static_assert(sizeof(MulMatVecParams) == 120);

// Up to 8 columns of activations in 8 bits; see mul_mat_few.cuh.
struct MulMatFewParams {
    const uint8_t* w;
    const uint8_t* x;
    float* dst;
    uint64_t w_row_bytes;
    uint64_t x_column_bytes;
    uint64_t dst_column_bytes;
    int k;
    int n;
    int columns;
    int padding;
};
static_assert(sizeof(MulMatFewParams) == 64);

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
