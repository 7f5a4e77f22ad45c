// MUL_MAT with Q5_0 weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q5_0, Quantized<Q5_0>)
