// ROPE. One block per token and group of heads.
#include "rope.cuh"

CUDA_KERNEL(rope_f32, RopeParams, 256) {
    begin_after_earlier_work();
    turn_heads(p, blockIdx.y);
}
