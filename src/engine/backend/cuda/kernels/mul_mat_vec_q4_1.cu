// MUL_MAT with Q4_1 weights, few columns.
#include "mul_mat_few.cuh"
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_KERNELS(q4_1, Q4_1)
MUL_MAT_FEW_KERNEL(mul_mat_few_q4_1, Q4_1)
