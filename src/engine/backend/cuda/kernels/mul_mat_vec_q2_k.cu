// MUL_MAT with Q2_K weights, few columns.
#include "mul_mat_few.cuh"
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_KERNELS(q2_k, Q2_K)
MUL_MAT_FEW_KERNEL(mul_mat_few_q2_k, Q2_K)
