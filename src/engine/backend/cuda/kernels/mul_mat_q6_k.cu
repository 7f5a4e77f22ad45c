// MUL_MAT with Q6_K weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q6_k, Quantized<Q6_K>)
