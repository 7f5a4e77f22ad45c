// MUL_MAT with Q3_K weights, few columns.
#include "mul_mat_few.cuh"
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_KERNELS(q3_k, Q3_K)
MUL_MAT_FEW_KERNEL(mul_mat_few_q3_k, Q3_K)
