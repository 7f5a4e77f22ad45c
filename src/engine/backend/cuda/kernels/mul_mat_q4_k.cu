// MUL_MAT with Q4_K weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q4_k, Quantized<Q4_K>)
