// MUL_MAT with Q5_K weights, few columns.
#include "mul_mat_few.cuh"
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_KERNELS(q5_k, Q5_K)
MUL_MAT_FEW_KERNEL(mul_mat_few_q5_k, Q5_K)
