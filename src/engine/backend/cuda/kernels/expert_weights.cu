// MOE_WEIGHTS, one warp per token.
#include "expert_weights.cuh"

CUDA_KERNEL(expert_weights_f32, ExpertWeightsParams, 128) {
    begin_after_earlier_work();
    const u32 token = (blockIdx.x * blockDim.x + threadIdx.x) / WARP_LANES;
    if (token < p.t) expert_weights_of_token(p, token);
}
