// MUL_MAT with Q4_1 weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q4_1, Quantized<Q4_1>)
