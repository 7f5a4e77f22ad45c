// MUL_MAT with F16 weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(f16, PlainF16)
