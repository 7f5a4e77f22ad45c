// MUL_MAT with Q4_0 weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q4_0, Quantized<Q4_0>)
