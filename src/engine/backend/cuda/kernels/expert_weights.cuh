// MOE_WEIGHTS: the probabilities of a token's chosen experts, divided by their sum where asked for, by
// one warp.
#pragma once
#include "device.cuh"
#include "params_ops.cuh"

#define SMALLEST_NORMAL 1.17549435e-38f

__device__ __forceinline__ void expert_weights_of_token(const ExpertWeightsParams& p, u32 token) {
    const u32 lane = threadIdx.x % WARP_LANES;
    const float* probs = p.probs + token * p.probs_row;
    const int* ids = p.ids + static_cast<u64>(token) * p.k;
    float* dst = p.dst + static_cast<u64>(token) * p.k;
    float sum = 0.0f;
    for (u32 i = lane; i < p.k; i += WARP_LANES) {
        const u32 id = static_cast<u32>(ids[i]);
        const float weight = id < p.n_expert ? probs[id] : NAN_F32;
        dst[i] = weight;
        sum += weight;
    }
    if (!p.normalise) return;
    // The bound keeps weights finite when every chosen expert has underflown to 0.
    sum = fmaxf(warp_sum(sum), SMALLEST_NORMAL);
    for (u32 i = lane; i < p.k; i += WARP_LANES) dst[i] /= sum;
}
