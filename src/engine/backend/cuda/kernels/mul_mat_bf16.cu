// MUL_MAT with BF16 weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(bf16, PlainBF16)
