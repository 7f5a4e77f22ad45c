// GLU: dst = activation(gate) · up.
#include "elementwise.cuh"
#include "glu.cuh"

CUDA_KERNEL(glu_silu_f32, ZipParams, ZIP_THREADS) {
    zip_rows(p, [](float gate, float up) { return glu_silu(gate, up); });
}

CUDA_KERNEL(glu_gelu_f32, ZipParams, ZIP_THREADS) {
    zip_rows(p, [](float gate, float up) { return glu_gelu(gate, up); });
}
