// MUL_MAT with Q4_0 weights, few columns.
#include "mul_mat_few.cuh"
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_KERNELS(q4_0, Q4_0)
MUL_MAT_FEW_KERNEL(mul_mat_few_q4_0, Q4_0)
