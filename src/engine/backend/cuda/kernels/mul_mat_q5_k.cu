// MUL_MAT with Q5_K weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(q5_k, Quantized<Q5_K>)
