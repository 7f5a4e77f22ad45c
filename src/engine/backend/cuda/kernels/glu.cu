// GLU: dst = activation(gate) · up.
#include "elementwise.cuh"

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

CUDA_KERNEL(glu_silu_f32, ZipParams, ZIP_THREADS) {
    zip_rows(p, [](float gate, float up) { return gate * sigmoid(gate) * up; });
}

// gelu with the tanh approximation, as x · sigmoid(2u), u = √(2/π) (x + 0.044715 x³): this form keeps
// its relative precision where tanh is close to −1.
CUDA_KERNEL(glu_gelu_f32, ZipParams, ZIP_THREADS) {
    zip_rows(p, [](float gate, float up) {
        const float twice_u = gate * (1.595769122f + 0.071354816f * gate * gate);
        return gate * sigmoid(twice_u) * up;
    });
}
