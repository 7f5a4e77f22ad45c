// MUL_MAT with BF16 weights and float arithmetic.
#include "mul_mat_float.cuh"

MUL_MAT_FLOAT_KERNEL(mul_mat_vec_bf16, WeightBF16, 1, 1, false)
MUL_MAT_FLOAT_KERNEL(mul_mat_vec_glu_bf16, WeightBF16, 1, 2, true)
MUL_MAT_FLOAT_KERNEL(mul_mat_few_bf16, WeightBF16, 8, 2, false)
