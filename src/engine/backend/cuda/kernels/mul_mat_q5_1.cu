// MUL_MAT with Q5_1 weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q5_1, Quantized<Q5_1>)
