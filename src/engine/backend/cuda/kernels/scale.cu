// SCALE: dst = a · factor. The plan passes `a` as `b`, too, which costs no second read from memory.
#include "elementwise.cuh"

CUDA_KERNEL(scale_f32, ZipParams, ZIP_THREADS) {
    const float factor = p.factor;
    zip_rows(p, [factor](float a, float) { return a * factor; });
}
