// MUL_MAT with F32 weights and float arithmetic.
#include "mul_mat_float.cuh"

MUL_MAT_FLOAT_KERNEL(mul_mat_vec_f32, WeightF32, 1, 1, false)
MUL_MAT_FLOAT_KERNEL(mul_mat_vec_glu_f32, WeightF32, 1, 2, true)
MUL_MAT_FLOAT_KERNEL(mul_mat_few_f32, WeightF32, 8, 4, false)
