// SCALE: dst = src · factor, elementwise over contiguous floats.
#include "device.cuh"
#include "params_ops.cuh"

CUDA_KERNEL(scale_f32, ScaleParams, 256) {
    const unsigned long long stride = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
    unsigned long long i = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i < p.count; i += stride) p.dst[i] = p.src[i] * p.factor;
}
