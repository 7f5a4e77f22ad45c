// MUL_MAT with F16 weights and float arithmetic.
#include "mul_mat_float.cuh"

MUL_MAT_FLOAT_KERNEL(mul_mat_vec_f16, WeightF16, 1, 1, false)
MUL_MAT_FLOAT_KERNEL(mul_mat_vec_glu_f16, WeightF16, 1, 2, true)
MUL_MAT_FLOAT_KERNEL(mul_mat_few_f16, WeightF16, 8, 2, false)
