// Turns pairs of elements of each head by the token's position: ROPE.
//
// A thread keeps the angle of its pair for all heads of its group. Frequencies come in the arguments,
// computed by the host as the CPU does: a power that is off in the last bit would be multiplied by the
// position.
#pragma once
#include "device.cuh"
#include "params_ops.cuh"

// What block (token, `group` of the heads of both tensors) of 256 threads has to turn.
__device__ __forceinline__ void turn_heads(const RopeParams& p, u32 group) {
    const u32 token = blockIdx.x, pairs = p.n_dims / 2;
    const bool second = group >= p.sides[0].groups;
    const RopeSide& side = p.sides[second];
    const u32 first_head = (group - (second ? p.sides[0].groups : 0)) * p.heads_per_block;
    const u32 end_head = min(first_head + p.heads_per_block, side.n_head);
    const float* src = side.src + token * side.src_token;
    float* dst = side.dst + token * side.dst_token;
    const float position = static_cast<float>(p.positions[token]);

    // Threads that do not fill a row of pairs take more heads at once.
    const u32 columns = max(min(pairs, blockDim.x), 1u);
    const u32 heads_at_once = blockDim.x / columns;
    const u32 column = threadIdx.x % columns, head_offset = threadIdx.x / columns;
    if (head_offset >= heads_at_once) return;
    for (u32 i = column; i < pairs; i += columns) {
        const float divisor = p.factors == nullptr ? 1.0f : p.factors[i];
        const float far = position * p.base[i] / divisor;
        float theta = far * p.freq_scale;
        if (p.ext_factor != 0.0f) {
            const float along = (static_cast<float>(i) - p.ramp_low) / p.ramp_width;
            const float mix = (1.0f - fminf(fmaxf(along, 0.0f), 1.0f)) * p.ext_factor;
            theta = theta * (1.0f - mix) + far * mix;
        }
        const float c = cosf(theta) * p.magnitude, s = sinf(theta) * p.magnitude;
        const u32 low = p.neox ? i : 2 * i, high = p.neox ? i + pairs : 2 * i + 1;
        for (u32 head = first_head + head_offset; head < end_head; head += heads_at_once) {
            const float* from = src + head * side.src_head;
            float* to = dst + head * side.dst_head;
            const float x = from[low], y = from[high];
            to[low] = x * c - y * s;
            to[high] = x * s + y * c;
        }
    }
    if (side.src == side.dst) return;
    for (u32 head = first_head + head_offset; head < end_head; head += heads_at_once) {
        for (u32 i = p.n_dims + column; i < p.d; i += columns) {
            dst[head * side.dst_head + i] = src[head * side.src_head + i];
        }
    }
}
