// MOE_WEIGHTS: the probabilities of the chosen experts, divided by their sum where asked for. One warp
// per token.
#include "device.cuh"
#include "params_ops.cuh"

#define SMALLEST_NORMAL 1.17549435e-38f

CUDA_KERNEL(expert_weights_f32, ExpertWeightsParams, 128) {
    begin_after_earlier_work();
    const u32 lane = threadIdx.x % WARP_LANES;
    const u32 token = (blockIdx.x * blockDim.x + threadIdx.x) / WARP_LANES;
    if (token >= p.t) return;
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
