// SOFT_MAX of a router's logits, TOP_K of the probabilities and MOE_WEIGHTS of the chosen experts, in one
// launch. One block per token. The host joins them; see launch/fuse.rs for when.
#include "expert_weights.cuh"
#include "soft_max.cuh"
#include "top_k.cuh"

CUDA_KERNEL(router_f32, RouterParams, TOP_K_THREADS) {
    begin_after_earlier_work();
    soft_max_of_row(p.probs);
    __syncthreads();
    top_k_of_row(p.chosen);
    __syncthreads();
    // None where only the first two are joined.
    if (threadIdx.x < WARP_LANES && p.weights.k > 0) expert_weights_of_token(p.weights, blockIdx.x);
}
