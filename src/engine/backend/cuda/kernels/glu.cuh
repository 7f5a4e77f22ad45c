// Gated activations: activation(gate) · up.
#pragma once
#include "device.cuh"

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

__device__ __forceinline__ float glu_silu(float gate, float up) { return gate * sigmoid(gate) * up; }

// gelu with the tanh approximation, as x · sigmoid(2u), u = √(2/π) (x + 0.044715 x³): this form keeps
// its relative precision where tanh is close to −1.
__device__ __forceinline__ float glu_gelu(float gate, float up) {
    const float twice_u = gate * (1.595769122f + 0.071354816f * gate * gate);
    return gate * sigmoid(twice_u) * up;
}
