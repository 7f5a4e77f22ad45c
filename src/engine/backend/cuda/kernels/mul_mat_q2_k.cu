// MUL_MAT with Q2_K weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q2_k, Quantized<Q2_K>)
