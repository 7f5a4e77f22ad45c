// MUL_MAT with Q8_0 weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q8_0, Quantized<Q8_0>)
