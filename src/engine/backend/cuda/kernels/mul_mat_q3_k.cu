// MUL_MAT with Q3_K weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q3_k, Quantized<Q3_K>)
