// ADD: dst = a + b; b may be one row for all rows.
#include "elementwise.cuh"

CUDA_KERNEL(add_f32, ZipParams, ZIP_THREADS) {
    zip_rows(p, [](float a, float b) { return a + b; });
}
