// The arguments of the kernels that are not matrix products. Each has a twin in params/ops.rs.
//
// Members of 8 bytes come first, padding is explicit, addresses are 64 bits wide everywhere.
#pragma once

// dst[i] = src[i] · factor, for `count` floats.
struct ScaleParams {
    const float* src;
    float* dst;
    unsigned long long count;
    float factor;
    unsigned padding;
};
static_assert(sizeof(ScaleParams) == 32);
