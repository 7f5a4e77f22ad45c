// MUL_MAT with Q6_K weights, few columns.
#include "mul_mat_few.cuh"
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_KERNELS(q6_k, Q6_K)
MUL_MAT_FEW_KERNEL(mul_mat_few_q6_k, Q6_K)
